"""Detectors as one graph, for machines without this package: TorchScript, torch.export, ONNX."""

from .detector import Agreement, ExportedDetector, export
from .files import ENDINGS, format_of

__all__ = ["ENDINGS", "Agreement", "ExportedDetector", "export", "format_of"]
