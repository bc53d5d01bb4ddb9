"""Shapes as data sets of detectron2.

``shapes_train`` and ``shapes_val`` for detection, ``shapes_sem_seg_train`` and
``shapes_sem_seg_val`` for semantic segmentation.
"""

import os
from functools import partial
from pathlib import Path
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import load_coco_json, load_sem_seg

from ..registering import default_root, register
from .options import CATEGORY_IDS, SPLITS, THING_CLASSES
from .writing import json_path, label_folder


def register_shapes(root: str | os.PathLike[str] | None = None) -> None:
    """Register the data sets of Shapes, to be loaded from the folder ``root/shapes``.

    Importing ``dnl_det`` does so for the default; call it for data elsewhere. It does what
    detectron2's ``register_coco_instances`` does, but the classes are known before the data is
    loaded, and the error for absent data says how to make it.

    Args:
        root: the folder that holds all data sets; ``default_root()`` if None.
    """
    folder = (default_root() if root is None else Path(root)) / "shapes"
    for split in SPLITS:
        name, json_file = f"shapes_{split}", str(json_path(folder, split))
        if name in DatasetCatalog and MetadataCatalog.get(name).get("json_file") == json_file:
            continue
        image_root, labels = str(folder / split), str(label_folder(folder, split))
        register(
            name,
            partial(_load_coco, json_file, image_root, name),
            json_file=json_file,
            image_root=image_root,
            evaluator_type="coco",
            thing_classes=list(THING_CLASSES),
            thing_dataset_id_to_contiguous_id={
                identity: index for index, identity in enumerate(CATEGORY_IDS.values())
            },
        )
        name = f"shapes_sem_seg_{split}"
        register(
            name,
            partial(_load_labels, labels, image_root, name),
            image_root=image_root,
            sem_seg_root=labels,
            evaluator_type="sem_seg",
            stuff_classes=["background", *THING_CLASSES],
            ignore_label=255,
        )


def _load_coco(json_file: str, image_root: str, name: str) -> list[dict[str, Any]]:
    _check_exists(json_file, image_root, name)
    return load_coco_json(json_file, image_root, name)


def _load_labels(labels: str, image_root: str, name: str) -> list[dict[str, Any]]:
    _check_exists(labels, image_root, name)
    return load_sem_seg(labels, image_root, image_ext="bmp")


def _check_exists(path: str, image_root: str, name: str) -> None:
    if not Path(path).exists():
        folder = Path(image_root).parent
        raise FileNotFoundError(
            f"data set {name}: {path} does not exist. Make it with `python -m dnl_det shapes "
            f"--output {folder}`, or set DETECTRON2_DATASETS to the folder that holds shapes/"
        )
