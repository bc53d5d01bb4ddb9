"""One's own data for semantic segmentation: a folder of images and a folder of label files."""

import os
from collections.abc import Collection, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from ..text import printable, repr_shortly
from .registering import register

IMAGE_ENDINGS = (
    *(".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".jp2"),
    *(".avif", ".tga"),
)


class Pair(NamedTuple):
    """An image and its labels; one of them is "" where there is no file."""

    image: str
    labels: str


def read_classes(text: str) -> list[str]:
    """The names of classes, in the order of their labels from 0 on.

    Args:
        text: of ``DATASETS.CLASSES``: names with commas between them, or a text file with a name
            on each line.

    Raises:
        ValueError: no name, an empty one, or one twice.
        FileNotFoundError: what looks like a file is not there.
    """
    if os.path.isfile(text):
        names = Path(text).read_text(encoding="utf-8-sig").rstrip().splitlines()
    elif text.lower().endswith(".txt"):
        raise FileNotFoundError(f"DATASETS.CLASSES: there is no file {text}")
    else:
        names = text.split(",")
    names = [name.strip() for name in names]
    for index, name in enumerate(names):
        if not name or name in names[:index]:
            why = f"{name!r} stands there twice" if name else f"name {index + 1} is empty"
            raise ValueError(
                f"DATASETS.CLASSES: {repr_shortly(text)}: {why}: give a name to each class, in the "
                "order of the labels from 0 on, with commas between them, or a text file with a "
                "name on each line"
            )
    return names


def pairs(images: str, labels: str) -> list[Pair]:
    """Images and labels of the same name without its ending, in the same folder below both.

    Args:
        images: the folder of images.
        labels: that of labels, PNG files. It may be within the other, but not the same.

    Raises:
        ValueError: both are the same folder.
    """
    inner = os.path.realpath(labels)
    if os.path.realpath(images) == inner:
        raise ValueError(
            f"{printable(images)} is the folder of images and of labels: separate them"
        )
    of_stem = dict(files_below(labels, (".png",)))
    found, used = [], set()
    for stem, file in files_below(images, IMAGE_ENDINGS, without=inner):
        found.append(Pair(file, of_stem.get(stem, "")))
        used.add(stem)
    return found + [Pair("", file) for stem, file in of_stem.items() if stem not in used]


def files_below(
    folder: str, endings: Sequence[str], without: str = ""
) -> Iterator[tuple[str, str]]:
    """Names below the folder without their endings, and paths, in the order of the names."""
    for above, folders, names in os.walk(folder):
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".") and os.path.realpath(os.path.join(above, name)) != without
        )
        for name in sorted(names):
            stem, ending = os.path.splitext(name)
            if ending.lower() in endings and not name.startswith("."):
                path = os.path.join(above, name)
                yield os.path.relpath(os.path.join(above, stem), folder), path


def register_labels(
    name: str, images: str, labels: str, classes: Sequence[str], ignore: int
) -> None:
    """Register a data set for semantic segmentation.

    Args:
        name: of the data set.
        images, labels: see :func:`pairs`.
        classes: their names, see :func:`read_classes`.
        ignore: the label of pixels that do not count.
    """
    register(
        name,
        partial(_load, images, labels),
        image_root=images,
        sem_seg_root=labels,
        evaluator_type="sem_seg",
        stuff_classes=list(classes),
        ignore_label=ignore,
        label_folders=True,
    )


def _load(images: str, labels: str) -> list[dict[str, Any]]:
    return [
        {"file_name": pair.image, "sem_seg_file_name": pair.labels}
        for pair in pairs(images, labels)
        if pair.image and pair.labels
    ]


def without(records: Sequence[dict[str, Any]], files: Collection[str]) -> list[dict[str, Any]]:
    """Records whose image is none of these files."""
    return [record for record in records if record["file_name"] not in files]
