"""Semantic segmentation: the head with attention, its loss, and inference at any size."""

from .head import DNLSemSegHead
from .segmentor import DNLSemanticSegmentor, whole_images

__all__ = ["DNLSemSegHead", "DNLSemanticSegmentor", "whole_images"]
