"""The keys of ``SOLVER``: what is allowed, and on how many processes a schedule is meant."""

import logging
import math
from collections.abc import Sequence

from detectron2.config import CfgNode

from .config_files import keys_of

CLIP_TYPES = ("value", "norm", "full_model")
OPTIMIZERS = ("SGD", "AdamW")
SCHEDULERS = (
    "WarmupMultiStepLR",
    "WarmupCosineLR",
    "WarmupStepWithFixedGammaLR",
    "WarmupPolyLR",
)
_REFERENCE = "SOLVER.REFERENCE_WORLD_SIZE"
_SCHEDULE = {"SOLVER.IMS_PER_BATCH", "SOLVER.BASE_LR", "SOLVER.MAX_ITER", "SOLVER.STEPS"}


def check_solver(cfg: CfgNode) -> None:
    """Check the keys of ``SOLVER`` that are this project's, or have more values here.

    Raises:
        ValueError: names the key, its value and what is allowed.
    """
    solver_keys = cfg.SOLVER
    for key, value, allowed in (
        ("LR_SCHEDULER_NAME", solver_keys.LR_SCHEDULER_NAME, SCHEDULERS),
        ("OPTIMIZER", solver_keys.get("OPTIMIZER", "SGD"), OPTIMIZERS),
        ("CLIP_GRADIENTS.CLIP_TYPE", solver_keys.CLIP_GRADIENTS.CLIP_TYPE, CLIP_TYPES),
    ):
        if value not in allowed:
            raise ValueError(f"SOLVER.{key}: {value!r} is not one of {', '.join(allowed)}")
    for key in ("MAX_BAD_STEPS", "EPOCHS", "REFERENCE_WORLD_SIZE", "EARLY_STOPPING_PATIENCE"):
        value = solver_keys.get(key, 0)
        if type(value) is not int or value < 0:
            raise ValueError(f"SOLVER.{key}: {value!r} must be a whole number from 0 on")
    if solver_keys.get("EARLY_STOPPING_PATIENCE", 0):
        for key in ("BEST_METRIC", "EVAL_PERIOD"):
            if not cfg.TEST[key]:
                raise ValueError(
                    f"SOLVER.EARLY_STOPPING_PATIENCE: {solver_keys.EARLY_STOPPING_PATIENCE} needs "
                    f"TEST.{key}, which is {cfg.TEST[key]!r}: set TEST.BEST_METRIC to a number of "
                    "the evaluation, such as bbox/AP, and TEST.EVAL_PERIOD to iterations"
                )
    for key in ("POLY_LR_POWER", "POLY_LR_FLOOR", "WEIGHT_DECAY_QUERY_KEY"):
        value = solver_keys.get(key)
        if value is not None and not 0 <= value <= (1 if key == "POLY_LR_FLOOR" else math.inf):
            limit = " to 1" if key == "POLY_LR_FLOOR" else " on"
            raise ValueError(f"SOLVER.{key}: {value!r} must be a number from 0{limit}")


def check_schedule(cfg: CfgNode, config_file: str, given: Sequence[str]) -> None:
    """Take a schedule that was given for what it says, whatever the number of processes is.

    ``SOLVER.REFERENCE_WORLD_SIZE`` scales batch, learning rate and length with the number of
    processes. It becomes 0 where one of those keys comes after it: in a file whose ``_BASE_`` has
    it, or on the command line.

    Args:
        cfg: changed in place.
        config_file: of the config.
        given: the keys of the command line.

    Raises:
        ValueError: a batch that ``REFERENCE_WORLD_SIZE`` does not divide, or a length in epochs and
            on the command line one in iterations too.
    """
    keys, solver = set(given), cfg.SOLVER
    if solver.EPOCHS and (iterations := keys & {"SOLVER.MAX_ITER", "SOLVER.STEPS"}):
        raise ValueError(
            f"{min(iterations)}: SOLVER.EPOCHS {solver.EPOCHS} sets the length already: give one "
            "of the two (SOLVER.EPOCHS 0: none)"
        )
    rescaled = True
    for keys_of_one in (*keys_of(config_file), keys):
        if _REFERENCE in keys_of_one:
            rescaled = True
        elif keys_of_one & _SCHEDULE:
            rescaled = False
    if solver.REFERENCE_WORLD_SIZE and not rescaled:
        solver.REFERENCE_WORLD_SIZE = 0
        logging.getLogger(__name__).info(
            f"{_REFERENCE}: 0, since the schedule was given; batch, learning rate and length are "
            "not scaled with the number of processes."
        )
    if solver.REFERENCE_WORLD_SIZE and solver.IMS_PER_BATCH % solver.REFERENCE_WORLD_SIZE:
        raise ValueError(
            f"SOLVER.IMS_PER_BATCH: {solver.IMS_PER_BATCH} must be a multiple of {_REFERENCE}, "
            f"{solver.REFERENCE_WORLD_SIZE}; or set that to 0, and nothing is scaled"
        )
