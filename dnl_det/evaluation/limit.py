"""AP of more detections than COCO counts."""

from typing import Any

import numpy as np

# How many detections COCO counts, of each class in each image, the best ones.
COCO_LIMIT = 100
# COCO's limits: AP has the last, average recall all three.
COCO_LIMITS = (1, 10, COCO_LIMIT)
_AREAS = {"": "all", "s": "small", "m": "medium", "l": "large"}


def take_beyond_coco(evaluation: Any) -> dict[str, float]:
    """AP at the last of ``params.maxDets`` where that is beyond COCO's, which remain.

    Args:
        evaluation: a ``COCOeval`` of boxes or masks that has accumulated; changed in place.

    Returns:
        ``AP@300``, ``AP50@300``, ``AP75@300``, ``APs@300``, ``APm@300`` and ``APl@300`` in percent
        where the limit is 300; NaN where no object has such an area. Nothing at COCO's own limits.
    """
    *rest, limit = evaluation.params.maxDets
    if tuple(rest) != COCO_LIMITS:
        return {}
    precision = evaluation.eval["precision"]  # (IoU, recall, class, area, limit)
    for key in ("precision", "recall", "scores"):
        evaluation.eval[key] = evaluation.eval[key][..., :-1]
    evaluation.params.maxDets = rest
    thresholds, labels = list(evaluation.params.iouThrs), evaluation.params.areaRngLbl
    chosen = {
        f"AP{suffix}": precision[..., labels.index(area), -1] for suffix, area in _AREAS.items()
    }
    for suffix, threshold in (("50", 0.5), ("75", 0.75)):
        chosen[f"AP{suffix}"] = chosen["AP"][int(np.isclose(thresholds, threshold).argmax())]
    order = ("AP", "AP50", "AP75", "APs", "APm", "APl")
    return {f"{name}@{limit}": _mean(chosen[name]) for name in order}


def _mean(precision: np.ndarray) -> float:
    defined = precision[precision > -1]  # -1: the class has no such objects
    return 100 * float(defined.mean()) if defined.size else float("nan")
