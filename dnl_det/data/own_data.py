"""One's own COCO-format data, from config keys instead of code."""

import logging
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances

from .check import read_coco_json

_SPLITS = {"TRAIN": ("own_train", "TRAIN"), "VAL": ("own_val", "TEST")}


def use_own_data(cfg: CfgNode) -> bool:
    """Register what ``DATASETS.{TRAIN,VAL}_{JSON,IMAGES}`` name and put it into the config.

    ``DATASETS.TRAIN`` and ``TEST`` become the data sets ``own_train`` and ``own_val``, and the
    numbers of classes those of the JSON. With training data alone, ``TEST`` is emptied.

    Args:
        cfg: with the keys of ``add_dnl_config``; changed in place.

    Returns:
        Whether any own data are set.

    Raises:
        ValueError: a JSON without its folder or the other way round, or with other categories in
            training than in validation.
        FileNotFoundError: a JSON or a folder that is not there.
    """
    categories: dict[str, list[Any]] = {}
    for split, (name, key) in _SPLITS.items():
        json_file, images = cfg.DATASETS[f"{split}_JSON"], cfg.DATASETS[f"{split}_IMAGES"]
        if bool(json_file) != bool(images):
            given, missing = ("JSON", "IMAGES") if json_file else ("IMAGES", "JSON")
            raise ValueError(
                f"DATASETS.{split}_{given} is set and DATASETS.{split}_{missing} is not: give both "
                f"(--{split.lower()}-json and --{split.lower()}-images)"
            )
        if json_file:
            categories[split] = _register(name, json_file, images)
            cfg.DATASETS[key] = (name,)

    if not categories:
        return False
    if "VAL" not in categories:
        cfg.DATASETS.TEST = ()
        logging.getLogger(__name__).warning(
            "DATASETS.VAL_JSON is not set: this training is not evaluated."
        )
    if len(categories) == 2 and categories["TRAIN"] != categories["VAL"]:
        raise ValueError(
            f"DATASETS.TRAIN_JSON and VAL_JSON differ in their categories: "
            f"{categories['TRAIN']} and {categories['VAL']}; both need the same ids and names"
        )
    count = len(next(iter(categories.values())))
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = count
    cfg.MODEL.RETINANET.NUM_CLASSES = count
    return True


def _register(name: str, json_file: str, images: str) -> list[tuple[int, str]]:
    if not Path(images).is_dir():
        raise FileNotFoundError(
            f"data set {name}: there is no folder {images}, in which the images that {json_file} "
            "names should be"
        )
    if name in DatasetCatalog.list():
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)
    register_coco_instances(name, {}, json_file, images)
    content = read_coco_json(json_file, name, annotated=name == "own_train")
    return sorted((category["id"], category["name"]) for category in content["categories"])
