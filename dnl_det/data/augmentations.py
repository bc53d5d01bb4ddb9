"""The augmentations of a training: what the config's keys may be, and those that are ours."""

import copy
import importlib.util
from collections.abc import Sequence
from operator import attrgetter

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import transforms as T

from ..mmdet1 import MMDet1RCNN

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
    scales = cfg.INPUT.SCALE_RANGE
    numbers = all(isinstance(v, (int, float)) and v > 0 for v in scales)
    in_order = len(scales) == 2 and numbers and scales[0] <= scales[1]
    _require(cfg, "SCALE_RANGE", not scales or in_order, "two factors above 0, the smaller first")
    inclusive = cfg.MODEL.META_ARCHITECTURE == MMDet1RCNN.__name__
    _require(cfg, "SCALE_RANGE", not (scales and inclusive), "[] with the boxes of MMDet1RCNN")
    if cfg.INPUT.COLOR_AUG_SSD:
        _require(cfg, "FORMAT", cfg.INPUT.FORMAT in ("BGR", "RGB"), "BGR or RGB with COLOR_AUG_SSD")
    share = cfg.INPUT.CROP.SINGLE_CATEGORY_MAX_AREA
    _require(cfg, "CROP.SINGLE_CATEGORY_MAX_AREA", 0 < share <= 1, "a share above 0 and up to 1")
    if cfg.INPUT.CROP.ENABLED:
        _check_crop(cfg)


def is_semantic(cfg: CfgNode) -> bool:
    """Whether the model learns semantic segmentation alone: labels of pixels and no objects."""
    return cfg.MODEL.META_ARCHITECTURE in ("SemanticSegmentor", "DNLSemanticSegmentor")


def order_for_labels(
    cfg: CfgNode, augmentations: list[T.Augmentation | T.Transform]
) -> list[T.Augmentation | T.Transform]:
    """The augmentations of a training of semantic segmentation.

    As in mmsegmentation and detectron2's DeepLab, an image is resized before it is cropped: the
    crop is what a batch is made of. The crop's rule is that of
    ``INPUT.CROP.SINGLE_CATEGORY_MAX_AREA``.

    Args:
        cfg: of the training.
        augmentations: detectron2's, the crop first if there is one.
    """
    if not cfg.INPUT.CROP.ENABLED:
        return augmentations
    crop = T.RandomCrop_CategoryAreaConstraint(
        cfg.INPUT.CROP.TYPE,
        cfg.INPUT.CROP.SIZE,
        cfg.INPUT.CROP.SINGLE_CATEGORY_MAX_AREA,
        cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE,
    )
    _, resize, *others = augmentations
    return [resize, crop, *others]


class RandomScale(T.Augmentation):
    """Resizes by a random factor: the lengths that ``resize`` has, both multiplied by it.

    Args:
        resize: with ``short_edge_length``, one of which is drawn, and ``max_size``.
        scales: the smallest and the largest factor, drawn from uniformly.
    """

    def __init__(self, resize: T.ResizeShortestEdge, scales: Sequence[float]):
        super().__init__()
        self.resize, self.scales = resize, tuple(scales)

    def get_transform(self, image: np.ndarray) -> T.Transform:
        """The transform for one image ``(H, W, C)``."""
        smallest, largest = self.scales
        factor = np.random.uniform(smallest, largest)
        scaled = copy.copy(self.resize)
        # Whole pixels, rounded down: as mmsegmentation's RandomResize.
        lengths = [max(1, int(length * factor)) for length in self.resize.short_edge_length]
        scaled.short_edge_length, scaled.max_size = lengths, int(self.resize.max_size * factor)
        return scaled.get_transform(image)


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
