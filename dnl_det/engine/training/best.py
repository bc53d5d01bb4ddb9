"""The best checkpoint of a training, and its end where it does not become better.

All that has to survive ``--resume`` is in ``model_best.pth`` itself.
"""

import difflib
import logging
import math
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode
from detectron2.engine import HookBase
from detectron2.utils import comm

from ...checkpoint.reading import DamagedCheckpointError, read_checkpoint

_NAME = "model_best"


class EarlyStop(BaseException):
    """Ends a training that has not become better; no error, so that nothing logs a traceback."""


class BestCheckpoint(HookBase):
    """Keeps ``model_best.pth``: the weights at which ``TEST.BEST_METRIC`` was largest.

    With ``SOLVER.EARLY_STOPPING_PATIENCE`` N, a training ends where none of the last N evaluations
    was better than the best before. It comes after the hook that evaluates. An evaluation without
    that number, or with NaN, is not better, and counts.

    Args:
        cfg: for these keys, ``TEST.EVAL_PERIOD`` and ``OUTPUT_DIR``.

    Attributes:
        best: the largest value so far, or None.
        best_iteration: of the evaluation that it is from, counted from 0.
    """

    def __init__(self, cfg: CfgNode):
        self.best: float | None = None
        self.best_iteration = -1
        self._metric = cfg.TEST.BEST_METRIC
        self._patience = cfg.SOLVER.EARLY_STOPPING_PATIENCE
        self._period = cfg.TEST.EVAL_PERIOD
        self._file = Path(cfg.OUTPUT_DIR, f"{_NAME}.pth")

    def before_train(self) -> None:
        """Go on with the best of before, where a training is resumed."""
        self.best_iteration = self.trainer.start_iter - 1
        if not self.trainer.start_iter or not self._file.exists():
            return
        try:
            known = read_checkpoint(self._file)
        except DamagedCheckpointError as error:
            self._say(f"The best checkpoint is kept anew: {error}", logging.WARNING)
            return
        if known.get("metric") == self._metric:
            self.best, self.best_iteration = known["value"], known["iteration"]

    def after_step(self) -> None:
        """After an evaluation: keep the weights, or end the training."""
        done = self.trainer.iter + 1
        if self._period and done % self._period == 0 and done != self.trainer.max_iter:
            self._look()
            if self._patience and self._is_enough():
                self._end()

    def after_train(self) -> None:
        """After the last evaluation."""
        if self.trainer.iter + 1 >= self.trainer.max_iter:
            self._look()
            if comm.is_main_process() and self.best is not None:
                self._say(f"The best {self._metric} is {self._of_best()}: {self._file}")

    def _look(self) -> None:
        if not comm.is_main_process():
            return
        latest: dict[str, Any] = self.trainer.storage.latest()
        value, iteration = latest.get(self._metric, (math.nan, -1))
        if self._metric not in latest:
            self._say(
                f"TEST.BEST_METRIC: {self._metric!r} is not among the results of the evaluation"
                f"{_near(self._metric, latest)}. No best checkpoint is kept.",
                logging.WARNING,
            )
        if math.isnan(value) or (self.best is not None and value <= self.best):
            return
        # The last evaluation comes when the iterations are over.
        self.best, self.best_iteration = value, min(iteration, self.trainer.max_iter - 1)
        what = {"iteration": self.best_iteration, "metric": self._metric, "value": value}
        self.trainer.checkpointer.save_weights(_NAME, **what)
        self._say(f"{self._metric} is {self._of_best()}, the best so far: kept as {self._file}")

    def _is_enough(self) -> bool:
        # By iterations, so that nothing besides the best one has to be remembered.
        evaluations = (self.trainer.iter - self.best_iteration) // self._period
        enough = evaluations >= self._patience
        return bool(comm.all_gather(enough)[0])  # the main process knows

    def _end(self) -> None:
        name = f"model_{self.trainer.iter:07d}"
        self.trainer.checkpointer.save(name, iteration=self.trainer.iter)
        comm.synchronize()
        if comm.is_main_process():
            best = f" than {self._of_best()}" if self.best is not None else ""
            self._say(
                f"The training ends after iteration {self.trainer.iter}: {self._patience} "
                f"evaluations had no better {self._metric}{best}. The last weights are {name}.pth."
            )
        raise EarlyStop

    def _of_best(self) -> str:
        return f"{self.best:.4f} after iteration {self.best_iteration}"

    def _say(self, text: str, level: int = logging.INFO) -> None:
        logging.getLogger(__name__).log(level, text)


def _near(metric: str, known: dict[str, Any]) -> str:
    results = [name for name in known if "/" in name and not name.startswith("attention/")]
    near = difflib.get_close_matches(metric, results, n=3, cutoff=0.3)
    return f"; near it are {', '.join(near)}" if near else ""
