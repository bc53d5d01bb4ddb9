"""detectron2's optimizer or AdamW, with clipping of the whole model's gradient."""

import torch
from detectron2 import solver
from detectron2.config import CfgNode
from detectron2.solver.build import maybe_add_gradient_clipping
from torch import nn

from ..config.solver import check_solver


def build_optimizer(cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
    """SGD as detectron2 builds it, or AdamW; ``CLIP_TYPE: full_model`` clips the whole gradient.

    ``SOLVER.OPTIMIZER`` chooses; learning rate and weight decay have the same keys for both.
    detectron2's ``norm`` clips each parameter by itself. Here, with ``g`` the gradient of all
    parameters together, ``g <- g * min(1, CLIP_VALUE / ||g||)`` right before each step, so after
    processes were averaged and a gradient scaler has unscaled.

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
    optimizer = _build(cfg, model)
    parameters = [p for group in optimizer.param_groups for p in group["params"]]

    def clip_all(*_: object) -> None:
        nn.utils.clip_grad_norm_(parameters, clip.CLIP_VALUE, clip.NORM_TYPE)

    optimizer.register_step_pre_hook(clip_all)
    return optimizer


def _build(cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
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
