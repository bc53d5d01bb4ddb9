"""Repaired annotations take the place of a data set's own, for training and for evaluation."""

import json
import os
from collections.abc import Collection
from functools import partial
from pathlib import Path
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import load_coco_json

from ...files import refuse_to_overwrite, write_whole
from ..label_folders import without
from ..registering import register
from .dataset import Checked

_SEPARATORS = (",", ":")


def use_repaired(found: Checked, folder: str | os.PathLike[str]) -> Path | None:
    """Write the annotations of a check, and let the data set's name stand for what can be used.

    Args, Returns: see :func:`write_repaired`.
    """
    file = write_repaired(found, folder)
    if file:
        read_from(found.report.name, file)
    if found.left_out:
        leave_out(found.report.name, found.left_out)
    return file


def write_repaired(found: Checked, folder: str | os.PathLike[str]) -> Path | None:
    """Write the annotations of a check.

    Args:
        found: without errors.
        folder: where ``NAME.json`` is written; made if need be.

    Returns:
        The file, or None where nothing had to be changed.

    Raises:
        ValueError: that file is the data set's own.
    """
    name = found.report.name
    if (
        not found.report.changes_annotations
        or MetadataCatalog.get(name).get("evaluator_type") != "coco"
    ):
        return None
    file = Path(folder) / f"{name}.json"
    refuse_to_overwrite([file], [MetadataCatalog.get(name).json_file])
    file.parent.mkdir(parents=True, exist_ok=True)
    with write_whole(file) as stream:
        stream.write(json.dumps(found.content, separators=_SEPARATORS).encode())
    return file


def read_from(name: str, file: Path) -> None:
    """Let a data set's name stand for another file of annotations, in this process.

    pycocotools and detectron2 both read the annotations from a file, so that this one has its
    effect wherever the name is used.
    """
    others = _metadata(name)
    others["json_file"] = str(file)
    register(name, partial(load_coco_json, str(file), others["image_root"], name), **others)


def leave_out(name: str, files: Collection[str]) -> None:
    """Let a data set's name stand for its images without some, in this process."""
    load = DatasetCatalog[name]
    register(name, lambda: without(load(), files), **_metadata(name))


def _metadata(name: str) -> dict[str, Any]:
    known = MetadataCatalog.get(name).as_dict()
    return {key: value for key, value in known.items() if key != "name"}
