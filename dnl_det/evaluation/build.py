"""Choose the evaluators of a data set by its registered type."""

import importlib.util
import os

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.evaluation import (
    CityscapesInstanceEvaluator,
    CityscapesSemSegEvaluator,
    DatasetEvaluator,
    DatasetEvaluators,
    LVISEvaluator,
    PascalVOCDetectionEvaluator,
)

from .coco import CheckedCOCOEvaluator
from .faster_coco import TASKS, FasterCOCOEvaluator
from .panoptic import PanopticEvaluator
from .semantic import CheckedSemSegEvaluator

# By "evaluator_type" of the metadata.
_OTHERS = {
    "cityscapes_instance": CityscapesInstanceEvaluator,
    "cityscapes_sem_seg": CityscapesSemSegEvaluator,
    "pascal_voc": PascalVOCDetectionEvaluator,
    "lvis": LVISEvaluator,
}


def build_evaluator(
    cfg: CfgNode, dataset_name: str, output_folder: str | None = None
) -> DatasetEvaluator:
    """Box and mask AP for COCO-format data; semantic and panoptic quality where there is such.

    AP is computed by faster-coco-eval where it is installed, else by pycocotools (or detectron2's
    own C++ where that is built): the same numbers, sooner or later.

    Args:
        cfg: for ``OUTPUT_DIR``, ``TEST.DETECTIONS_PER_IMAGE``, ``MODEL.MASK_ON`` and
            ``MODEL.KEYPOINT_ON``.
        dataset_name: a registered data set.
        output_folder: where results are written; ``OUTPUT_DIR/inference`` if None.

    Raises:
        ValueError: no evaluator for that type of data.
        LabelError: images without semantic labels in data that are to have them.
    """
    folder = output_folder or os.path.join(cfg.OUTPUT_DIR, "inference")
    kind = MetadataCatalog.get(dataset_name).get("evaluator_type")
    if kind in _OTHERS:
        return _OTHERS[kind](dataset_name)

    evaluators: list[DatasetEvaluator] = []
    if kind in ("sem_seg", "coco_panoptic_seg"):
        evaluators.append(CheckedSemSegEvaluator(dataset_name, folder))
    if kind in ("coco", "coco_panoptic_seg"):
        evaluators.insert(0, _coco_evaluator(cfg, dataset_name, folder))
    if kind == "coco_panoptic_seg":
        evaluators.append(PanopticEvaluator(dataset_name))
    if not evaluators:
        raise ValueError(
            f"data set {dataset_name!r} has evaluator_type {kind!r}: must be one of coco, sem_seg, "
            f"coco_panoptic_seg, {', '.join(_OTHERS)}"
        )
    return evaluators[0] if len(evaluators) == 1 else DatasetEvaluators(evaluators)


def _coco_evaluator(cfg: CfgNode, dataset_name: str, folder: str) -> CheckedCOCOEvaluator:
    """The faster one where its package is installed; keypoints it has not."""
    tasks, limit = _tasks(cfg), cfg.TEST.DETECTIONS_PER_IMAGE
    if set(tasks) <= set(TASKS) and importlib.util.find_spec("faster_coco_eval"):
        return FasterCOCOEvaluator(
            dataset_name, tasks, output_dir=folder, detections_per_image=limit
        )
    return CheckedCOCOEvaluator(
        dataset_name,
        tasks,
        output_dir=folder,
        detections_per_image=limit,
        kpt_oks_sigmas=cfg.TEST.KEYPOINT_OKS_SIGMAS,
    )


def _tasks(cfg: CfgNode) -> tuple[str, ...]:
    # Left to itself, the evaluator takes them from the detections, and reports no mask AP where
    # there are none.
    masks = ("segm",) if cfg.MODEL.MASK_ON else ()
    keypoints = ("keypoints",) if cfg.MODEL.KEYPOINT_ON else ()
    return ("bbox", *masks, *keypoints)
