"""Evaluators for the data sets that detectron2 and this project register."""

from .build import build_evaluator

__all__ = ["build_evaluator"]
