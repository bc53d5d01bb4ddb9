"""The annotations of a COCO-format JSON: their ids, flags, key points and missing masks."""

from collections import Counter
from typing import Any

from ...text import repr_shortly
from .boxes import check_area, check_box
from .entries import take_id, whole_number
from .findings import NOTE, Report
from .masks import Item, are_numbers, check_masks

_AT_ONCE = 20_000  # annotations; their polygons are some 10 MB
Annotations = list[dict[str, Any]]


def check_annotations(
    entries: list[Any],
    report: Report,
    images: dict[int, dict[str, Any]],
    left_out: set[int],
    category_ids: set[int],
    masks: bool | None,
    crossings: bool,
    keypoints: int,
) -> Annotations:
    """The annotations to go on with, changed in place where they had to be.

    Args:
        entries: as the JSON has them.
        report: gets what is wrong.
        images: the image of each id, with the width and height of its file.
        left_out: ids of images that are left out.
        category_ids: those that the JSON lists.
        masks: whether masks are wanted; None: if any annotation has one.
        crossings: look for polygons that cross themselves.
        keypoints: how many an object has; 0: they are not used.
    """
    report.annotations = len(entries)
    known: Annotations = []
    used: set[int] = set()
    for index, entry in enumerate(entries):
        category_id = _category_id(index, entry, images, left_out, report)
        if category_id is None:
            continue
        used.add(category_id)
        if category_id in category_ids:
            known.append(entry)
        else:
            where = {"annotation_id": entry.get("id"), "image_id": entry["image_id"]}
            report.add("annotation-category-unknown", f"category_id {category_id}", **where)
    if not used <= category_ids:
        _check_counting(used, sorted(category_ids), report)
    items = [Item(annotation, images[annotation["image_id"]], report) for annotation in known]
    items = _with_own_ids(items)
    for item in items:
        _check_flags(item)
        _check_keypoints(item, keypoints)
    has_masks = any(item.annotation.get("segmentation") for item in items)
    for begin in range(0, len(items), _AT_ONCE):
        check_masks(items[begin : begin + _AT_ONCE], crossings)
    items = [item for item in items if check_box(item)]
    if masks is not False and items:
        if has_masks:
            _make_crowds_of_boxes(items)
        else:  # without a config it is unknown what the data are for: boxes can be trained on
            report.add("masks-none", kind="" if masks else NOTE)
    for item in items:
        check_area(item)
    kept = [item.annotation for item in items]
    if all(annotation["iscrowd"] for annotation in kept):
        report.add("annotations-none", f"{len(kept)} of {len(entries)} are left, all crowds")
    _note_unused(kept, images, category_ids, report)
    return kept


def _category_id(
    index: int, entry: Any, images: dict[int, Any], left_out: set[int], report: Report
) -> int | None:
    """The category of an annotation of an image that is used; None for others."""
    if not isinstance(entry, dict):
        report.add("annotation-broken", f"the entry with index {index}")
        return None
    where: dict[str, Any] = {
        "annotation_id": entry.get("id"),
        "image_id": entry.get("image_id"),
    }
    image_id = take_id(entry, "image_id", report, **where)
    category_id = take_id(entry, "category_id", report, **where)
    if image_id is None or category_id is None:
        detail = f"the entry with index {index}" if entry.get("id") is None else ""
        report.add("annotation-broken", detail, **where)
    elif image_id in images:
        return category_id
    else:
        code = "annotation-image-skipped" if image_id in left_out else "annotation-image-unknown"
        report.add(code, **where)
    return None


def _check_counting(used: set[int], listed: list[int], report: Report) -> None:
    """Whether the annotations count the categories from another number than their list does.

    Then most objects have the id of another category, and only the first or last is unknown.
    """
    countings = {
        "one less than": {identity - 1 for identity in listed},
        "one more than": {identity + 1 for identity in listed},
        "counted from 0 beside": set(range(len(listed))),
        "counted from 1 beside": set(range(1, len(listed) + 1)),
    }
    how = next((how for how, ids in countings.items() if used <= ids), None)
    if how:
        text = f"category_id {min(used)} to {max(used)}, {how} the categories' ids "
        report.add("category-ids-shifted", f"{text}{listed[0]} to {listed[-1]}")


def _with_own_ids(items: list[Item]) -> list[Item]:
    """Each annotation once, and each with an id of its own, a whole number from 1 on."""
    kept: list[Item] = []
    first: dict[int, dict[str, Any]] = {}
    without: list[tuple[Item, str]] = []
    for item in items:
        annotation = item.annotation
        given = annotation.get("id")
        identity = given if type(given) is int else whole_number(given)
        if identity is None or not 0 < identity < 2**53:
            without.append((item, f"id {repr_shortly(given)}"))
        elif identity not in first:
            if identity is not given:
                item.report.add("id-as-text", annotation_id=given)
            annotation["id"] = identity
            first[identity] = annotation
        elif annotation == first[identity]:
            item.add("annotation-repeated")
            continue
        else:
            without.append((item, "the id is another's"))
        kept.append(item)
    for new, (item, why) in enumerate(without, max(first, default=0) + 1):
        item.add("annotation-id", f"{why}, now {new}")
        item.annotation["id"] = new
    return kept


def _check_flags(item: Item) -> None:
    annotation = item.annotation
    crowd = annotation.get("iscrowd")
    if type(crowd) is not int or crowd not in (0, 1):
        annotation["iscrowd"] = int(crowd not in (None, 0, "0", "", False))
        item.add("crowd-flag", f"iscrowd {repr_shortly(crowd)}")
    if "ignore" in annotation and annotation.pop("ignore"):
        annotation["iscrowd"] = 1
        item.add("ignore-flag")
    if item.crowd:
        item.add("crowd")


def _check_keypoints(item: Item, wanted: int) -> None:
    """Leave it ``wanted`` key points and the number of those seen; any, where 0 are wanted."""
    annotation = item.annotation
    if "keypoints" in annotation:  # which detectron2 shifts as it loads them, used or not
        given = annotation["keypoints"]
        if not are_numbers(given) or len(given) % 3:
            item.add("keypoints", repr_shortly(annotation.pop("keypoints")))
    if not wanted:
        return
    given = annotation.get("keypoints", [])
    if len(given) != 3 * wanted:
        annotation["keypoints"] = [0] * (3 * wanted)
        item.add("keypoints-absent", f"{len(given) // 3} of {wanted}")
    seen = sum(visible > 0 for visible in annotation["keypoints"][2::3])
    if annotation.get("num_keypoints") != seen:
        annotation["num_keypoints"] = seen
        item.add("keypoints-count", f"{seen} are seen")


def _make_crowds_of_boxes(items: list[Item]) -> None:
    """An object without a mask among others with masks becomes a crowd that fills its box."""
    for item in items:
        if "segmentation" not in item.annotation:
            x, y, width, height = item.annotation["bbox"]
            corners = (x, y, x + width, y, x + width, y + height, x, y + height)
            item.annotation["segmentation"] = [[float(value) for value in corners]]
            item.annotation["iscrowd"] = 1
            item.add("mask-absent")


def _note_unused(
    annotations: Annotations,
    images: dict[int, dict[str, Any]],
    category_ids: set[int],
    report: Report,
) -> None:
    used = Counter(annotation["category_id"] for annotation in annotations)
    for category_id in sorted(category_ids - used.keys()):
        report.add("category-unused", f"category {category_id}")
    annotated = {annotation["image_id"] for annotation in annotations}
    for image_id, image in images.items():
        if image_id not in annotated:
            report.add("image-unannotated", image_id=image_id, file=image["file_name"])
