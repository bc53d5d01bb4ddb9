"""Repaired annotations take the place of a data set's own, for training and for evaluation."""

import json
import os
from functools import partial
from pathlib import Path

from detectron2.data import MetadataCatalog
from detectron2.data.datasets import load_coco_json

from ...files import refuse_to_overwrite, write_whole
from ..registering import register
from .dataset import Checked

_SEPARATORS = (",", ":")


def use_repaired(found: Checked, folder: str | os.PathLike[str]) -> Path | None:
    """Write the annotations of a check, and let the data set's name stand for them.

    Args, Returns: see :func:`write_repaired`.
    """
    file = write_repaired(found, folder)
    if file:
        read_from(found.report.name, file)
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
    metadata = MetadataCatalog.get(name).as_dict()
    others = {key: value for key, value in metadata.items() if key not in ("name", "json_file")}
    load = partial(load_coco_json, str(file), metadata["image_root"], name)
    register(name, load, json_file=str(file), **others)
