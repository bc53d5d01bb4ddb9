"""The label files of semantic segmentation: there, of one channel, as large as their images."""

import os
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog
from tqdm import tqdm

from ...text import printable, repr_shortly
from ..label_folders import pairs
from ..labels import LabelError, is_label_image, read_labels
from ..reading import open_image
from .findings import Report
from .images import Look, in_threads, look_at


@dataclass
class _Labels:
    """What a look at an image and its labels gives.

    Attributes:
        image: the look at the image.
        found: of the labels: codes and details.
        values: the labels that occur, where the file was decoded.
        usable: whether it can be trained on.
    """

    image: Look
    found: list[tuple[str, str]] = field(default_factory=list)
    values: np.ndarray | None = None
    usable: bool = True


def check_labels(name: str, report: Report, decode_up_to: int, progress: bool) -> frozenset[str]:
    """Check the images and labels of a registered data set whose folders are there.

    Args:
        name: of the data set. Labels are compared with its ``stuff_classes``, if it has any.
        report: gets what is wrong.
        decode_up_to: of more images than these, sizes and kinds alone are looked at.
        progress: show a bar.

    Returns:
        The images that a training has to leave out. None where the records name no label files.
    """
    metadata = MetadataCatalog.get(name)
    if metadata.get("label_folders"):
        _report_single_files(metadata.image_root, metadata.sem_seg_root, report)
    try:
        records = DatasetCatalog.get(name)
    except AssertionError as error:  # detectron2's loaders, of a folder without files
        report.add("labels-none", printable(str(error)))
        return frozenset()
    report.images = report.annotations = len(records)
    classes = metadata.get("stuff_classes") or ()
    report.categories = len(classes)
    if not records:
        report.add("labels-none", f"of images in {printable(str(metadata.get('image_root')))}")
    if not all("sem_seg_file_name" in record for record in records) or not records:
        return frozenset()

    ignore, offset = metadata.get("ignore_label", 255), metadata.get("label_offset", 0)
    decode = len(records) <= decode_up_to

    def look(record: dict[str, Any]) -> _Labels:
        return _look(record, decode, offset, ignore)

    left_out, seen = set(), np.zeros(report.categories, dtype=bool)
    bar = tqdm(records, desc=name, unit=" images", disable=not progress, mininterval=0.5)
    for record, labels in zip(bar, in_threads(look, records), strict=True):
        for code, detail in labels.image.found:
            report.add(code, detail, file=record["file_name"])
        for code, detail in labels.found:
            report.add(code, detail, file=record["sem_seg_file_name"])
        if not (labels.usable and labels.image.upright):
            left_out.add(record["file_name"])
        elif labels.values is not None:
            known = labels.values < report.categories
            seen[labels.values[known]] = True
            if classes and len(wrong := labels.values[~known & (labels.values != ignore)]):
                values = repr_shortly((wrong + offset).tolist())
                allowed = f"{offset} to {report.categories - 1 + offset}, or {ignore} to ignore"
                detail = f"{values}; allowed are {allowed}"
                report.add("label-unknown", detail, file=record["sem_seg_file_name"])
    _judge(report, len(records), len(left_out))
    if decode and not report.has_errors:
        for absent in np.flatnonzero(~seen):
            report.add("label-class-absent", repr_shortly(classes[absent]))
    return frozenset(left_out)


def _judge(report: Report, images: int, left_out: int) -> None:
    if left_out == images:
        report.add("images-none", f"{images:,} have labels")
    elif not report.evaluation and 2 * left_out > images:
        report.add("images-mostly-unusable", f"{images - left_out:,} of {images:,} can be used")


def _report_single_files(images: str, labels: str, report: Report) -> None:
    for image, label_file in pairs(images, labels):
        if not label_file:
            report.add("label-missing", f"none in {printable(labels)}", file=image)
        elif not image:
            report.add("label-without-image", f"none in {printable(images)}", file=label_file)


def _look(record: dict[str, Any], decode: bool, offset: int, ignore: int) -> _Labels:
    labels = _Labels(look_at(record["file_name"], decode))
    file = record["sem_seg_file_name"]
    try:
        if not os.path.isfile(file):
            labels.found.append(("label-missing", ""))
            labels.usable = False
            return labels
        with open_image(file) as opened:
            size = opened.size
            if not is_label_image(opened):
                labels.found.append(("label-channels", f"an image of mode {opened.mode}"))
                return labels
            if opened.mode == "P":
                labels.found.append(("label-palette", ""))
        if decode:
            counts = np.bincount(read_labels(file, offset, ignore).ravel())  # unique sorts
            labels.values = np.flatnonzero(counts)
    except LabelError as error:
        labels.found.append(("label-unreadable", str(error).removeprefix(f"{printable(file)} ")))
        labels.usable = False
        return labels
    except Exception as error:  # Pillow's decoders raise what they like
        labels.found.append(("label-unreadable", printable(str(error))))
        labels.usable = False
        return labels
    if labels.image.upright and size != labels.image.upright:
        of_image = "{} x {}".format(*labels.image.upright)
        detail = f"{size[0]} x {size[1]}, and the image is {of_image} (width x height)"
        labels.found.append(("label-size", detail))
        labels.usable = False
    return labels
