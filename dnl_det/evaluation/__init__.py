"""Evaluators for the data sets that detectron2 and this project register."""

from .build import build_evaluator
from .coco import CheckedCOCOEvaluator, FasterCOCOEvaluator
from .semantic import LabelError

__all__ = ["CheckedCOCOEvaluator", "FasterCOCOEvaluator", "LabelError", "build_evaluator"]
