"""detectron2's optimizer or AdamW, with clipping of the whole model's gradient; the schedule."""

import torch
from detectron2 import solver
from detectron2.config import CfgNode
from detectron2.solver.build import maybe_add_gradient_clipping
from detectron2.solver.lr_scheduler import LRMultiplier, WarmupParamScheduler
from fvcore.common.param_scheduler import ParamScheduler
from torch import nn
from torch.optim.lr_scheduler import LRScheduler

from ...layers import BLOCKS
from ..config.solver import check_solver

_QUERY_AND_KEY = ("conv_query", "conv_key", "theta", "phi")


def build_optimizer(cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
    """SGD as detectron2 builds it, or AdamW; ``CLIP_TYPE: full_model`` clips the whole gradient.

    ``SOLVER.OPTIMIZER`` chooses; learning rate and weight decay have the same keys for both.
    detectron2's ``norm`` clips each parameter by itself. Here, with ``g`` the gradient of all
    parameters together, ``g <- g * min(1, CLIP_VALUE / ||g||)`` right before each step, so after
    processes were averaged and a gradient scaler has unscaled. ``SOLVER.WEIGHT_DECAY_QUERY_KEY`` is
    the weight decay of the convolutions of queries and keys in attention blocks.

    Raises:
        ValueError: an unknown ``SOLVER.OPTIMIZER`` or ``SOLVER.CLIP_GRADIENTS.CLIP_TYPE``.
    """
    check_solver(cfg)
    clip = cfg.SOLVER.CLIP_GRADIENTS
    if not clip.ENABLED or clip.CLIP_TYPE != "full_model":
        return _build(cfg, model)

    cfg = cfg.clone()
    cfg.defrost()
    cfg.SOLVER.CLIP_GRADIENTS.ENABLED = False
    return clip_whole_gradient(_build(cfg, model), clip.CLIP_VALUE, clip.NORM_TYPE)


def clip_whole_gradient(
    optimizer: torch.optim.Optimizer, max_norm: float, norm_type: float = 2.0
) -> torch.optim.Optimizer:
    """Clip the norm of all gradients together before each step; see :func:`build_optimizer`."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]

    def clip_all(*_: object) -> None:
        nn.utils.clip_grad_norm_(parameters, max_norm, norm_type)

    optimizer.register_step_pre_hook(clip_all)
    return optimizer


def build_lr_scheduler(cfg: CfgNode, optimizer: torch.optim.Optimizer) -> LRScheduler:
    """detectron2's schedules, and ``WarmupPolyLR`` with ``SOLVER.POLY_LR_POWER`` and ``FLOOR``."""
    solver_keys = cfg.SOLVER
    if solver_keys.LR_SCHEDULER_NAME != "WarmupPolyLR":
        return solver.build_lr_scheduler(cfg, optimizer)
    schedule = WarmupParamScheduler(
        PolyWithFloor(solver_keys.POLY_LR_POWER, solver_keys.POLY_LR_FLOOR),
        solver_keys.WARMUP_FACTOR,
        min(solver_keys.WARMUP_ITERS / solver_keys.MAX_ITER, 1.0),
        solver_keys.WARMUP_METHOD,
        solver_keys.RESCALE_INTERVAL,
    )
    return LRMultiplier(optimizer, schedule, solver_keys.MAX_ITER)


class PolyWithFloor(ParamScheduler):
    """``(1 - floor) * (1 - where) ** power + floor``, ``where`` the share of the training done.

    The poly schedule of mmsegmentation, which does not end at 0.
    """

    def __init__(self, power: float, floor: float):
        self._power, self._floor = power, floor

    def __call__(self, where: float) -> float:
        return float((1 - self._floor) * (1 - where) ** self._power + self._floor)


def _build(cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
    optimizer = _build_with_one_decay(cfg, model)
    decay = cfg.SOLVER.get("WEIGHT_DECAY_QUERY_KEY")
    if decay is not None:
        projections = {
            parameter
            for block in model.modules()
            if isinstance(block, tuple(BLOCKS.values()))
            for name, projection in block.named_children()
            if name in _QUERY_AND_KEY
            for parameter in projection.parameters()
        }
        groups = []
        for group in optimizer.param_groups:
            for chosen in (False, True):
                members = [p for p in group["params"] if (p in projections) == chosen]
                if members:
                    own = {"weight_decay": decay} if chosen else {}
                    groups.append({**group, "params": members, **own})
        optimizer.param_groups = groups
    return optimizer


def _build_with_one_decay(cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
    if cfg.SOLVER.get("OPTIMIZER", "SGD") == "SGD":
        return solver.build_optimizer(cfg, model)
    groups = solver.get_default_optimizer_params(
        model,
        base_lr=cfg.SOLVER.BASE_LR,
        weight_decay_norm=cfg.SOLVER.WEIGHT_DECAY_NORM,
        bias_lr_factor=cfg.SOLVER.BIAS_LR_FACTOR,
        weight_decay_bias=cfg.SOLVER.WEIGHT_DECAY_BIAS,
    )
    adamw = maybe_add_gradient_clipping(cfg, torch.optim.AdamW)
    optimizer: torch.optim.Optimizer = adamw(
        groups, lr=cfg.SOLVER.BASE_LR, weight_decay=cfg.SOLVER.WEIGHT_DECAY
    )
    return optimizer
