"""The boxes and the areas of annotations, repaired by their masks where they have one."""

from typing import Any

from pycocotools import mask as mask_util

from ...text import repr_shortly
from .findings import REPAIRED
from .masks import TOLERANCE, Item, are_numbers

# COCO's own areas are those of the polygons' corners, so that parts that overlap count twice, and
# some other tools' are those of the boxes: neither is a mistake of a hundred times.
_FACTOR = 2.0
_PIXEL = 1.0  # of rounding
Corners = tuple[float, float, float, float]  # least x and y, largest x and y


def check_box(item: Item) -> bool:
    """Leave it a box within its image; False where there is none and no mask to take one of."""
    annotation = item.annotation
    given: Any = annotation.get("bbox")
    code = _why_unusable(given, item)
    if code:
        if item.extent is None:
            item.add(code, f"bbox {repr_shortly(given)}")
            return False
        annotation["bbox"] = _as_bbox(_cut(item.extent, item))
        item.add(code, f"bbox {repr_shortly(given)}, now {_short(annotation['bbox'])}", REPAIRED)
        return True
    x, y, width, height = given
    corners = (x, y, x + width, y + height)
    cut = _cut(corners, item)
    if max(abs(a - b) for a, b in zip(corners, cut, strict=True)) > TOLERANCE:
        annotation["bbox"] = _as_bbox(cut)
        size = f"{item.width} x {item.height}"
        item.add("box-over-edge", f"bbox {_short(given)} of an image of {size}")
    if item.extent and not item.crowd and _overlap(cut, _cut(item.extent, item)) < 0.5:
        x0, y0, x1, y1 = item.extent
        mask = f"the mask's is x {x0:g} to {x1:g}, y {y0:g} to {y1:g}"
        item.add("box-unlike-mask", f"bbox {_short(given)}, {mask}")
    return True


def _why_unusable(box: Any, item: Item) -> str:
    """The code of what is wrong with a box, or nothing."""
    if not are_numbers(box) or len(box) != 4:
        return "box-broken"
    x, y, width, height = box
    if width <= 0 or height <= 0:
        return "box-degenerate"
    if x >= item.width or y >= item.height or x + width <= 0 or y + height <= 0:
        return "box-outside"
    return ""


def _cut(corners: Corners, item: Item) -> Corners:
    x0, y0, x1, y1 = corners
    return max(x0, 0), max(y0, 0), min(x1, item.width), min(y1, item.height)


def _as_bbox(corners: Corners) -> list[float]:
    x0, y0, x1, y1 = corners
    return [x0, y0, x1 - x0, y1 - y0]


def _overlap(one: Corners, other: Corners) -> float:
    """Intersection over union."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(width, 0) * max(height, 0)
    both = sum((x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in (one, other))
    return float(shared / (both - shared)) if both > shared else 1.0


def _short(numbers: list[float]) -> str:
    return "[" + ", ".join(f"{number:g}" for number in numbers) + "]"


def check_area(item: Item) -> None:
    """Leave an annotation an ``area`` that its mask, or else its box, can have.

    Args:
        item: its box and mask checked.
    """
    annotation = item.annotation
    given: Any = annotation.get("area")
    if type(given) not in (int, float) or not 0 <= given < float("inf"):
        annotation["area"] = _own_area(item)
        item.add("area", f"area {repr_shortly(given)}")
    elif not item.crowd and not _is_plausible(given, item.mask_area, item):
        own = _own_area(item)
        if not _is_plausible(given, own, item):
            annotation["area"] = own
            item.add("area-implausible", f"area {given:g}, now {own:g}")


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
