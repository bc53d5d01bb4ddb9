"""Choose the evaluators of a data set by its registered type."""

import os
from importlib.util import find_spec

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.evaluation import (
    CityscapesInstanceEvaluator,
    DatasetEvaluator,
    DatasetEvaluators,
    LVISEvaluator,
    PascalVOCDetectionEvaluator,
)

from .cityscapes import CityscapesEvaluator
from .coco import CheckedCOCOEvaluator, HotCOCOEvaluator
from .panoptic import PanopticEvaluator
from .semantic import CheckedSemSegEvaluator

# By "evaluator_type" of the metadata.
_OTHERS = {
    "cityscapes_instance": CityscapesInstanceEvaluator,
    "pascal_voc": PascalVOCDetectionEvaluator,
    "lvis": LVISEvaluator,
}


def build_evaluator(
    cfg: CfgNode, dataset_name: str, output_folder: str | None = None
) -> DatasetEvaluator:
    """Box and mask AP for COCO-format data; semantic and panoptic quality where there is such.

    AP is computed by hotcoco where it is installed, else by pycocotools (or detectron2's own C++
    where that is built): the same numbers, sooner or later.

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
    if kind == "cityscapes_sem_seg":
        return CityscapesEvaluator(dataset_name, folder)

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
            f"cityscapes_sem_seg, coco_panoptic_seg, {', '.join(_OTHERS)}"
        )
    return evaluators[0] if len(evaluators) == 1 else DatasetEvaluators(evaluators)


def _coco_evaluator(cfg: CfgNode, dataset_name: str, folder: str) -> CheckedCOCOEvaluator:
    # Left to itself, the evaluator takes the tasks from the detections, and reports no mask AP
    # where there are none.
    model, limit = cfg.MODEL, cfg.TEST.DETECTIONS_PER_IMAGE
    tasks = ("bbox", "segm") if model.MASK_ON else ("bbox",)
    options = {"output_dir": folder, "detections_per_image": limit}
    if model.KEYPOINT_ON:
        tasks, options["kpt_oks_sigmas"] = (*tasks, "keypoints"), cfg.TEST.KEYPOINT_OKS_SIGMAS
    if find_spec("hotcoco"):
        return HotCOCOEvaluator(dataset_name, tasks, **options)
    return CheckedCOCOEvaluator(dataset_name, tasks, **options)
