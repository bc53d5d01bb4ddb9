"""Labelled images of any origin, as a data set in COCO's format."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import shapely

from ..text import printable


class Shape(NamedTuple):
    """An object: its class, corners x1, y1, x2, y2 in pixels, and polygons ``[x, y, ...]``."""

    label: str
    corners: tuple[float, float, float, float]
    polygons: Sequence[Sequence[float]] = ()

    @classmethod
    def of_polygons(cls, label: str, polygons: Sequence[Sequence[float]]) -> "Shape":
        """An object of one or several polygons.

        Raises:
            ValueError: one of fewer than three corners, or a coordinate that is no number.
        """
        for polygon in polygons:
            if len(polygon) < 6 or len(polygon) % 2 or not all(map(math.isfinite, polygon)):
                raise ValueError("a polygon needs x and y of three or more corners")
        xs = [x for polygon in polygons for x in polygon[::2]]
        ys = [y for polygon in polygons for y in polygon[1::2]]
        return cls(label, (min(xs), min(ys), max(xs), max(ys)), polygons)


@dataclass
class Labelled:
    """An image and its objects.

    Attributes:
        name: of the file, below the folder of the images.
        size: width and height in pixels.
    """

    name: str
    size: tuple[int, int]
    shapes: list[Shape]


def as_coco(images: Iterable[Labelled], classes: Sequence[str] = ()) -> dict[str, Any]:
    """A data set in COCO's format.

    Args:
        images: see ``FORMATS``.
        classes: in the order of their ids from 1 on; by default those found, in that of the
            alphabet.

    Raises:
        ValueError: an object's class is none of them.
    """
    found = list(images)
    names = classes or sorted({shape.label for image in found for shape in image.shapes})
    ids = {name: number for number, name in enumerate(names, 1)}
    annotations: list[dict[str, Any]] = []
    for number, image in enumerate(found, 1):
        for shape in image.shapes:
            if shape.label not in ids:
                raise ValueError(
                    f"{printable(image.name)}: class {printable(shape.label)!r} is none of "
                    f"{', '.join(map(printable, names))}: add it to --classes"
                )
            x1, y1, x2, y2 = shape.corners
            annotation = {
                "id": len(annotations) + 1,
                "image_id": number,
                "category_id": ids[shape.label],
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "area": (x2 - x1) * (y2 - y1),
                "iscrowd": 0,
            }
            if shape.polygons:
                parts = [list(zip(p[::2], p[1::2], strict=True)) for p in shape.polygons]
                annotation["segmentation"] = [list(polygon) for polygon in shape.polygons]
                annotation["area"] = sum(shapely.Polygon(part).area for part in parts)
            annotations.append(annotation)
    return {
        "images": [
            {"id": n, "file_name": image.name, "width": image.size[0], "height": image.size[1]}
            for n, image in enumerate(found, 1)
        ],
        "annotations": annotations,
        "categories": [{"id": number, "name": name} for name, number in ids.items()],
    }
