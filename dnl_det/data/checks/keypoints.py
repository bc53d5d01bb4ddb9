"""The key points of annotations: each object has as many, and says how many are seen."""

from typing import Any

from ...text import repr_shortly
from .findings import Report
from .masks import Item


def check_keypoints(item: Item, report: Report, wanted: int) -> None:
    """Leave an annotation ``keypoints`` that can be used, or none.

    Args:
        item: its annotation is changed in place.
        report: gets what is wrong.
        wanted: how many key points an object has; 0: they are not used.
    """
    annotation = item.annotation
    if "keypoints" in annotation and not _are_keypoints(annotation["keypoints"]):
        report.add("keypoints", repr_shortly(annotation.pop("keypoints")), **item.where)
    if not wanted:
        return
    given = annotation.get("keypoints", [])
    if len(given) != 3 * wanted:
        annotation["keypoints"] = [0] * (3 * wanted)
        report.add("keypoints-absent", f"{len(given) // 3} of {wanted}", **item.where)
    seen = sum(visible > 0 for visible in annotation["keypoints"][2::3])
    if annotation.get("num_keypoints") != seen:
        annotation["num_keypoints"] = seen
        report.add("keypoints-count", f"{seen} are seen", **item.where)


def _are_keypoints(value: Any) -> bool:
    """detectron2 shifts them by half a pixel as it loads, used or not."""
    return (
        isinstance(value, list)
        and len(value) % 3 == 0
        and set(map(type, value)) <= {int, float}
        and all(-1e9 < number < 1e9 for number in value)
    )
