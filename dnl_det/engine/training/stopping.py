"""Ending a training early without losing what it has learned; ending an evaluation early."""

import logging
import os
import re
import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType

from detectron2.config import CfgNode
from detectron2.engine import HookBase
from detectron2.utils import comm

from ...data import UnreadableImageError
from ...evaluation import LabelError

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
# How torch words that a process of the loader has died.
_KILLED_WORKER = re.compile(r"DataLoader worker \(pid.*\) (is killed by|exited unexpectedly)")
# How torch words that a batch norm has no variance to divide by.
_ONE_VALUE = "Expected more than 1 value per channel when training"


class StopOnSignal(HookBase):
    """On SIGTERM (preemption) or SIGINT (Ctrl-C): finish the step, save, say how to go on, exit.

    The exit status is the shell's for that signal, 143 or 130. A second signal ends at once. Of
    several processes it is enough that one gets the signal.
    """

    def __init__(self) -> None:
        self._received = 0
        self._handlers = ExitStack()

    def before_train(self) -> None:
        """Take over the signals, for as long as the training lasts."""
        self._handlers.enter_context(at_first_signal(self._receive))

    def _receive(self, number: int) -> None:
        self._received = number
        logging.getLogger(__name__).warning(
            f"{signal.Signals(number).name}: finishing this step, then saving. Once more to end "
            "at once."
        )

    def after_step(self) -> None:
        """Stop here, if any process has been told to."""
        number = self._received
        if comm.get_world_size() > 1:
            number = max(comm.all_gather(number))
        last = self.trainer.iter + 1 >= self.trainer.max_iter  # saved by itself
        if not number or last:
            return
        name = f"model_{self.trainer.iter:07d}"
        self.trainer.checkpointer.save(name, iteration=self.trainer.iter)
        comm.synchronize()  # no process ends the others before the file is written
        if comm.is_main_process():
            logging.getLogger(__name__).warning(
                f"{signal.Signals(number).name}: stopped after iteration {self.trainer.iter}, "
                f"saved as {name}.pth. Go on with: {_command('--resume')}"
            )
        sys.exit(128 + number)

    def after_train(self) -> None:
        """Give the signals back."""
        self._handlers.close()


def _command(*options: str) -> str:
    """The command line of this program, with ``options`` added where they are missing."""
    program, *words = sys.argv
    start = ["python", program]
    if Path(program).name == "__main__.py":
        start = ["python", "-m", "dnl_det"]
    elif not program.endswith(".py"):
        start = [program]
    if words[:1] == ["train"]:
        start.append(words.pop(0))
    return shlex.join([*start, *options, *(word for word in words if word not in options)])


@contextmanager
def exit_on_signal(what: str) -> Iterator[None]:
    """On SIGTERM or SIGINT: say that ``what`` was stopped and how to start it again, and exit.

    The exit status is the shell's for that signal, 143 or 130. A second signal ends at once.
    """

    def stop(number: int) -> None:
        logging.getLogger(__name__).warning(
            f"{signal.Signals(number).name}: {what} was stopped before its end and has no result. "
            f"Start it again with: {_command()}"
        )
        sys.exit(128 + number)

    with at_first_signal(stop):
        yield


@contextmanager
def at_first_signal(act: Callable[[int], None]) -> Iterator[None]:
    """Call ``act`` with the number of the first SIGTERM or SIGINT; then they do what they did."""
    process = os.getpid()

    def receive(number: int, frame: FrameType | None) -> None:
        if os.getpid() == process:
            restore()
            act(number)
        elif number == signal.SIGTERM:  # a worker that loads data: its parent ends it
            os._exit(128 + number)

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    before = {number: signal.signal(number, receive) for number in _SIGNALS}
    try:
        yield
    finally:
        restore()


def reason_to_stop(cfg: CfgNode, error: Exception) -> str:
    """What happened and what to do, of an error that is expected; else an empty text."""
    text = str(error)
    if isinstance(error, UnreadableImageError):
        labels = isinstance(error, LabelError)
        where = "labels" if labels else "an image that changed since the start"
        return (
            f" at {where}: {text}. Correct or remove {'them' if labels else 'it'}; "
            "python -m dnl_det check-data finds others."
        )
    if text.startswith(_ONE_VALUE):
        return (
            ": an image is too small for a batch norm, which gets one value a channel. Raise "
            f"INPUT.MIN_SIZE_TRAIN or SOLVER.IMS_PER_BATCH ({cfg.SOLVER.IMS_PER_BATCH}), "
            "or set MODEL.RESNETS.NORM FrozenBN."
        )
    if _KILLED_WORKER.match(text):
        return (
            f": {text.split('. ')[0]}. Where memory is short, lower DATALOADER.NUM_WORKERS "
            f"({cfg.DATALOADER.NUM_WORKERS})."
        )
    return ""
