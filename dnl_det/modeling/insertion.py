"""Put attention blocks into a built ResNet."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from detectron2.modeling.backbone import ResNet

from .attention_block import AttentionBlock
from .recompute import is_recomputed, recompute_block
from .timm_blocks import build_block


def insert_attention(
    resnet: ResNet,
    stages: Mapping[str, Sequence[int]],
    block: str = "dnl",
    *,
    position: str = "before_relu",
    train_in_frozen: bool = False,
    **kwargs: Any,
) -> ResNet:
    """Put an attention block into chosen residual blocks of a ResNet.

    Output strides and channels, frozen stages and the names of all other parameters stay. The
    attention gets the device, the type and the mode (training or not) of its residual block, and
    is recomputed where that is.

    Args:
        resnet: any ResNet of detectron2 (depth 18 to 152, ResNeXt, deformable); changed in place.
        stages: from a stage's name to block indices in it, negative ones from its end, for
            instance ``{"res4": [-2], "res5": [-3, -2, -1]}``.
        block: ``dnl``, ``nl``, ``snl``, ``gc``, or one of timm, such as ``timm/eca``.
        position: see :class:`AttentionBlock`.
        train_in_frozen: whether the attention in a frozen stage learns all the same. If not, it is
            frozen too, which is logged: it has to come from a checkpoint.
        kwargs: the attention block's own keyword arguments.

    Returns:
        ``resnet``.

    Raises:
        ValueError: a stage that was not built, an index outside of it or given twice, a block
            that carries attention already, or an argument out of its range.
    """
    targets = [
        (name, index)
        for name, indices in stages.items()
        for index in resolve_indices(name, indices, _length(resnet, name))
    ]
    for name, index in targets:
        stage = getattr(resnet, name)
        old = stage[index]
        if isinstance(old, AttentionBlock):
            raise ValueError(f"{name}[{index}] carries attention already: insert it only once")
        attention = build_block(block, old.out_channels, **kwargs)
        weight = next(old.parameters())
        attention.to(weight.device, weight.dtype)
        stage[index] = new = AttentionBlock(old, attention, position)
        new.training = old.training
        attention.train(old.training)
        if is_recomputed(old):
            recompute_block(new)
        is_frozen = not any(parameter.requires_grad for parameter in old.parameters())
        if is_frozen and not train_in_frozen:
            stage[index].freeze()
            logging.getLogger(__name__).warning(
                f"{name} is frozen (MODEL.BACKBONE.FREEZE_AT), and so is the attention in "
                f"{name}.{index}: unless a checkpoint fills it, it stays at its random start. "
                "To train it, set MODEL.DNL.TRAIN_IN_FROZEN: True."
            )
    return resnet


def _length(resnet: ResNet, name: str) -> int:
    if name not in resnet.stage_names:
        raise ValueError(
            f"attention in {name} asked for, but this ResNet has only "
            f"{', '.join(resnet.stage_names)} (as far as its output features need): give no index "
            f"for {name} (MODEL.DNL.{name.upper()}: []), or add it to MODEL.RESNETS.OUT_FEATURES"
        )
    return len(getattr(resnet, name))


def resolve_indices(name: str, indices: Sequence[int], length: int) -> list[int]:
    """Indices from 0 on of the residual blocks of stage ``name``, which has ``length``.

    Raises:
        ValueError: an index outside of the stage, or a block that is named twice.
    """
    for index in indices:
        if not isinstance(index, int) or not -length <= index < length:
            raise ValueError(
                f"MODEL.DNL.{name.upper()}: no block {index!r} in {name}, which has {length}: "
                f"must be between {-length} and {length - 1}"
            )
    resolved = [index % length for index in indices]
    if len(set(resolved)) != len(resolved):
        raise ValueError(
            f"MODEL.DNL.{name.upper()}: {list(indices)} names a block of {name} twice "
            f"(it has {length}, and negative indices count from the end)"
        )
    return resolved
