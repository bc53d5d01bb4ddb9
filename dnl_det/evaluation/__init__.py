"""Evaluators for the data sets that detectron2 and this project register."""

from .build import build_evaluator
from .cityscapes import check_cityscapes
from .coco import CheckedCOCOEvaluator, HotCOCOEvaluator
from .semantic import LabelError

__all__ = [
    "CheckedCOCOEvaluator",
    "HotCOCOEvaluator",
    "LabelError",
    "build_evaluator",
    "check_cityscapes",
]
