"""Recompute the activations of a ResNet's stages in the backward pass instead of keeping them."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from detectron2.modeling.backbone import ResNet
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def recompute_stages(resnet: ResNet, stages: Sequence[str]) -> ResNet:
    """Keep only the inputs of the residual blocks in ``stages`` for the backward pass.

    Gradients and running statistics stay what they were; a training step takes longer by the
    forward pass of these stages. Reference: Chen et al., "Training Deep Nets with Sublinear Memory
    Cost", 2016.

    Args:
        resnet: changed in place.
        stages: names of its stages, such as ``["res3", "res4"]``.

    Returns:
        ``resnet``.

    Raises:
        ValueError: a stage that was not built.
    """
    for name in stages:
        if name not in resnet.stage_names:
            raise ValueError(
                f"MODEL.DNL.CHECKPOINT: no stage {name!r} in this ResNet, which has "
                f"{', '.join(resnet.stage_names)}"
            )
    for name in stages:
        for block in getattr(resnet, name):
            recompute_block(block)
    return resnet


def recompute_block(block: nn.Module) -> None:
    """Keep only the input of one residual block."""
    # Not a wrapper module, which would rename the parameters.
    block.forward = partial(_forward, block, block.forward)


def is_recomputed(block: nn.Module) -> bool:
    """Whether :func:`recompute_block` has changed it."""
    forward = vars(block).get("forward")
    return isinstance(forward, partial) and forward.func is _forward


def _forward(block: nn.Module, forward: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    # A compiled graph updates the statistics once by itself.
    options: dict[str, Any] = {}
    if not torch.compiler.is_compiling():
        options["context_fn"] = partial(_contexts, block)
    result: Tensor = checkpoint(forward, x, use_reentrant=False, **options)
    return result


def _contexts(block: nn.Module) -> tuple[AbstractContextManager, AbstractContextManager]:
    """Of the forward pass, and of its repetition."""
    return nullcontext(), _statistics_kept(block)


@contextmanager
def _statistics_kept(block: nn.Module) -> Iterator[None]:
    """Within it, batch norms do not count the batch that they have counted before."""
    norms = [m for m in block.modules() if isinstance(m, _BatchNorm) and m.training]
    momenta = [norm.momentum for norm in norms]
    counters = [n.num_batches_tracked for n in norms if n.num_batches_tracked is not None]
    counts = [counter.clone() for counter in counters]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        for counter, count in zip(counters, counts, strict=True):
            counter.copy_(count)
