"""What the config's augmentations may be: asked before a loader's process fails at an image."""

import importlib.util
from operator import attrgetter

from detectron2.config import CfgNode

_CROPS = ("relative_range", "relative", "absolute", "absolute_range")
_CHOICES = {
    "RANDOM_FLIP": ("horizontal", "vertical", "none"),
    "MIN_SIZE_TRAIN_SAMPLING": ("choice", "range"),
    "MASK_FORMAT": ("polygon", "bitmask"),
}


def check_augmentations(cfg: CfgNode) -> None:
    """Check the keys of ``INPUT`` that detectron2 makes the augmentations of a training of.

    Raises:
        ValueError: a value that is not allowed, with its key.
    """
    for key, allowed in _CHOICES.items():
        _require(cfg, key, cfg.INPUT[key] in allowed, "one of " + ", ".join(allowed))
    lengths = cfg.INPUT.MIN_SIZE_TRAIN
    _require(cfg, "MIN_SIZE_TRAIN", len(lengths) > 0, "one length or several")
    if cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING == "range":
        in_order = len(lengths) == 2 and lengths[0] <= lengths[1]
        what = "two lengths, the smaller first, with MIN_SIZE_TRAIN_SAMPLING range"
        _require(cfg, "MIN_SIZE_TRAIN", in_order, what)
    if cfg.INPUT.CROP.ENABLED:
        _check_crop(cfg)


def _check_crop(cfg: CfgNode) -> None:
    if importlib.util.find_spec("shapely") is None:
        raise ValueError("INPUT.CROP.ENABLED: True cuts polygons by shapely: pip install shapely")
    kind, size = cfg.INPUT.CROP.TYPE, cfg.INPUT.CROP.SIZE
    _require(cfg, "CROP.TYPE", kind in _CROPS, "one of " + ", ".join(_CROPS))
    if kind.startswith("relative"):
        right = all(isinstance(part, (int, float)) and 0 < part <= 1 for part in size)
        what = "two shares of height and width, above 0 and up to 1,"
    else:
        right = all(type(part) is int and part > 0 for part in size)
        what = "two whole numbers of pixels from 1 on"
        if kind == "absolute_range":
            right = right and list(size) == sorted(size)
            what += ", the smaller first,"
    _require(cfg, "CROP.SIZE", len(size) == 2 and right, f"{what} with CROP.TYPE {kind}")


def _require(cfg: CfgNode, key: str, right: bool, what: str) -> None:
    if not right:
        raise ValueError(f"INPUT.{key}: {attrgetter(key)(cfg.INPUT)!r} must be {what}")
