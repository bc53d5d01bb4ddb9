"""Shapes as data sets of detectron2: ``shapes_train`` and ``shapes_val``."""

import os
from functools import partial
from pathlib import Path
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import load_coco_json

from .options import CATEGORY_IDS, SPLITS, THING_CLASSES
from .writing import json_path


def default_root() -> Path:
    """The folder that holds all data sets: $DETECTRON2_DATASETS, or ``datasets``, as detectron2."""
    return Path(os.environ.get("DETECTRON2_DATASETS", "datasets")).expanduser()


def register_shapes(root: str | os.PathLike[str] | None = None) -> None:
    """Register ``shapes_train`` and ``shapes_val``, to be loaded from the folder ``root/shapes``.

    Importing ``dnl_det`` does so for the default; call it for data elsewhere. It does what
    detectron2's ``register_coco_instances`` does, but the classes are known before the data is
    loaded, and the error for absent data says how to make it.

    Args:
        root: the folder that holds all data sets; ``default_root()`` if None.
    """
    folder = (default_root() if root is None else Path(root)) / "shapes"
    for split in SPLITS:
        name, json_file = f"shapes_{split}", str(json_path(folder, split))
        if name in DatasetCatalog.list():
            if MetadataCatalog.get(name).get("json_file") == json_file:
                continue
            DatasetCatalog.remove(name)
            MetadataCatalog.remove(name)
        image_root = str(folder / split)
        DatasetCatalog.register(name, partial(_load, json_file, image_root, name))
        MetadataCatalog.get(name).set(
            json_file=json_file,
            image_root=image_root,
            evaluator_type="coco",
            thing_classes=list(THING_CLASSES),
            thing_dataset_id_to_contiguous_id={
                identity: index for index, identity in enumerate(CATEGORY_IDS.values())
            },
        )


def _load(json_file: str, image_root: str, name: str) -> list[dict[str, Any]]:
    """The records of a data set in detectron2's format."""
    if not Path(json_file).is_file():
        folder = Path(image_root).parent
        raise FileNotFoundError(
            f"data set {name}: {json_file} does not exist. Make it with `python -m dnl_det shapes "
            f"--output {folder}`, or set DETECTRON2_DATASETS to the folder that holds shapes/"
        )
    return load_coco_json(json_file, image_root, name)
