"""How long a training is: in epochs, and in time."""

import logging
import math
import time
from datetime import timedelta

from detectron2.config import CfgNode
from detectron2.engine import HookBase

_TIMED_STEPS = 3
logger = logging.getLogger(__name__)


def with_epochs(cfg: CfgNode, images: int) -> CfgNode:
    """The config whose ``MAX_ITER`` is ``SOLVER.EPOCHS``, and its schedule stretched to that.

    ``STEPS`` keep their shares of the length. The warm-up takes a tenth of it at most. Where
    ``CHECKPOINT_PERIOD`` is longer than the training, ten checkpoints are saved.

    Args:
        cfg: for the number of processes that there are.
        images: of the training data, those left out by a filter not counted.

    Returns:
        A frozen copy, or ``cfg`` itself where ``EPOCHS`` is 0.
    """
    if not cfg.SOLVER.EPOCHS:
        return cfg
    cfg = cfg.clone()
    cfg.defrost()
    solver, before = cfg.SOLVER, cfg.SOLVER.MAX_ITER
    solver.MAX_ITER = length = math.ceil(solver.EPOCHS * images / solver.IMS_PER_BATCH)
    steps = {round(step * length / before) for step in solver.STEPS if step < before}
    solver.STEPS = tuple(sorted(steps - {0, length}))
    solver.WARMUP_ITERS = min(solver.WARMUP_ITERS, length // 10)
    if solver.CHECKPOINT_PERIOD > length:
        solver.CHECKPOINT_PERIOD = math.ceil(length / 10)
    logger.info(
        f"SOLVER.EPOCHS: {solver.EPOCHS} of {images} images, {solver.IMS_PER_BATCH} a batch: "
        f"MAX_ITER {length}, STEPS {solver.STEPS}, WARMUP_ITERS {solver.WARMUP_ITERS}."
    )
    cfg.freeze()
    return cfg


class LengthNote(HookBase):
    """Says of one's own data how many epochs a schedule in iterations is, and how long it takes.

    Args:
        cfg: as it is trained.
        images: of the training data.
    """

    def __init__(self, cfg: CfgNode, images: int):
        self._iterations = cfg.SOLVER.MAX_ITER
        self._batch = cfg.SOLVER.IMS_PER_BATCH
        self._images = images
        self._begin = 0.0

    def before_train(self) -> None:
        """Say how many epochs it is, and what sets another number."""
        epochs = self._iterations * self._batch / self._images
        logger.warning(
            f"SOLVER.MAX_ITER: {self._iterations} iterations of {self._batch} images are "
            f"{epochs:,.1f} epochs of your {self._images} images. --epochs 12 makes it 12, and "
            "adapts the steps and the warm-up."
        )

    def after_step(self) -> None:
        """Say how long it takes, after a few steps without the first."""
        done = self.trainer.iter + 1 - self.trainer.start_iter
        if done == 1:
            self._begin = time.perf_counter()
        elif done == 1 + _TIMED_STEPS:
            step = (time.perf_counter() - self._begin) / _TIMED_STEPS
            left = timedelta(seconds=round(step * (self._iterations - self.trainer.iter - 1)))
            logger.info(f"An iteration takes {step:.2g} s: the training ends in about {left}.")
