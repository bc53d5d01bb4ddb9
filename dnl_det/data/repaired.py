"""Repaired annotations take the place of a data set's own, for training and for evaluation."""

import json
import os
from functools import partial
from pathlib import Path

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import load_coco_json

from .check import Checked

_SEPARATORS = (",", ":")


def use_repaired(found: Checked, folder: str | os.PathLike[str]) -> Path | None:
    """Write the annotations of a check, and let the data set's name stand for them.

    pycocotools and detectron2 both read the annotations from a file, so that this one has its
    effect wherever the name is used in this process.

    Args:
        found: without errors.
        folder: where ``NAME.json`` is written; made if need be.

    Returns:
        The file, or None where nothing had to be changed.
    """
    name = found.report.name
    metadata = MetadataCatalog.get(name)
    if not found.report.changes_annotations or metadata.get("evaluator_type") != "coco":
        return None
    file = Path(folder) / f"{name}.json"
    # Every process writes its own, the same content, and the last stays.
    partial_file = file.with_name(f".{file.name}.{os.getpid()}.partial")
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        partial_file.write_text(json.dumps(found.content, separators=_SEPARATORS))
        partial_file.replace(file)
    finally:
        partial_file.unlink(missing_ok=True)
    others = {key: value for key, value in metadata.as_dict().items() if key != "name"}
    DatasetCatalog.remove(name)
    MetadataCatalog.remove(name)
    DatasetCatalog.register(name, partial(load_coco_json, str(file), others["image_root"], name))
    MetadataCatalog.get(name).set(**{**others, "json_file": str(file)})
    return file
