"""Categories and their boundaries at the positions of a feature map, from instance masks.

Annotations are detectron2's: dictionaries with ``segmentation`` (polygons or RLE, in pixels of the
original image), ``category_id`` and ``iscrowd``. L: positions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from pycocotools import mask as mask_util
from torch import Tensor

from ..recording import Frame, Grid

# In a map of categories, beside category_id + 1.
BACKGROUND, IGNORED = 0, -1


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
        height, width: of the original image.

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
    edges = [frame.to_original(points) for points in (centres - half, centres, centres + half)]
    columns, rows = (_touched([e[:, k] for e in edges], labels.shape[1 - k]) for k in (0, 1))
    categories = torch.from_numpy(labels)[rows.middle, columns.middle]
    found = torch.zeros(len(centres), dtype=torch.long)
    for label in np.unique(labels[labels != IGNORED]):
        found += _contains(labels == label, rows, columns)
    inside = grid.inside(frame)
    return Regions(torch.where(inside, categories, IGNORED), inside & (found > 1))


@dataclass(frozen=True)
class _Pixels:
    """Along one axis, of each position: its cell's pixels ``start ... stop - 1``, its own pixel."""

    start: Tensor
    stop: Tensor
    middle: Tensor


def _touched(edges: Sequence[Tensor], size: int) -> _Pixels:
    low, centre, high = edges
    middle = centre.floor().clamp(0, size - 1).long()
    start, stop = low.floor().clamp(0, size).long(), high.ceil().clamp(0, size).long()
    return _Pixels(start, stop, middle)


def _contains(mask: np.ndarray, rows: _Pixels, columns: _Pixels) -> Tensor:
    """``(L,)``, 0 or 1: whether a cell has a pixel of the mask, by a table of its sums."""
    table = np.zeros((mask.shape[0] + 1, mask.shape[1] + 1), dtype=np.int64)
    table[1:, 1:] = mask.cumsum(0).cumsum(1)
    sums = torch.from_numpy(table)
    inner = sums[rows.stop, columns.stop] - sums[rows.start, columns.stop]
    count = inner - sums[rows.stop, columns.start] + sums[rows.start, columns.start]
    return (count > 0).long()


def _decode(segmentation: Any, height: int, width: int) -> np.ndarray:
    """``(height, width)``, bool, of polygons or of RLE, compressed or not."""
    if isinstance(segmentation, list):
        segmentation = mask_util.merge(mask_util.frPyObjects(segmentation, height, width))
    elif isinstance(segmentation["counts"], list):
        segmentation = mask_util.frPyObjects(segmentation, height, width)
    return mask_util.decode(segmentation).astype(bool)
