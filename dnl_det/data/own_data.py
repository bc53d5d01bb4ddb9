"""One's own data, from config keys instead of code: COCO-format, or folders of label files."""

import logging
import os
from functools import partial
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import load_coco_json

from ..text import printable
from .augmentations import is_semantic
from .checks import Report, class_count, raise_errors
from .checks.entries import check_categories
from .checks.json_file import MAX_JSON_MB, read_json
from .keypoints import check_same_keypoints, use_keypoints
from .label_folders import read_classes, register_labels
from .registering import register

OWN_TRAIN = "own_train"
_SPLITS = {"TRAIN": (OWN_TRAIN, "TRAIN"), "VAL": ("own_val", "TEST")}
_ROBOFLOW = {"TRAIN": ("train",), "VAL": ("valid", "val")}
_ROBOFLOW_FILE = "_annotations.coco.json"
Categories = list[tuple[int, str]]


def roboflow_keys(folder: str) -> list[str]:
    """``KEY, VALUE, ...`` of a data set that Roboflow has exported in COCO's format.

    Args:
        folder: with ``train/_annotations.coco.json``, ``valid/`` likewise or both, and the images
            beside them.

    Raises:
        ValueError: neither is there.
    """
    keys = []
    for split, names in _ROBOFLOW.items():
        for name in names:
            if (file := Path(folder, name, _ROBOFLOW_FILE)).is_file():
                keys += [f"DATASETS.{split}_JSON", str(file)]
                keys += [f"DATASETS.{split}_IMAGES", str(file.parent)]
                break
    if not keys:
        raise ValueError(
            f"--data: {printable(folder)} has no train/{_ROBOFLOW_FILE} and no "
            f"valid/{_ROBOFLOW_FILE}: give a folder that Roboflow has exported as COCO, or name "
            "the files (--train-json, --train-images, --val-json, --val-images)"
        )
    return keys


def use_own_data(cfg: CfgNode, will_be_checked: bool = False) -> bool:
    """Register what ``DATASETS.{TRAIN,VAL}_{JSON,LABELS,IMAGES}`` name and put it into the config.

    ``DATASETS.TRAIN`` and ``TEST`` become the data sets ``own_train`` and ``own_val``, and the
    numbers of classes those of the JSON, or of ``DATASETS.CLASSES``. With training data alone,
    ``TEST`` is emptied.

    Args:
        cfg: with the keys of ``add_dnl_config``; changed in place.
        will_be_checked: leave what is wrong with files to a check that tells all at once.

    Returns:
        Whether any own data are set.

    Raises:
        ValueError: a JSON without its folder or the other way round, one that cannot be read, or
            with other categories in training than in validation; labels without classes, or for a
            model that learns objects, or a JSON for one that does not.
        FileNotFoundError: a JSON or a folder that is not there.
    """
    if any(cfg.DATASETS[f"{split}_LABELS"] for split in _SPLITS) or cfg.DATASETS.CLASSES:
        _use_label_folders(cfg, will_be_checked)
        return True
    categories: dict[str, Categories] = {}
    for split, (name, key) in _SPLITS.items():
        json_file, images = _both(cfg, split, "JSON", "IMAGES")
        if json_file:
            if is_semantic(cfg):
                raise ValueError(
                    f"DATASETS.{split}_JSON has objects, and MODEL.META_ARCHITECTURE "
                    f"{cfg.MODEL.META_ARCHITECTURE} learns the classes of pixels: give "
                    f"DATASETS.{split}_LABELS (--{split.lower()}-labels) in its place, and "
                    "DATASETS.CLASSES (--classes)"
                )
            if not will_be_checked:
                _check_paths(name, json_file, images)
            _register(name, json_file, images)
            report = Report(name)
            entries = _read_categories(json_file, report, cfg.DATASETS.MAX_JSON_MB)
            categories[split] = _ids_and_names(entries)
            if not will_be_checked:
                raise_errors([report])
            if cfg.MODEL.KEYPOINT_ON and entries:
                use_keypoints(cfg, name, entries)
            cfg.DATASETS[key] = (name,)

    if not categories:
        return False
    if "VAL" not in categories:
        cfg.DATASETS.TEST = ()
        logging.getLogger(__name__).warning(
            "DATASETS.VAL_JSON is not set: this training is not evaluated."
        )
    if len(categories) == 2 and categories["TRAIN"] != categories["VAL"] and not will_be_checked:
        raise ValueError(
            f"DATASETS.TRAIN_JSON and VAL_JSON differ in their categories: "
            f"{categories['TRAIN']} and {categories['VAL']}; both need the same ids and names"
        )
    if len(categories) == 2 and cfg.MODEL.KEYPOINT_ON:
        check_same_keypoints(*(name for name, _ in _SPLITS.values()))
    if count := len(next(iter(categories.values()))):
        cfg.MODEL.ROI_HEADS.NUM_CLASSES = count
        cfg.MODEL.RETINANET.NUM_CLASSES = count
    return True


def _both(cfg: CfgNode, split: str, *kinds: str) -> list[str]:
    """The values of two keys of a split, of which none or both are set."""
    values = [cfg.DATASETS[f"{split}_{kind}"] for kind in kinds]
    if any(values) and not all(values):
        given, missing = sorted(kinds, key=lambda kind: not cfg.DATASETS[f"{split}_{kind}"])
        options = " and ".join(f"--{split}-{kind}".lower() for kind in kinds)
        raise ValueError(
            f"DATASETS.{split}_{given} is set and DATASETS.{split}_{missing} is not: give both "
            f"({options})"
        )
    return values


def _use_label_folders(cfg: CfgNode, will_be_checked: bool) -> None:
    """The same of ``DATASETS.{TRAIN,VAL}_{LABELS,IMAGES}`` and ``CLASSES``."""
    keys, used = cfg.DATASETS, []
    if class_count(cfg) is not None and not is_semantic(cfg):
        raise ValueError(
            "DATASETS.TRAIN_LABELS, VAL_LABELS and CLASSES are of semantic segmentation, and "
            f"MODEL.META_ARCHITECTURE {cfg.MODEL.META_ARCHITECTURE} learns objects: give "
            "DATASETS.TRAIN_JSON, or another config, such as one of "
            "configs/Cityscapes-SemanticSegmentation"
        )
    if not keys.CLASSES:
        raise ValueError(
            "DATASETS.CLASSES is missing: name the classes (--classes), in the order of the labels "
            "from 0 on, with commas between them, or a text file with a name on each line"
        )
    classes = read_classes(keys.CLASSES)
    for split, (name, key) in _SPLITS.items():
        if keys[f"{split}_JSON"]:
            raise ValueError(
                f"DATASETS.{split}_JSON is set, and so are labels: a run learns objects or the "
                "classes of pixels; leave one away"
            )
        images, labels = _both(cfg, split, "IMAGES", "LABELS")
        if labels:
            if not will_be_checked:
                _check_folders(name, images, labels)
            register_labels(name, images, labels, classes, cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE)
            keys[key] = (name,)
            used.append(split)
    logger = logging.getLogger(__name__)
    if not used:
        raise ValueError(
            "DATASETS.CLASSES is set and no folder of labels: give DATASETS.TRAIN_IMAGES and "
            "TRAIN_LABELS (--train-images, --train-labels)"
        )
    if "VAL" not in used:
        keys.TEST = ()
        logger.warning("DATASETS.VAL_LABELS is not set: this training is not evaluated.")
    if not any("," in name for name in classes):
        keys.CLASSES = ",".join(classes)  # for the config of the run, which then needs no file
    head = cfg.MODEL.SEM_SEG_HEAD
    head.NUM_CLASSES = len(classes)
    if head.CLASS_WEIGHTS and len(head.CLASS_WEIGHTS) != len(classes):
        head.CLASS_WEIGHTS = []
        logger.info("MODEL.SEM_SEG_HEAD.CLASS_WEIGHTS are of other classes, and are not used.")


def _check_folders(name: str, *folders: str) -> None:
    for folder in folders:
        if not Path(folder).is_dir():
            raise FileNotFoundError(f"data set {name}: there is no folder {folder}")


def _read_categories(
    json_file: str | os.PathLike[str], report: Report, max_mb: int
) -> list[dict[str, Any]]:
    """A JSON's categories, annotated or not; none where the report gets errors."""
    content = read_json(os.fspath(json_file), report, max_mb, annotated=False)
    categories = check_categories(content["categories"], report) if content else []
    return [] if report.has_errors else categories


def _ids_and_names(categories: list[dict[str, Any]]) -> Categories:
    return [(category["id"], category["name"]) for category in categories]


def set_classes(name: str, max_mb: int = MAX_JSON_MB) -> None:
    """Set the class names and ids of a registered data set's metadata, from its JSON alone.

    Raises:
        FileNotFoundError: the JSON is not there.
        DataError: it cannot be read, or its categories cannot be used.
    """
    metadata = MetadataCatalog.get(name)
    json_file = metadata.get("json_file")
    if not json_file:
        DatasetCatalog.get(name)  # another format, whose loader sets them
        return
    if not os.path.exists(json_file):
        raise FileNotFoundError(f"data set {name}: there is no file {json_file}")
    report = Report(name)
    categories = _ids_and_names(_read_categories(json_file, report, max_mb))
    raise_errors([report])
    metadata.thing_classes = [name for _, name in categories]
    metadata.thing_dataset_id_to_contiguous_id = {
        identity: index for index, (identity, _) in enumerate(categories)
    }


def _check_paths(name: str, json_file: str, images: str) -> None:
    if not Path(images).is_dir():
        raise FileNotFoundError(
            f"data set {name}: there is no folder {images}, in which the images that {json_file} "
            "names should be"
        )
    if not Path(json_file).exists():
        raise FileNotFoundError(f"data set {name}: there is no file {json_file}")


def _register(name: str, json_file: str, images: str) -> None:
    register(
        name,
        partial(load_coco_json, json_file, images, name),
        json_file=json_file,
        image_root=images,
        evaluator_type="coco",
    )
