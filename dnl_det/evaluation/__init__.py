"""Evaluators for the data sets that detectron2 and this project register."""

from .build import build_evaluator
from .coco import CheckedCOCOEvaluator
from .faster_coco import FasterCOCOEvaluator

__all__ = ["CheckedCOCOEvaluator", "FasterCOCOEvaluator", "build_evaluator"]
