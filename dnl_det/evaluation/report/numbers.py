"""Errors, confusions and operating points of an evaluation by hotcoco, as plain numbers."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

# Of a detection and an object that match, in everything but AP.
IOU = 0.5
# Below, an overlap is none: TIDE's bound of detections of the background.
BACKGROUND_IOU = 0.1
Numbers = dict[str, Any]


def analyse(evaluation: Any, precision: float, threshold: float) -> Numbers:
    """The numbers of a report.

    Args:
        evaluation: an accumulated ``hotcoco.COCOeval`` of boxes or masks.
        precision: wanted, 0 to 1, see :func:`operating_point`.
        threshold: the lowest score that counts in the confusion matrix, 0 to 1.

    Returns:
        ``metrics``: AP and AR as COCO defines them, and the best F1, 0 to 1; -1: there is none.
        ``tide``: by type of error what AP50 would gain without it, and how many there are
        (Bolya et al., "TIDE", ECCV 2020).
        ``confusion``: ``matrix[i][j]``, objects of class i found as class j; the last row are
        detections without an object, the last column objects that are not found.
        ``operating_point``: of all classes together; ``classes``: AP, objects and operating point
        of each, by its id; ``images``: AP and counts of each with objects or detections, the worst
        first.
    """
    evaluation.summary_lines()  # computes the metrics, prints nothing
    diagnosis = evaluation.image_diagnostics(iou_thr=IOU)
    found: dict[int, list[tuple[float, bool]]] = defaultdict(list)
    status = diagnosis["dt_status"]
    for one in evaluation.coco_dt.dataset["annotations"]:
        if one["id"] in status:
            found[one["category_id"]].append((one["score"], status[one["id"]] == "tp"))
    objects = Counter(
        one["category_id"]
        for one in evaluation.coco_gt.dataset["annotations"]
        if one["id"] in diagnosis["gt_status"]
    )
    tide = evaluation.tide_errors(pos_thr=IOU, bg_thr=BACKGROUND_IOU)
    confusion = evaluation.confusion_matrix(iou_thr=IOU, min_score=threshold)
    precisions = evaluation.eval["precision"][..., 0, -1]  # IoU, recall, class
    ids = list(evaluation.params.catIds)
    classes = []
    for category in evaluation.coco_gt.dataset["categories"]:
        key = category["id"]
        values = precisions[..., ids.index(key)]
        values = values[values > -1]
        classes.append(
            {
                "id": key,
                "objects": objects[key],
                "AP": float(values.mean()) if values.size else None,
                "operating_point": operating_point(found[key], objects[key], precision),
            }
        )
    pooled = [one for of_class in found.values() for one in of_class]
    return {
        "iou": IOU,
        "threshold": threshold,
        "wanted_precision": precision,
        "metrics": {**evaluation.report()["metrics"], **evaluation.f_scores()},
        "tide": {"AP50": tide["ap_base"], "gain": tide["delta_ap"], "counts": tide["counts"]},
        "confusion": {
            "classes": [int(k) for k in confusion["cat_ids"]],
            "matrix": confusion["matrix"].tolist(),
        },
        "operating_point": operating_point(pooled, objects.total(), precision),
        "classes": classes,
        "images": _images(evaluation, diagnosis),
    }


def operating_point(
    detections: Sequence[tuple[float, bool]], objects: int, precision: float
) -> dict[str, float] | None:
    """The lowest score from which on detections have a precision.

    Args:
        detections: of each its score, and whether it is right.
        objects: how many there are to find.
        precision: wanted, 0 to 1.

    Returns:
        ``threshold``, a score; ``precision``, ``recall`` of the detections with that score or
        more; how many are ``right`` and ``wrong``. None where no threshold gives that precision.
    """
    if not detections or not objects:
        return None
    scores, right = (np.array(values) for values in zip(*detections, strict=True))
    order = np.argsort(-scores, kind="stable")
    scores, found = scores[order], np.cumsum(right[order])
    precisions = found / np.arange(1, len(found) + 1)
    # Of equal scores, a threshold takes all or none.
    last = np.append(scores[1:] != scores[:-1], True)
    enough = np.flatnonzero(last & (precisions >= precision))
    if not enough.size:
        return None
    at = enough[-1]
    return {
        "threshold": float(scores[at]),
        "precision": float(precisions[at]),
        "recall": float(found[at] / objects),
        "right": int(found[at]),
        "wrong": int(at + 1 - found[at]),
    }


def _images(evaluation: Any, diagnosis: Numbers) -> list[Numbers]:
    names = {image["id"]: image["file_name"] for image in evaluation.coco_gt.dataset["images"]}
    rows = [
        {
            "id": image,
            "file_name": names[image],
            "AP50": max(found["ap"], 0.0),
            "right": found["tp"],
            "wrong": found["fp"],
            "missed": found["fn"],
        }
        for image, found in diagnosis["img_summary"].items()
        if found["tp"] + found["fp"] + found["fn"]
    ]
    return sorted(rows, key=lambda row: (row["AP50"], -row["missed"], -row["wrong"], row["id"]))
