"""Are a data set's files there, whole and right? Asked before anything long starts.

What can be repaired or left out is: :func:`checked` gives the annotations as they are to be used,
and :mod:`.repaired` lets detectron2 use them.
"""

import difflib
import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog

from ...text import printable
from .annotations import check_annotations
from .entries import check_categories, check_image_entries, whole_number
from .findings import SKIPPED, DataError, Report
from .images import check_images
from .json_file import MAX_JSON_MB, read_json
from .labels import check_labels

# Decoding takes 5 ms an image: so many are no wait worth speaking of beside a training.
_DECODED_AT_START = 500
# Keys of a data set's metadata. detectron2's Cityscapes has image_dir and gt_dir.
_PATHS = (
    *("json_file", "image_root", "panoptic_json", "panoptic_root", "sem_seg_root"),
    *("image_dir", "gt_dir", "list_file"),
)
_COCO_KINDS = ("coco", "coco_panoptic_seg")  # evaluator types


@dataclass(frozen=True)
class Use:
    """What data are checked for.

    Attributes:
        evaluation: AP is computed on them, so that no image may be left out.
        annotated: annotations are needed; for evaluation they are not.
        masks: whether masks are learnt or evaluated; None: if there are any.
        keypoints: how many an object has; 0: they are not used.
        labels: the classes of pixels are learnt or evaluated, and no objects.
        max_json_mb: see ``DATASETS.MAX_JSON_MB``.
        thorough: decode every image, whatever their number, and look at every polygon's edges.
        progress: show a bar.
    """

    evaluation: bool = False
    annotated: bool = True
    masks: bool | None = None
    keypoints: int = 0
    labels: bool = False
    max_json_mb: int = MAX_JSON_MB
    thorough: bool = False
    progress: bool = False


@dataclass
class Checked:
    """A data set that was checked.

    Attributes:
        report: what was found.
        content: of its JSON, repaired; empty where it is not in COCO's format or has errors.
        left_out: images of a data set of label files that a training must not see.
    """

    report: Report
    content: dict[str, Any]
    left_out: frozenset[str] = frozenset()

    @property
    def categories(self) -> list[tuple[int, str]]:
        """Ids and names."""
        return [(c["id"], c["name"]) for c in self.content.get("categories", [])]


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Millions of lists are made and kept: looking for garbage among them takes half the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@_no_garbage_collection()
def checked(name: str, json_file: str | Path, images: str | Path, use: Use) -> Checked:
    """Check a data set in COCO's format.

    Args:
        name: for the report.
        json_file: its annotations.
        images: the folder their file names are in.
        use: what for.
    """
    report = Report(name, use.evaluation)
    if not os.path.isdir(images):
        report.add("json-missing", f"there is no folder {images} of the images")
    content = read_json(json_file, report, use.max_json_mb, use.annotated)
    if not content:
        return Checked(report, {})
    content["categories"] = check_categories(content["categories"], report)
    entries, left_out = check_image_entries(content["images"], report)
    annotations = content.get("annotations")
    ids = (whole_number(a.get("image_id")) for a in annotations or () if isinstance(a, dict))
    annotated = {identity for identity in ids if identity is not None}
    decode = use.thorough or len(entries) <= _DECODED_AT_START
    content["images"], unusable = check_images(
        entries, Path(images), annotated, report, decode, use.progress
    )
    _judge_images(len(entries), len(content["images"]), report)
    if annotations is not None:
        content["annotations"] = check_annotations(
            annotations,
            report,
            {image["id"]: image for image in content["images"]},
            left_out | unusable,
            {category["id"] for category in content["categories"]},
            use.masks,
            crossings=use.thorough,
            keypoints=use.keypoints,
        )
    return Checked(report, {} if report.has_errors else content)


def _judge_images(looked_at: int, usable: int, report: Report) -> None:
    if not usable:
        report.add("images-none", f"{report.images:,} are listed")
    elif not report.evaluation and 2 * usable < looked_at:
        report.add("images-mostly-unusable", f"{usable:,} of {looked_at:,} can be used")


def check_dataset(name: str, use: Use) -> Checked:
    """Check a registered data set.

    Of those that are neither in COCO's format nor of label files, whether their files are there.

    Args:
        name: as in ``DATASETS.TRAIN`` or ``TEST``.
        use: what for.

    Raises:
        ValueError: an unknown name.
    """
    if name not in DatasetCatalog.list():
        near = difflib.get_close_matches(name, DatasetCatalog.list(), n=3)
        raise ValueError(
            f"DATASETS: there is no data set {name!r}"
            + (f"; near it are {', '.join(near)}" if near else "")
            + ". One's own data need no name: see --train-json and --train-images"
        )
    metadata, report = MetadataCatalog.get(name), Report(name, use.evaluation)
    for key in _PATHS:
        path = metadata.get(key)
        if path and not os.path.exists(path):
            report.add("json-missing", f"{printable(str(path))} is missing. {_how_to_get(name)}")
    if not report.has_errors and use.labels:
        limit = sys.maxsize if use.thorough else _DECODED_AT_START
        return Checked(report, {}, check_labels(name, report, limit, use.progress))
    json_file, image_root = metadata.get("json_file"), metadata.get("image_root")
    is_coco = json_file and image_root and metadata.get("evaluator_type") in _COCO_KINDS
    if report.has_errors or not is_coco:
        return Checked(report, {})
    found = checked(name, json_file, image_root, use)
    _compare_with_metadata(found)
    return found


def _compare_with_metadata(found: Checked) -> None:
    """Known data sets have known classes; detectron2 asserts that those loaded are the same."""
    metadata = MetadataCatalog.get(found.report.name)
    names = metadata.get("thing_classes")
    if names is None or not found.categories or list(names) == [n for _, n in found.categories]:
        return
    detail = f"{len(found.categories)} categories, and {found.report.name} has {len(names)}"
    if len(found.categories) == len(names):
        detail = "other names than those of " + found.report.name
    found.report.add("categories-differ", detail)
    found.content = {}


def raise_errors(reports: list[Report]) -> None:
    """Raise all that cannot be repaired.

    Raises:
        DataError: any report has an error. All of the reports that do are its message.
    """
    bad = [report for report in reports if report.has_errors]
    if bad:
        left_out = any(report.count(SKIPPED) for report in bad)
        raise DataError(
            "the data cannot be used\n"
            + "\n".join(report.text() for report in bad)
            + ("\nWhat is skipped or repaired needs nothing done" if left_out else "")
            + "\nCorrect the errors; all findings: python -m dnl_det check-data --help"
        )


def _how_to_get(name: str) -> str:
    if name in ("own_train", "own_val"):
        return "Correct the path"
    root = os.getenv("DETECTRON2_DATASETS", "datasets")
    where = f"Data sets are looked for in DETECTRON2_DATASETS, which is {root!r}. "
    if name.startswith("shapes_"):
        return where + f"Make Shapes with: python -m dnl_det shapes --output {root}/shapes"
    if name.startswith("coco_2017"):
        return where + (
            "COCO 2017 is at https://cocodataset.org/#download: unpack train2017, val2017 and "
            "annotations into its folder coco"
        )
    if name.startswith(("cityscapes_fine_sem_seg", "ade20k_150", "pascal_context_59")):
        return where + "docs/DATA.md of this project says how to get this one"
    return where + "https://detectron2.readthedocs.io/tutorials/builtin_datasets.html says how"
