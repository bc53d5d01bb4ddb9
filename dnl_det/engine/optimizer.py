"""detectron2's optimizer, with clipping of the whole model's gradient."""

import torch
from detectron2 import solver
from detectron2.config import CfgNode
from torch import nn

CLIP_TYPES = ("value", "norm", "full_model")


def build_optimizer(cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
    """SGD as detectron2 builds it; ``CLIP_TYPE: full_model`` clips all gradients as one vector.

    detectron2's ``norm`` clips each parameter by itself. Here, with ``g`` the gradient of all
    parameters together, ``g <- g * min(1, CLIP_VALUE / ||g||)`` right before each step, so after
    processes were averaged and a gradient scaler has unscaled.

    Raises:
        ValueError: an unknown ``SOLVER.CLIP_GRADIENTS.CLIP_TYPE``.
    """
    clip = cfg.SOLVER.CLIP_GRADIENTS
    if clip.CLIP_TYPE not in CLIP_TYPES:
        raise ValueError(
            f"SOLVER.CLIP_GRADIENTS.CLIP_TYPE: {clip.CLIP_TYPE!r} is not one of "
            f"{', '.join(CLIP_TYPES)}"
        )
    if not clip.ENABLED or clip.CLIP_TYPE != "full_model":
        return solver.build_optimizer(cfg, model)

    cfg = cfg.clone()
    cfg.defrost()
    cfg.SOLVER.CLIP_GRADIENTS.ENABLED = False
    optimizer = solver.build_optimizer(cfg, model)
    parameters = [p for group in optimizer.param_groups for p in group["params"]]

    def clip_all(*_: object) -> None:
        nn.utils.clip_grad_norm_(parameters, clip.CLIP_VALUE, clip.NORM_TYPE)

    optimizer.register_step_pre_hook(clip_all)
    return optimizer
