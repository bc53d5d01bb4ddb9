"""Pictures of detections and of what was annotated."""

from typing import Any

import numpy as np
from detectron2.data import Metadata
from detectron2.data.detection_utils import convert_image_to_rgb
from detectron2.structures import Instances
from detectron2.utils.visualizer import ColorMode, Visualizer

# Below this, class names are larger than the objects.
_SHORT_SIDE = 480


def draw_detections(
    image: np.ndarray, instances: Instances, metadata: Metadata, threshold: float
) -> np.ndarray:
    """Boxes, masks, class names and scores on an image.

    Args:
        image: BGR uint8 ``(H, W, 3)``.
        instances: a model's output for it, in its pixels.
        metadata: for ``thing_classes``.
        threshold: the lowest score drawn, 0 to 1.

    Returns:
        RGB uint8, enlarged where the shorter side has fewer than 480 pixels.
    """
    shown = instances.to("cpu")
    shown = shown[shown.scores >= threshold]
    return _canvas(image, metadata).draw_instance_predictions(shown).get_image()


def draw_annotations(
    image: np.ndarray, annotated: dict[str, Any], metadata: Metadata
) -> np.ndarray:
    """The same of an annotated image, ``annotated`` in detectron2's data set format."""
    return _canvas(image, metadata).draw_dataset_dict(annotated).get_image()


def _canvas(image: np.ndarray, metadata: Metadata) -> Visualizer:
    scale = max(1.0, _SHORT_SIDE / min(image.shape[:2]))
    rgb = convert_image_to_rgb(image, "BGR")
    return Visualizer(rgb, metadata, scale=scale, instance_mode=ColorMode.IMAGE)
