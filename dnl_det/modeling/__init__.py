"""Attention in detectron2's ResNets: the registered backbones and how a block gets in."""

from .attention_block import AttentionBlock
from .backbone import (
    BLOCK_KEYS,
    build_dnl_resnet_backbone,
    build_dnl_resnet_fpn_backbone,
    build_dnl_retinanet_resnet_fpn_backbone,
)
from .check import check_dnl_config
from .check_augmentation import check_test_augmentation
from .insertion import insert_attention
from .norm import replace_sync_bn

__all__ = [
    "BLOCK_KEYS",
    "AttentionBlock",
    "build_dnl_resnet_backbone",
    "build_dnl_resnet_fpn_backbone",
    "build_dnl_retinanet_resnet_fpn_backbone",
    "check_dnl_config",
    "check_test_augmentation",
    "insert_attention",
    "replace_sync_bn",
]
