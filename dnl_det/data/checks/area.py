"""The areas that annotations say: what is small, medium and large in COCO's AP."""

from typing import Any

from pycocotools import mask as mask_util

from ...text import repr_shortly
from .findings import Report
from .masks import Item

# COCO's own areas are those of the polygons' corners, so that parts that overlap count twice, and
# some other tools' are those of the boxes: neither is a mistake of a hundred times.
_FACTOR = 2.0
_PIXEL = 1.0  # of rounding


def check_area(item: Item, report: Report) -> None:
    """Leave an annotation an ``area`` that its mask, or else its box, can have.

    Args:
        item: its box and mask checked.
        report: gets what is wrong.
    """
    annotation = item.annotation
    given: Any = annotation.get("area")
    if type(given) not in (int, float) or not 0 <= given < float("inf"):
        annotation["area"] = _own_area(item)
        report.add("area", f"area {repr_shortly(given)}", **item.where)
    elif not item.crowd and not _is_plausible(given, item.mask_area, item):
        own = _own_area(item)
        if not _is_plausible(given, own, item):
            annotation["area"] = own
            report.add("area-implausible", f"area {given:g}, now {own:g}", **item.where)


def _is_plausible(given: float, mask_area: float, item: Item) -> bool:
    width, height = item.annotation["bbox"][2:]
    # Without a mask: something that touches all sides of its box is no thinner than half a pixel.
    least = mask_area / _FACTOR if mask_area else max(width, height) / 2
    largest = max(_FACTOR * mask_area, (width + _PIXEL) * (height + _PIXEL))
    return bool(least - _PIXEL <= given <= largest)


def _own_area(item: Item) -> float:
    """Of the mask, or of the box where there is none."""
    width, height = item.annotation["bbox"][2:]
    mask = item.annotation.get("segmentation")
    if not isinstance(mask, list):
        return float(item.mask_area or width * height)
    packed = mask_util.frPyObjects(mask, item.height, item.width)
    pixels = float(mask_util.area(mask_util.merge(packed)))
    # A polygon's exact area, unless it crosses itself or the image's edge.
    exact = len(mask) == 1 and abs(item.mask_area - pixels) <= (width + height) / 2
    return (item.mask_area if exact else pixels) or item.mask_area or width * height
