"""ResNets with attention, registered in detectron2 as backbones."""

import logging
from typing import Any

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, FPN, build_resnet_backbone
from detectron2.modeling.backbone import ResNet
from detectron2.modeling.backbone.fpn import LastLevelMaxPool, LastLevelP6P7
from torch import nn

from ..layers import BLOCKS
from ..layers.attention import BACKENDS
from ..layers.disentangled_non_local import MODES
from ..layers.global_context import POOLINGS
from ..layers.non_local import KERNELS
from .attention_block import POSITIONS
from .insertion import insert_attention
from .norm import replace_sync_bn
from .recompute import recompute_stages

STAGES = ("res2", "res3", "res4", "res5")

_CHOICES = {
    "BLOCK": ("none", *BLOCKS),
    "MODE": MODES,
    "POSITION": POSITIONS,
    "BACKEND": BACKENDS,
    "NL_KERNEL": KERNELS,
    "GC_POOLING": POOLINGS,
}


@BACKBONE_REGISTRY.register()
def build_dnl_resnet_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> ResNet:
    """detectron2's ResNet with the attention that ``MODEL.DNL`` asks for.

    Raises:
        ValueError: a key of ``MODEL.DNL`` with a value that is not allowed.
    """
    check_dnl_config(cfg)
    resnet = build_resnet_backbone(replace_sync_bn(cfg), input_shape)
    dnl = cfg.MODEL.DNL
    try:
        if dnl.BLOCK != "none":
            _insert(resnet, dnl)
        return recompute_stages(resnet, dnl.CHECKPOINT)
    except ValueError as error:
        raise ValueError(f"MODEL.DNL does not fit this backbone: {error}") from error


def _insert(resnet: ResNet, dnl: CfgNode) -> None:
    stages = {name: dnl[name.upper()] for name in STAGES if dnl[name.upper()]}
    if not stages:
        logging.getLogger(__name__).warning(
            "MODEL.DNL.RES2 to RES5 are all empty, so this backbone has no attention. The paper "
            "uses RES4: [-2] and RES5: [-3, -2, -1]; set BLOCK: none where none is meant."
        )
    insert_attention(
        resnet,
        stages,
        dnl.BLOCK,
        position=dnl.POSITION,
        train_in_frozen=dnl.TRAIN_IN_FROZEN,
        **_block_arguments(dnl),
    )


@BACKBONE_REGISTRY.register()
def build_dnl_resnet_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """:func:`build_dnl_resnet_backbone` under an FPN with p6 from max-pooling."""
    return _fpn(cfg, build_dnl_resnet_backbone(cfg, input_shape), LastLevelMaxPool())


@BACKBONE_REGISTRY.register()
def build_dnl_retinanet_resnet_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """:func:`build_dnl_resnet_backbone` under RetinaNet's FPN, p6 and p7 from convolutions."""
    bottom_up = build_dnl_resnet_backbone(cfg, input_shape)
    channels = bottom_up.output_shape()["res5"].channels
    top_block = LastLevelP6P7(channels, cfg.MODEL.FPN.OUT_CHANNELS)
    return _fpn(cfg, bottom_up, top_block)


def _fpn(cfg: CfgNode, bottom_up: ResNet, top_block: nn.Module) -> FPN:
    return FPN(
        bottom_up=bottom_up,
        in_features=cfg.MODEL.FPN.IN_FEATURES,
        out_channels=cfg.MODEL.FPN.OUT_CHANNELS,
        norm=replace_sync_bn(cfg).MODEL.FPN.NORM,
        top_block=top_block,
        fuse_type=cfg.MODEL.FPN.FUSE_TYPE,
    )


def check_dnl_config(cfg: CfgNode) -> None:
    """Check what can be said of ``MODEL.DNL`` before a model is built.

    Raises:
        ValueError: names the key, its value and what is allowed.
    """
    if "DNL" not in cfg.MODEL:
        raise ValueError("the config has no MODEL.DNL: call dnl_det.add_dnl_config(cfg) first")
    for key, allowed in _CHOICES.items():
        if (value := cfg.MODEL.DNL[key]) not in allowed:
            raise ValueError(f"MODEL.DNL.{key}: {value!r} is not one of {', '.join(allowed)}")
    for name in STAGES:
        indices = cfg.MODEL.DNL[name.upper()]
        if not all(isinstance(index, int) for index in indices):
            raise ValueError(
                f"MODEL.DNL.{name.upper()}: {indices!r} must be a list of block indices, "
                "such as [-2], or [] for none"
            )


def _block_arguments(dnl: CfgNode) -> dict[str, Any]:
    if dnl.BLOCK == "dnl":
        return {
            "reduction": dnl.REDUCTION,
            "mode": dnl.MODE,
            "temperature": dnl.TEMPERATURE,
            "whiten": dnl.WHITEN,
            "downsample": dnl.DOWNSAMPLE,
            "use_out": dnl.USE_OUT,
            "backend": dnl.BACKEND,
            "init_std": dnl.INIT_STD,
            "init_gamma": dnl.INIT_GAMMA,
        }
    if dnl.BLOCK == "nl":
        return {
            "reduction": dnl.REDUCTION,
            "kernel": dnl.NL_KERNEL,
            "legacy_scale": dnl.NL_LEGACY_SCALE,
            "backend": dnl.BACKEND,
            "init_std": dnl.INIT_STD,
        }
    if dnl.BLOCK == "snl":
        return {"init_std": dnl.INIT_STD}
    if dnl.BLOCK == "gc":
        return {"reduction": dnl.REDUCTION, "pooling": dnl.GC_POOLING, "fusion": dnl.GC_FUSION}
    return {}
