"""The annotations of a COCO-format JSON: their ids, boxes and masks, repaired where they can be."""

from collections import Counter
from typing import Any

from ...text import repr_shortly
from .area import check_area
from .entries import take_id, whole_number
from .faults import NOTE, REPAIRED
from .findings import Report
from .keypoints import check_keypoints
from .masks import TOLERANCE, Item, check_masks

_AT_ONCE = 20_000  # annotations; their polygons are some 10 MB


class AnnotationCheck:
    """Check the annotations of a data set.

    Args:
        report: gets what is wrong.
        images: the image of each id, with the width and height of its file.
        left_out: ids of images that are left out.
        category_ids: those there are.
        masks: whether masks are wanted; None: if any annotation has one.
        crossings: look for polygons that cross themselves.
        keypoints: how many an object has; 0: they are not used.
    """

    def __init__(
        self,
        report: Report,
        images: dict[int, dict[str, Any]],
        left_out: set[int],
        category_ids: set[int],
        masks: bool | None,
        crossings: bool,
        keypoints: int = 0,
    ):
        self._report = report
        self._images = images
        self._left_out = left_out
        self._category_ids = category_ids
        self._masks = masks
        self._crossings = crossings
        self._keypoints = keypoints
        self._unknown: set[int] = set()  # ids of categories that there are not

    def run(self, entries: list[Any]) -> list[dict[str, Any]]:
        """The annotations to go on with, changed in place where they had to be."""
        report = self._report
        report.annotations = len(entries)
        known = [entry for index, entry in enumerate(entries) if self._is_known(index, entry)]
        self._check_counting({annotation["category_id"] for annotation in known} | self._unknown)
        kept = self._with_own_ids(known)
        items = [self._item(annotation) for annotation in kept]
        for item in items:
            self._check_flags(item)
        has_masks = any(annotation.get("segmentation") for annotation in kept)
        for begin in range(0, len(items), _AT_ONCE):
            check_masks(items[begin : begin + _AT_ONCE], report, self._crossings)
        items = [item for item in items if self._check_box(item)]
        self._check_wanted_masks(items, has_masks)
        for item in items:
            check_area(item, report)
        kept = [item.annotation for item in items]
        if all(annotation["iscrowd"] for annotation in kept):
            report.add("annotations-none", f"{len(kept)} of {len(entries)} are left, all crowds")
        self._note_unused(kept)
        return kept

    def _is_known(self, index: int, entry: Any) -> bool:
        """Whether it is an annotation of an image and a category that there are."""
        report = self._report
        if not isinstance(entry, dict):
            report.add("annotation-broken", f"the entry with index {index}")
            return False
        where: dict[str, Any] = {
            "annotation_id": entry.get("id"),
            "image_id": entry.get("image_id"),
        }
        image_id = take_id(entry, "image_id", report, **where)
        category_id = take_id(entry, "category_id", report, **where)
        if image_id is None or category_id is None:
            detail = f"the entry with index {index}" if entry.get("id") is None else ""
            report.add("annotation-broken", detail, **where)
        elif image_id not in self._images:
            known = image_id in self._left_out
            report.add("annotation-image-" + ("skipped" if known else "unknown"), **where)
        elif category_id not in self._category_ids:
            report.add("annotation-category-unknown", f"category_id {category_id}", **where)
            self._unknown.add(category_id)
        else:
            return True
        return False

    def _check_counting(self, used: set[int]) -> None:
        """Whether the annotations count the categories from another number than their list does.

        Then most objects have the id of another category, and only the first or last is unknown.
        """
        listed = sorted(self._category_ids)
        countings = {
            "one less than": {identity - 1 for identity in listed},
            "one more than": {identity + 1 for identity in listed},
            "counted from 0 beside": set(range(len(listed))),
            "counted from 1 beside": set(range(1, len(listed) + 1)),
        }
        for how, ids in countings.items() if self._unknown else ():
            if used <= ids:
                text = f"category_id {min(used)} to {max(used)}, {how} the categories' ids "
                self._report.add("category-ids-shifted", f"{text}{listed[0]} to {listed[-1]}")
                return

    def _with_own_ids(self, annotations: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Each annotation once, and each with an id of its own, a whole number from 1 on."""
        kept: list[dict[str, Any]] = []
        first: dict[int, dict[str, Any]] = {}
        without: list[tuple[dict[str, Any], str]] = []
        for annotation in annotations:
            given = annotation.get("id")
            identity = given if type(given) is int else whole_number(given)
            if identity is None or not 0 < identity < 2**53:
                without.append((annotation, f"id {repr_shortly(given)}"))
            elif identity not in first:
                if identity is not given:
                    self._report.add("id-as-text", annotation_id=given)
                annotation["id"] = identity
                first[identity] = annotation
            elif annotation == first[identity]:
                self._report.add("annotation-repeated", **self._where(annotation))
                continue
            else:
                without.append((annotation, "the id is another's"))
            kept.append(annotation)
        following = max(first, default=0) + 1
        for new, (annotation, why) in enumerate(without, following):
            self._report.add("annotation-id", f"{why}, now {new}", **self._where(annotation))
            annotation["id"] = new
        return kept

    def _where(self, annotation: dict[str, Any]) -> dict[str, Any]:
        image_id = annotation["image_id"]
        file = self._images[image_id]["file_name"]
        return {"annotation_id": annotation.get("id"), "image_id": image_id, "file": file}

    def _item(self, annotation: dict[str, Any]) -> Item:
        image = self._images[annotation["image_id"]]
        return Item(annotation, image["width"], image["height"], self._where(annotation))

    def _check_flags(self, item: Item) -> None:
        annotation = item.annotation
        crowd = annotation.get("iscrowd")
        if type(crowd) is not int or crowd not in (0, 1):
            annotation["iscrowd"] = int(crowd not in (None, 0, "0", "", False))
            self._report.add("crowd-flag", f"iscrowd {repr_shortly(crowd)}", **item.where)
        if "ignore" in annotation and annotation.pop("ignore"):
            annotation["iscrowd"] = 1
            self._report.add("ignore-flag", **item.where)
        if annotation["iscrowd"]:
            self._report.add("crowd", **item.where)
        check_keypoints(item, self._report, self._keypoints)

    def _check_box(self, item: Item) -> bool:
        """Leave it a box within its image; False where there is none and no mask to take one of."""
        annotation, report = item.annotation, self._report
        given: Any = annotation.get("bbox")
        code = _why_unusable(given, item)
        if code:
            if item.extent is None:
                report.add(code, f"bbox {repr_shortly(given)}", **item.where)
                return False
            box = _cut(item.extent, item)
            annotation["bbox"] = [box[0], box[1], box[2] - box[0], box[3] - box[1]]
            text = f"bbox {repr_shortly(given)}, now {_short(annotation['bbox'])}"
            report.add(code, text, kind=REPAIRED, **item.where)
            return True
        x, y, width, height = given
        corners = (x, y, x + width, y + height)
        cut = _cut(corners, item)
        if max(abs(a - b) for a, b in zip(corners, cut, strict=True)) > TOLERANCE:
            annotation["bbox"] = [cut[0], cut[1], cut[2] - cut[0], cut[3] - cut[1]]
            text = f"bbox {_short(given)} of an image of {item.width} x {item.height}"
            report.add("box-over-edge", text, **item.where)
        if item.extent is not None and not item.crowd and _overlap(cut, item) < 0.5:
            text = f"bbox {_short(given)}, the mask's is x {item.extent[0]:g} to {item.extent[2]:g}"
            text += f", y {item.extent[1]:g} to {item.extent[3]:g}"
            report.add("box-unlike-mask", text, **item.where)
        return True

    def _check_wanted_masks(self, items: list[Item], has_masks: bool) -> None:
        if self._masks is False or not items:
            return
        without = [item for item in items if "segmentation" not in item.annotation]
        if not has_masks:
            # Unknown what they are for: boxes can be trained on.
            self._report.add("masks-none", kind="" if self._masks else NOTE)
            return
        for item in without:
            x, y, width, height = item.annotation["bbox"]
            corners = (x, y, x + width, y, x + width, y + height, x, y + height)
            item.annotation["segmentation"] = [[float(value) for value in corners]]
            item.annotation["iscrowd"] = 1
            self._report.add("mask-absent", **item.where)

    def _note_unused(self, annotations: list[dict[str, Any]]) -> None:
        used = Counter(annotation["category_id"] for annotation in annotations)
        for category_id in sorted(self._category_ids - used.keys()):
            self._report.add("category-unused", f"category {category_id}")
        annotated = {annotation["image_id"] for annotation in annotations}
        for image_id, image in self._images.items():
            if image_id not in annotated:
                file = image["file_name"]
                self._report.add("image-unannotated", image_id=image_id, file=file)


def _why_unusable(box: Any, item: Item) -> str:
    """The code of what is wrong with a box, or nothing."""
    if not isinstance(box, list) or len(box) != 4 or not set(map(type, box)) <= {int, float}:
        return "box-broken"
    if not all(-1e9 < value < 1e9 for value in box):  # NaN is not
        return "box-broken"
    x, y, width, height = box
    if width <= 0 or height <= 0:
        return "box-degenerate"
    if x >= item.width or y >= item.height or x + width <= 0 or y + height <= 0:
        return "box-outside"
    return ""


def _cut(corners: tuple[float, ...], item: Item) -> tuple[float, float, float, float]:
    x0, y0, x1, y1 = corners
    return max(x0, 0), max(y0, 0), min(x1, item.width), min(y1, item.height)


def _overlap(box: tuple[float, ...], item: Item) -> float:
    """Intersection over union with the mask's box."""
    assert item.extent is not None
    x0, y0, x1, y1 = _cut(item.extent, item)
    width = min(box[2], x1) - max(box[0], x0)
    height = min(box[3], y1) - max(box[1], y0)
    shared = max(width, 0) * max(height, 0)
    both = (box[2] - box[0]) * (box[3] - box[1]) + (x1 - x0) * (y1 - y0)
    return float(shared / (both - shared)) if both > shared else 1.0


def _short(numbers: list[float]) -> str:
    return "[" + ", ".join(f"{number:g}" for number in numbers) + "]"
