"""The masks of annotations: polygons and RLE, those that cannot be used dropped."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from pycocotools import mask as mask_util

from ...text import repr_shortly
from .findings import Report
from .polygons import Polygons
from .run_length import runs_of

_LARGEST = 1e9  # pixels; a coordinate beyond is none
TOLERANCE = 1.0  # pixels over the image's edge that are rounding


@dataclass
class Item:
    """An annotation under check.

    Attributes:
        annotation: as the JSON has it; changed in place.
        image: the entry of its image, with the width and height of the file.
        report: gets what is wrong with it.
        extent: least and largest x and y of its mask, None without one.
        mask_area: in pixels.
    """

    annotation: dict[str, Any]
    image: dict[str, Any]
    report: Report
    extent: tuple[float, float, float, float] | None = None
    mask_area: float = 0.0

    def __post_init__(self) -> None:
        self.width: int = self.image["width"]
        self.height: int = self.image["height"]

    @property
    def crowd(self) -> bool:
        """Whether it is one."""
        return self.annotation.get("iscrowd") == 1

    def add(self, code: str, detail: str = "", kind: str = "") -> None:
        """Note a finding; see :meth:`Report.add`."""
        where = {"annotation_id": self.annotation.get("id"), "image_id": self.image["id"]}
        self.report.add(code, detail, kind, file=self.image["file_name"], **where)


def check_masks(items: list[Item], crossings: bool) -> None:
    """Leave each annotation a ``segmentation`` that can be used, or none.

    Args:
        items: any number; ``extent`` and ``mask_area`` are set.
        crossings: look for polygons that cross themselves, which takes most of the time.
    """
    owners: list[Item] = []
    polygons: list[list[float]] = []
    for item in items:
        mask = item.annotation.pop("segmentation", None)
        if isinstance(mask, dict) and mask:
            _check_rle(item, mask)
        elif isinstance(mask, list) and mask:
            sound = _sound_polygons(item, mask)
            polygons += sound
            owners += [item] * len(sound)
        elif mask:
            item.add("mask-broken", repr_shortly(mask))
    if polygons:
        _keep_polygons(owners, polygons, crossings)


def _check_rle(item: Item, rle: dict[str, Any]) -> None:
    try:
        runs = runs_of(rle, item.height, item.width)
    except ValueError as error:
        item.add("rle-broken", str(error))
        return
    area = sum(runs[1::2])
    if not area:
        item.add("rle-empty")
        return
    if not item.crowd:
        item.add("mask-rle")
    rle["size"] = [item.height, item.width]
    packed = mask_util.frPyObjects({"size": rle["size"], "counts": runs}, item.height, item.width)
    x, y, width, height = mask_util.toBbox(packed).tolist()
    item.extent, item.mask_area = (x, y, x + width, y + height), float(area)
    item.annotation["segmentation"] = rle


def _sound_polygons(item: Item, mask: list[Any]) -> list[list[float]]:
    """The polygons that are lists of an even count of numbers, at least six."""
    if all(isinstance(value, (int, float)) for value in mask):
        item.add("polygon-flat")
        mask = [mask]
    sound = [polygon for polygon in mask if _is_sound(polygon)]
    for polygon in mask if len(sound) < len(mask) else ():
        if not _is_sound(polygon):
            item.add("polygon-broken", repr_shortly(polygon))
    return sound


def _is_sound(polygon: Any) -> bool:
    return are_numbers(polygon) and len(polygon) >= 6 and len(polygon) % 2 == 0


def are_numbers(value: Any) -> bool:
    """Whether a value is a list of finite numbers, none of them absurd."""
    if not isinstance(value, list) or not set(map(type, value)) <= {int, float}:
        return False
    # Comparing passes over NaN within a list; a sum does not. Three times as fast as a loop.
    in_range = not value or (min(value) > -_LARGEST and max(value) < _LARGEST)
    return in_range and not math.isnan(sum(value))


def _keep_polygons(owners: list[Item], polygons: list[list[float]], crossings: bool) -> None:
    """Give polygons back to their annotations, but for those without a visible area."""
    geometry = Polygons(polygons)
    bounds, areas = geometry.bounds(), geometry.areas()  # (P, 4), (P,)
    sizes = np.array([(item.width, item.height) for item in owners], dtype=np.float64)  # (P, 2)
    least, largest = bounds[:, :2], bounds[:, 2:]
    # pycocotools walks along every edge pixel by pixel, so one far away would take its memory.
    near = (least >= -sizes).all(axis=1) & (largest <= 2 * sizes).all(axis=1)
    inside = near & (largest > 0).all(axis=1) & (least < sizes).all(axis=1)
    over = np.any((least < -TOLERANCE) | (largest > sizes + TOLERANCE), axis=1)
    flat = ~(largest > least).all(axis=1)
    crossed = np.zeros(len(polygons), dtype=bool)
    cancels = ~flat & (areas <= 0)  # the halves of an eight do, and are filled all the same
    if crossings or cancels.any():
        crossed = geometry.crossing()
    flat |= cancels & ~crossed
    drop = np.select([~inside, flat], ["polygon-outside", "polygon-degenerate"], default="")
    for item, polygon, box, area, code, beyond, crosses in zip(
        owners, polygons, bounds.tolist(), areas.tolist(), drop.tolist(), over, crossed, strict=True
    ):
        if code:
            item.add(code, _spans(box, item))
            continue
        if beyond:
            item.add("polygon-over-edge", _spans(box, item))
        if crosses:
            item.add("polygon-crossing")
        item.annotation.setdefault("segmentation", []).append(polygon)
        item.mask_area += area
        x0, y0, x1, y1 = item.extent or box
        item.extent = min(x0, box[0]), min(y0, box[1]), max(x1, box[2]), max(y1, box[3])


def _spans(box: list[float], item: Item) -> str:
    x0, y0, x1, y1 = box
    return f"x {x0:g} to {x1:g}, y {y0:g} to {y1:g}, of {item.width} x {item.height}"
