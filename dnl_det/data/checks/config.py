"""All data sets of a config checked together, against each other and against its classes."""

import logging
import os
from collections.abc import Sequence
from operator import attrgetter
from pathlib import Path

from detectron2.config import CfgNode
from detectron2.utils import comm

from ..augmentations import is_semantic
from .dataset import Checked, Use, check_dataset, raise_errors
from .findings import REPAIRED, SKIPPED, DataError
from .repaired import leave_out, read_from, write_repaired

# Which key counts the classes, by MODEL.META_ARCHITECTURE; others count none, or are not known.
_CLASSES = {
    "GeneralizedRCNN": "MODEL.ROI_HEADS.NUM_CLASSES",
    "MMDet1RCNN": "MODEL.ROI_HEADS.NUM_CLASSES",
    "PanopticFPN": "MODEL.ROI_HEADS.NUM_CLASSES",
    "RetinaNet": "MODEL.RETINANET.NUM_CLASSES",
    "SemanticSegmentor": "MODEL.SEM_SEG_HEAD.NUM_CLASSES",
    "DNLSemanticSegmentor": "MODEL.SEM_SEG_HEAD.NUM_CLASSES",
}


def check_config(
    cfg: CfgNode, training: bool = True, thorough: bool = False, progress: bool = False
) -> list[Checked]:
    """Check ``DATASETS.TRAIN`` and ``TEST``.

    Args:
        cfg: of a run, its own data registered.
        training: False: ``TEST`` alone.
        thorough: see :class:`Use`.
        progress: see :class:`Use`.

    Returns:
        One for each data set.

    Raises:
        ValueError: no data set of a name.
    """
    test = list(cfg.DATASETS.TEST)
    train = [name for name in cfg.DATASETS.TRAIN if name not in test] if training else []
    found = []
    for name in [*train, *test]:
        use = Use(
            evaluation=name in test,
            masks=bool(cfg.MODEL.MASK_ON),
            labels=is_semantic(cfg),
            keypoints=cfg.MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS if cfg.MODEL.KEYPOINT_ON else 0,
            max_json_mb=cfg.DATASETS.MAX_JSON_MB,
            thorough=thorough,
            progress=progress,
        )
        found.append(check_dataset(name, use))
    for index, one in enumerate(found):
        _check_classes(cfg, one)
        _compare(one, found[:index])
    return found


def class_count(cfg: CfgNode) -> int | None:
    """How many classes a config's model has; None where no key is known to say it.

    Of things, but of all where it is a model for semantic segmentation.
    """
    key = _CLASSES.get(cfg.MODEL.META_ARCHITECTURE)
    return int(attrgetter(key)(cfg)) if key else None


# By data set: how many images can be used, 0 where it is not in COCO's format; the file with its
# repaired annotations; the images to leave out. And whether masks to learn are RLE, which
# detectron2 reads only as bitmasks.
_Prepared = tuple[dict[str, int], dict[str, Path], dict[str, frozenset[str]], bool]


def prepare_data(cfg: CfgNode, training: bool, folder: str | os.PathLike[str]) -> dict[str, int]:
    """Check the data of a run, log what is found, and let repairs take their effect.

    Of several processes one on each machine checks, which takes time and memory, and the others
    wait for what it found.

    Args:
        cfg: not frozen: ``INPUT.MASK_FORMAT`` becomes ``bitmask`` where objects have RLE.
        training: False: ``DATASETS.TEST`` alone.
        folder: where repaired annotations are written.

    Returns:
        The number of images of each data set; 0 where it is not in COCO's format.

    Raises:
        ValueError: no data set of a name.
        DataError: all that cannot be repaired.
    """
    prepared: _Prepared | Exception | None = None
    if comm.get_local_rank() == 0:
        try:
            prepared = _check_and_write(cfg, training, folder)
        except (ValueError, OSError) as error:
            prepared = error
    first_here = comm.get_rank() - comm.get_local_rank()
    prepared = comm.all_gather(prepared)[first_here]
    if isinstance(prepared, Exception):
        if comm.get_local_rank() == 0:
            raise prepared
        raise DataError(f"the data cannot be used: process {first_here} says why")
    assert prepared is not None
    images, repaired, left_out, bitmasks = prepared
    for name, file in repaired.items():
        read_from(name, file)
    for name, files in left_out.items():
        leave_out(name, files)
    if bitmasks:
        cfg.INPUT.MASK_FORMAT = "bitmask"
    return images


def _check_and_write(cfg: CfgNode, training: bool, folder: str | os.PathLike[str]) -> _Prepared:
    found = check_config(cfg, training)
    raise_errors([one.report for one in found])
    logger = logging.getLogger(__name__)
    repaired, bitmasks = {}, False
    for one in found:
        report = one.report
        if report.findings:
            changed = report.count(SKIPPED) + report.count(REPAIRED)
            logger.log(logging.WARNING if changed else logging.INFO, report.text(examples=2))
        if file := write_repaired(one, folder):
            repaired[report.name] = file
            logger.warning(f"data set {report.name}: its annotations are now those of {file}")
        elif report.changes_annotations:
            logger.warning(f"data set {report.name}: panoptic annotations are used as they are")
        learnt = training and report.name in cfg.DATASETS.TRAIN and cfg.MODEL.MASK_ON
        bitmasks |= bool(learnt and report.count(REPAIRED, "mask-rle"))
    images = {one.report.name: len(one.content.get("images", ())) for one in found}
    left_out = {one.report.name: one.left_out for one in found if one.left_out}
    return images, repaired, left_out, bitmasks


def _check_classes(cfg: CfgNode, found: Checked) -> None:
    wanted = class_count(cfg)
    known = len(found.categories)
    if is_semantic(cfg) and not found.report.has_errors:
        known = found.report.categories
    if wanted is not None and known and wanted != known:
        key = _CLASSES[cfg.MODEL.META_ARCHITECTURE]
        text = f"{found.report.categories} categories, and {key} is {wanted}"
        found.report.add("class-count", text)


def _compare(found: Checked, before: Sequence[Checked]) -> None:
    if not found.categories:
        return
    for other in before:
        if other.categories and other.categories != found.categories:
            differ = set(other.categories) ^ set(found.categories)
            some = ", ".join(f"{identity} {name!r}" for identity, name in sorted(differ)[:5])
            text = f"{other.report.name} and {found.report.name} differ, such as in {some}"
            found.report.add("categories-differ", text)
            return
