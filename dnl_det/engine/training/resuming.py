"""Resuming a training with other ``SOLVER`` keys: each takes effect, or is named and refused."""

import logging
from typing import Any

import torch
from detectron2.config import CfgNode
from torch.optim.lr_scheduler import LRScheduler

# What a parameter group says of the config.
_KEYS = {
    "initial_lr": "SOLVER.BASE_LR",
    "momentum": "SOLVER.MOMENTUM",
    "nesterov": "SOLVER.NESTEROV",
    "weight_decay": "SOLVER.WEIGHT_DECAY",
}


def check_same_optimizer(
    cfg: CfgNode, optimizer: torch.optim.Optimizer, state: dict[str, Any]
) -> None:
    """Check that the optimizer's state of a checkpoint belongs to the same parameters.

    Args:
        cfg: of this run.
        optimizer: of this run, as built from it.
        state: the ``state_dict`` of the checkpoint's optimizer.

    Raises:
        ValueError: names the key whose value differs, and both values.
    """
    groups, saved = optimizer.param_groups, state["param_groups"]
    solver = cfg.SOLVER
    ours, theirs = ("AdamW" if "betas" in g[0] else "SGD" for g in (groups, saved))
    if ours != theirs:
        raise ValueError(
            f"--resume: SOLVER.OPTIMIZER is {ours}, and the checkpoint was trained with {theirs}: "
            f"set {theirs}, or start a new training from the checkpoint (MODEL.WEIGHTS) in another "
            "OUTPUT_DIR"
        )
    here, there = ([len(group["params"]) for group in g] for g in (groups, saved))
    if sum(here) != sum(there):
        raise ValueError(
            f"--resume: {sum(here)} parameters learn with MODEL.BACKBONE.FREEZE_AT "
            f"{cfg.MODEL.BACKBONE.FREEZE_AT} and MODEL.DNL.TRAIN_IN_FROZEN "
            f"{cfg.MODEL.DNL.TRAIN_IN_FROZEN}, and {sum(there)} did in the checkpoint: set both as "
            "they were, or start a new training from the checkpoint (MODEL.WEIGHTS) in another "
            "OUTPUT_DIR"
        )
    if here != there:
        raise ValueError(
            "--resume: SOLVER.BIAS_LR_FACTOR, WEIGHT_DECAY_NORM and WEIGHT_DECAY_BIAS "
            f"({solver.BIAS_LR_FACTOR}, {solver.WEIGHT_DECAY_NORM}, {solver.WEIGHT_DECAY_BIAS}) "
            "group the parameters otherwise than in the checkpoint: set them as they were"
        )


def use_own_values(
    optimizer: torch.optim.Optimizer, scheduler: LRScheduler, own: list[dict[str, Any]]
) -> None:
    """Give a loaded optimizer the learning rate, momentum and so on of this run's config.

    With the values of the checkpoint nothing changes, to the bit.

    Args:
        optimizer, scheduler: with the state of the checkpoint.
        own: the optimizer's parameter groups before that was loaded.
    """
    changed: dict[str, tuple[Any, Any]] = {}
    for group, values in zip(optimizer.param_groups, own, strict=True):
        for name, key in _KEYS.items():
            if name in values and values[name] != group[name]:
                changed.setdefault(key, (group[name], values[name]))
        group.update({k: v for k, v in values.items() if k not in ("params", "lr")})
    scheduler.base_lrs = [group["initial_lr"] for group in optimizer.param_groups]
    for group, rate in zip(optimizer.param_groups, scheduler.get_lr(), strict=True):
        group["lr"] = rate
    for key, (before, now) in changed.items():
        logging.getLogger(__name__).warning(f"--resume: {key} was {before}, and is {now} from here")
