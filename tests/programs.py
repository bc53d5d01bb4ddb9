"""Python programs in processes of their own that start at once.

Each is forked from a process that has imported torch and the rest, which takes four seconds, and
imports detectron2 and dnl_det by itself.
"""

import contextlib
import functools
import multiprocessing
import os
import runpy
import signal
import sys
import time
import warnings
from multiprocessing import process as multiprocessing_process
from pathlib import Path

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["dnl_det.cli.train", "torch.utils.tensorboard"])
_OWN_IMPORTS = ("detectron2", "dnl_det")  # what they register depends on the environment


class Program:
    """A program on its way, in a process group of its own.

    Args:
        words: ``SCRIPT ARGUMENT ...`` or ``-m MODULE ARGUMENT ...``.
        output: the file for its stdout and stderr.
        folder: where it runs.
        environment: besides this process's.
        fork: the processes of ``--num-gpus`` are forked too, and not started anew.
    """

    def __init__(self, words, output, folder, environment, fork=False):
        self.output = Path(output)
        self.output.touch()
        environment = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
        arguments = list(map(str, words)), str(output), str(folder), environment, fork
        self._process = _CONTEXT.Process(target=_run, args=arguments)
        self._process.start()
        self.pid = self._process.pid

    def poll(self):
        """The exit status, or None while it runs; negative for the signal that ended it."""
        return self._process.exitcode

    def printed(self):
        """All that it has printed so far."""
        return self.output.read_text()

    def finish(self, status=0):
        """What it has printed until its end, whose exit status must be this."""
        self._process.join(timeout=300)
        assert self.poll() == status, self.printed()
        return self.printed()

    def wait_until(self, condition):
        """Wait while it runs."""
        deadline = time.monotonic() + 300
        while not condition():
            assert self.poll() is None, self.printed()
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def kill(self):
        """End it and what it has started, if it still runs."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            self._process.join()


def _run(words, output, folder, environment, fork):
    os.setsid()
    with open(output, "wb") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    multiprocessing_process.ORIGINAL_DIR = folder
    multiprocessing.set_start_method("fork", force=True)  # Linux's default, not this one's
    sys.warnoptions.append("ignore")
    warnings.simplefilter("ignore")
    for name in [name for name in sys.modules if name.partition(".")[0] in _OWN_IMPORTS]:
        del sys.modules[name]
    if fork:
        import torch.multiprocessing as started_by

        start = started_by.start_processes
        started_by.start_processes = functools.partial(start, start_method="fork")
    is_module = words[0] == "-m"
    sys.argv = words[is_module:]
    if is_module:
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    else:
        sys.path.insert(0, os.path.dirname(words[0]))
        runpy.run_path(words[0], run_name="__main__")
