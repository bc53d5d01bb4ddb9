"""ResNets with attention, registered in detectron2 as backbones."""

import logging
from collections.abc import Callable

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, FPN, build_resnet_backbone
from detectron2.modeling.backbone import ResNet
from detectron2.modeling.backbone.fpn import LastLevelMaxPool, LastLevelP6P7
from detectron2.projects.deeplab.resnet import build_resnet_deeplab_backbone
from omegaconf import DictConfig, OmegaConf
from torch import nn

from .block_keys import block_arguments
from .check import STAGES, check_dnl_config
from .insertion import insert_attention
from .norm import replace_sync_bn
from .recompute import recompute_stages

# What detectron2 and torch raise for keys that do not fit each other.
_REFUSED = (AssertionError, ImportError, LookupError, RuntimeError, TypeError, ValueError)


@BACKBONE_REGISTRY.register()
def build_dnl_resnet_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> ResNet:
    """detectron2's ResNet with the attention that ``MODEL.DNL`` asks for.

    Raises:
        ValueError: a key of ``MODEL.DNL`` with a value that is not allowed, or keys of
            ``MODEL.RESNETS`` that contradict each other.
    """
    cfg = _as_cfg_node(cfg)
    check_dnl_config(cfg, "build_dnl_resnet_backbone")
    return _with_attention(cfg, input_shape, build_resnet_backbone)


@BACKBONE_REGISTRY.register()
def build_dnl_resnet_deeplab_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> ResNet:
    """detectron2's DeepLab ResNet, dilated and with a deep stem, and ``MODEL.DNL``'s attention.

    ``MODEL.RESNETS`` chooses: ``RES4_DILATION`` 2 and ``RES5_DILATION`` 4 give an output stride of
    8, ``RES5_DILATION`` 2 alone one of 16. ``CONTRACT_DILATION`` halves the dilation in the first
    block of each dilated stage, whose input has half of it, as mmsegmentation does.

    Raises:
        ValueError: as :func:`build_dnl_resnet_backbone`.
    """
    cfg = _as_cfg_node(cfg)
    check_dnl_config(cfg, "build_dnl_resnet_deeplab_backbone")
    resnet = _with_attention(cfg, input_shape, build_resnet_deeplab_backbone)
    if cfg.MODEL.RESNETS.CONTRACT_DILATION:
        for name in resnet.stage_names:
            _contract_dilation(getattr(resnet, name)[0])
    return resnet


def _contract_dilation(block: nn.Module) -> None:
    for name in ("conv2", "conv2_offset"):  # a deformable block has both
        if (conv := getattr(block, name, None)) is not None:
            half = tuple(max(dilation // 2, 1) for dilation in conv.dilation)
            conv.dilation = conv.padding = half


def _with_attention(
    cfg: CfgNode, input_shape: ShapeSpec, build: Callable[[CfgNode, ShapeSpec], ResNet]
) -> ResNet:
    cfg = replace_sync_bn(cfg)
    try:
        resnet = build(cfg, input_shape)
    except _REFUSED as error:  # detectron2's, such as of R18 with dilation
        raise ValueError(f"MODEL.RESNETS does not give a ResNet: {error}") from error
    dnl = cfg.MODEL.DNL
    try:
        if dnl.BLOCK != "none":
            _insert(resnet, cfg)
        return recompute_stages(resnet, dnl.CHECKPOINT)
    except ValueError as error:
        raise ValueError(f"MODEL.DNL does not fit this backbone: {error}") from error


def _insert(resnet: ResNet, cfg: CfgNode) -> None:
    dnl = cfg.MODEL.DNL
    stages = {name: dnl[name.upper()] for name in STAGES if dnl[name.upper()]}
    if not stages and cfg.MODEL.SEM_SEG_HEAD.NAME != "DNLSemSegHead":
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
        **block_arguments(dnl, cfg.MODEL.RESNETS.NORM),
    )


@BACKBONE_REGISTRY.register()
def build_dnl_resnet_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """:func:`build_dnl_resnet_backbone` under an FPN with p6 from max-pooling."""
    cfg = _as_cfg_node(cfg)
    check_dnl_config(cfg, "build_dnl_resnet_fpn_backbone")
    return _fpn(cfg, build_dnl_resnet_backbone(cfg, input_shape), LastLevelMaxPool())


@BACKBONE_REGISTRY.register()
def build_dnl_retinanet_resnet_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """:func:`build_dnl_resnet_backbone` under RetinaNet's FPN, p6 and p7 from convolutions."""
    cfg = _as_cfg_node(cfg)
    check_dnl_config(cfg, "build_dnl_retinanet_resnet_fpn_backbone")
    bottom_up = build_dnl_resnet_backbone(cfg, input_shape)
    channels = bottom_up.output_shape()["res5"].channels
    top_block = LastLevelP6P7(channels, cfg.MODEL.FPN.OUT_CHANNELS)
    return _fpn(cfg, bottom_up, top_block)


def _fpn(cfg: CfgNode, bottom_up: ResNet, top_block: nn.Module) -> FPN:
    try:
        return FPN(
            bottom_up=bottom_up,
            in_features=cfg.MODEL.FPN.IN_FEATURES,
            out_channels=cfg.MODEL.FPN.OUT_CHANNELS,
            norm=replace_sync_bn(cfg).MODEL.FPN.NORM,
            top_block=top_block,
            fuse_type=cfg.MODEL.FPN.FUSE_TYPE,
        )
    except _REFUSED as error:  # such as of stages that do not follow each other
        raise ValueError(f"MODEL.FPN does not fit MODEL.RESNETS: {error}") from error


def _as_cfg_node(cfg: CfgNode | DictConfig) -> CfgNode:
    """detectron2 builds models from OmegaConf's configs too, whose lists are no lists."""
    return CfgNode(OmegaConf.to_container(cfg)) if isinstance(cfg, DictConfig) else cfg
