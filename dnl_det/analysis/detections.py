"""Detections as the explorer's page draws them: boxes, outlines of masks, classes, scores."""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from detectron2.structures import Instances
from detectron2.utils.colormap import colormap

# Below this score a detection is not in the page, and not more than so many are.
LOWEST_SCORE = 0.05
MOST = 100
# An outline may be off by this share of the image's longest side: half a pixel of the page.
_TOLERANCE = 1 / 3000


def describe_detections(
    instances: Instances | None, class_names: Sequence[str], longest_side: int
) -> list[dict[str, Any]]:
    """The best detections, best first, in pixels of the original image.

    Args:
        instances: a model's output; None gives none.
        class_names: by class index; a class beyond them is called by its number.
        longest_side: of the image, in pixels.

    Returns:
        ``label``, ``score``, ``colour`` (of the class, as ``#rrggbb``), ``box`` (x0, y0, x1, y1)
        and ``rings``: polygons ``[x, y, x, y, ...]``, filled by the even-odd rule.
    """
    if instances is None:
        return []
    found = instances.to("cpu")
    found = found[found.scores >= LOWEST_SCORE]
    found = found[found.scores.argsort(descending=True)[:MOST]]
    colours = colormap(rgb=True).astype(int)
    masks = found.pred_masks.numpy() if found.has("pred_masks") else None
    described = []
    for index, (box, score, kind) in enumerate(
        zip(
            found.pred_boxes.tensor.tolist(),
            found.scores.tolist(),
            found.pred_classes.tolist(),
            strict=True,
        )
    ):
        known = kind < len(class_names)
        red, green, blue = colours[kind % len(colours)]
        described.append(
            {
                "label": class_names[kind] if known else f"class {kind + 1}",
                "score": round(score, 4),
                "colour": f"#{red:02x}{green:02x}{blue:02x}",
                "box": [round(side, 1) for side in box],
                "rings": [] if masks is None else mask_rings(masks[index], longest_side),
            }
        )
    return described


def mask_rings(mask: np.ndarray, longest_side: int) -> list[list[float]]:
    """Outlines and holes of a mask ``(H, W)``, in pixels, as flat lists of x, y.

    OpenCV's contours run through the centres of the outermost pixels, hence the half pixel.
    """
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    simple = [cv2.approxPolyDP(c, longest_side * _TOLERANCE, closed=True) for c in contours]
    return [(ring.reshape(-1) + 0.5).tolist() for ring in simple if len(ring) > 2]
