"""Attention in detectron2's models: registered backbones, and the head of segmentation."""

from .attention_block import AttentionBlock
from .backbone import (
    build_dnl_resnet_backbone,
    build_dnl_resnet_deeplab_backbone,
    build_dnl_resnet_fpn_backbone,
    build_dnl_retinanet_resnet_fpn_backbone,
)
from .block_keys import BLOCK_KEYS
from .check import check_dnl_config
from .check_augmentation import check_test_augmentation
from .insertion import insert_attention
from .norm import replace_sync_bn
from .recompute import recompute_stages
from .semantic import DNLSemanticSegmentor, DNLSemSegHead, whole_images
from .timm_blocks import TIMM_BLOCKS, build_block

__all__ = [
    "BLOCK_KEYS",
    "TIMM_BLOCKS",
    "AttentionBlock",
    "DNLSemSegHead",
    "DNLSemanticSegmentor",
    "build_block",
    "build_dnl_resnet_backbone",
    "build_dnl_resnet_deeplab_backbone",
    "build_dnl_resnet_fpn_backbone",
    "build_dnl_retinanet_resnet_fpn_backbone",
    "check_dnl_config",
    "check_test_augmentation",
    "insert_attention",
    "recompute_stages",
    "replace_sync_bn",
    "whole_images",
]
