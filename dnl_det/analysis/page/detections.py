"""Detections as the explorer's page draws them: boxes, outlines of masks, classes, scores."""

import colorsys
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch
from detectron2.structures import BitMasks, Instances
from torch import Tensor

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
        described.append(
            {
                "label": class_names[kind] if known else f"class {kind + 1}",
                "score": round(score, 4),
                "colour": _colour(kind),
                "box": [round(side, 1) for side in box],
                "rings": [] if masks is None else mask_rings(masks[index], longest_side),
            }
        )
    return described


def class_regions(logits: Tensor) -> Instances:
    """The classes that a segmentation model finds, as detections: each one's pixels are its mask.

    Args:
        logits: ``(K, H, W)``, of the original image's size.

    Returns:
        ``pred_masks``, ``pred_boxes`` around them, ``pred_classes``; ``scores``, the mean
        probability of the class in its mask; ``inner_points`` ``(N, 2)``, x and y of the pixel of
        each mask that is farthest from its edge.
    """
    best, labels = logits.softmax(dim=0).max(dim=0)  # (H, W)
    classes = labels.unique()
    masks = labels == classes[:, None, None]  # (N, H, W)
    found = Instances(tuple(labels.shape))
    found.pred_classes = classes
    found.pred_masks = masks
    found.pred_boxes = BitMasks(masks).get_bounding_boxes()
    found.scores = torch.stack([best[mask].mean() for mask in masks])
    found.inner_points = torch.tensor([_inner_point(mask.cpu().numpy()) for mask in masks])
    return found


def _inner_point(mask: np.ndarray) -> tuple[float, float]:
    # The image's edge is an edge of the mask.
    padded = np.pad(mask.astype(np.uint8), 1)
    distances = cv2.distanceTransform(padded, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    y, x = np.unravel_index(distances.argmax(), distances.shape)
    return x - 0.5, y - 0.5  # the centre of the pixel before the padding


def mask_rings(mask: np.ndarray, longest_side: int) -> list[list[float]]:
    """Outlines and holes of a mask ``(H, W)``, in pixels, as flat lists of x, y.

    OpenCV's contours run through the centres of the outermost pixels, hence the half pixel.
    """
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    simple = [cv2.approxPolyDP(c, longest_side * _TOLERANCE, closed=True) for c in contours]
    return [(ring.reshape(-1) + 0.5).tolist() for ring in simple if len(ring) > 2]


def _colour(kind: int) -> str:
    """Of a class: bright, and far in hue from those of the classes before it."""
    golden = (5**0.5 - 1) / 2
    rgb = colorsys.hsv_to_rgb(kind * golden % 1, 0.75 if kind % 2 else 0.55, 1.0)
    return "#" + "".join(f"{round(255 * part):02x}" for part in rgb)
