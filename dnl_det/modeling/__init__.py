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
from .semantic import DNLSemanticSegmentor, DNLSemSegHead, whole_images

__all__ = [
    "BLOCK_KEYS",
    "AttentionBlock",
    "DNLSemSegHead",
    "DNLSemanticSegmentor",
    "build_dnl_resnet_backbone",
    "build_dnl_resnet_deeplab_backbone",
    "build_dnl_resnet_fpn_backbone",
    "build_dnl_retinanet_resnet_fpn_backbone",
    "check_dnl_config",
    "check_test_augmentation",
    "insert_attention",
    "replace_sync_bn",
    "whole_images",
]
