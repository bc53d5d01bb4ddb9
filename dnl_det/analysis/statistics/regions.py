"""Categories and their boundaries at the positions of a feature map, from instance masks.

Annotations are detectron2's: dictionaries with ``segmentation`` (polygons or RLE, in pixels of the
original image), ``category_id`` and ``iscrowd``. L: positions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from pycocotools import mask as mask_util
from torch import Tensor

from ..recording.geometry import Frame, Grid

BACKGROUND = 0
"""In a map of categories: no object."""
IGNORED = -1
"""In a map of categories: a crowd, or padding."""


@dataclass(frozen=True)
class Regions:
    """What lies at each position of a feature map.

    Attributes:
        categories: ``(L,)``, int: category_id + 1, or BACKGROUND, or IGNORED (crowds, padding).
        boundary: ``(L,)``, bool.
    """

    categories: Tensor
    boundary: Tensor


def category_map(
    annotations: Sequence[dict[str, Any]], height: int, width: int
) -> np.ndarray | None:
    """The category of every pixel of an image; where instances overlap, that of the smaller one.

    Args:
        annotations: of all its instances.
        height: of the original image, in pixels.
        width: of the same.

    Returns:
        ``(height, width)``, int: category_id + 1, BACKGROUND, or IGNORED in crowds; None where an
        instance has no mask, or there is no instance.
    """
    instances = [a for a in annotations if not a.get("iscrowd")]
    if not instances or any(not a.get("segmentation") for a in instances):
        return None
    labels = np.full((height, width), BACKGROUND, dtype=np.int64)
    for crowd in (a for a in annotations if a.get("iscrowd") and a.get("segmentation")):
        labels[_decode(crowd["segmentation"], height, width)] = IGNORED
    masks = [(_decode(a["segmentation"], height, width), a["category_id"]) for a in instances]
    for mask, category in sorted(masks, key=lambda pair: -pair[0].sum()):
        labels[mask] = category + 1
    return labels


def regions_at(labels: np.ndarray, grid: Grid, frame: Frame, band: float = 1.0) -> Regions:
    """Bring a map of categories to the positions of a feature map.

    A position has the category of the pixel that its centre lies in. It is on a boundary where its
    cell, the square around it of ``band`` strides, touches pixels of more than one category (or of
    one and of background).

    Args:
        labels: of :func:`category_map`.
        grid: of the positions.
        frame: of the image. Positions in the batch's padding are IGNORED.
        band: the cell's side in strides.

    Raises:
        ValueError: ``band`` is not above 0.
    """
    if not band > 0:
        raise ValueError(f"band={band}: must be above 0 strides")
    centres = grid.centres().double()  # (L, 2), x and y
    half = centres.new_tensor([grid.stride[1], grid.stride[0]]) * band / 2
    low, middle, high = (frame.to_original(p) for p in (centres - half, centres, centres + half))
    size = torch.tensor(labels.shape[::-1])

    def pixels(edges: Tensor, last: Tensor) -> tuple[Tensor, Tensor]:
        return edges.clamp(min=0).minimum(last).long().unbind(1)  # type: ignore[return-value]

    x, y = pixels(middle.floor(), size - 1)
    # A cell touches the columns x0 ... x1 - 1 and the rows y0 ... y1 - 1.
    (x0, y0), (x1, y1) = pixels(low.floor(), size), pixels(high.ceil(), size)
    touched = torch.zeros(len(centres), dtype=torch.long)
    for label in np.unique(labels[labels != IGNORED]):
        sums = torch.from_numpy(cv2.integral((labels == label).astype(np.uint8)))
        touched += sums[y1, x1] - sums[y0, x1] - sums[y1, x0] + sums[y0, x0] > 0
    inside = grid.inside(frame)
    categories = torch.where(inside, torch.from_numpy(labels)[y, x], IGNORED)
    return Regions(categories, inside & (touched > 1))


def _decode(segmentation: Any, height: int, width: int) -> np.ndarray:
    """``(height, width)``, bool, of polygons or of RLE, compressed or not."""
    if isinstance(segmentation, list):
        segmentation = mask_util.merge(mask_util.frPyObjects(segmentation, height, width))
    elif isinstance(segmentation["counts"], list):
        segmentation = mask_util.frPyObjects(segmentation, height, width)
    return mask_util.decode(segmentation).astype(bool)
