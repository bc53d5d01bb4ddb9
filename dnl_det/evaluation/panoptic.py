"""Panoptic quality: how well every pixel's segment and class are found."""

import itertools
import json
import logging
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.evaluation import COCOPanopticEvaluator
from detectron2.utils import comm
from PIL import Image
from tabulate import tabulate

_NAMES = ("PQ", "SQ", "RQ")
_VOID = 0  # the id of pixels that no segment has

# By category: the sum of the matched segments' IoU, and how many are matched (TP), found without
# an annotation (FP), and annotated without being found (FN).
Counts = dict[int, dict[str, float]]


class PanopticEvaluator(COCOPanopticEvaluator):
    """PQ, SQ and RQ as panopticapi, which is on no package index, computes them.

    A found and an annotated segment of one category match where their IoU is above 0.5; then, of
    each category that is found or annotated::

        SQ = sum of matched IoU / TP,  RQ = TP / (TP + FP / 2 + FN / 2),  PQ = SQ * RQ

    The IoU does not count the found segment's pixels without an annotation. What is found is no FP
    where more than half of it has no annotation or lies in a crowd of its category.
    Reference: Kirillov et al., "Panoptic Segmentation", CVPR 2019.

    Args:
        dataset_name: registered with ``panoptic_json`` and ``panoptic_root``.
    """

    def __init__(self, dataset_name: str):
        super().__init__(dataset_name)
        content = json.loads(Path(self._metadata.panoptic_json).read_text("utf-8"))
        self._annotations = {a["image_id"]: a for a in content["annotations"]}
        self._is_thing = {c["id"]: bool(c["isthing"]) for c in content["categories"]}

    def process(self, inputs: list[dict[str, Any]], outputs: list[dict[str, Any]]) -> None:
        """Count the segments of some images, each output with ``panoptic_seg``.

        Raises:
            ValueError: an image without panoptic annotations.
        """
        for image, output in zip(inputs, outputs, strict=True):
            annotation = self._annotations.get(image["image_id"])
            if annotation is None:
                raise ValueError(
                    f"{self._metadata.panoptic_json} has no annotations of image "
                    f"{image['image_id']} ({image['file_name']}): add them, or remove the image "
                    "from the data set"
                )
            with Image.open(Path(self._metadata.panoptic_root) / annotation["file_name"]) as file:
                colors = np.array(file.convert("RGB"), dtype=np.int64)
            ids, segments = output["panoptic_seg"]
            self._predictions.append(
                count_segments(
                    colors @ (1, 256, 256**2),
                    annotation["segments_info"],
                    ids.cpu().numpy().astype(np.int64),
                    [self._convert_category_id(dict(segment)) for segment in segments],
                )
            )

    def evaluate(self) -> dict[str, Any] | None:
        """PQ, SQ and RQ in percent: of all, of things (``_th``) and of stuff (``_st``)."""
        gathered = itertools.chain.from_iterable(comm.gather(self._predictions))
        if not comm.is_main_process():
            return None
        total: Counts = defaultdict(_zero)
        for counts in gathered:
            for category, counted in counts.items():
                for key, value in counted.items():
                    total[category][key] += value
        groups = {
            "": list(total),
            "_th": [category for category in total if self._is_thing[category]],
            "_st": [category for category in total if not self._is_thing[category]],
        }
        results = {}
        for suffix, group in groups.items():
            for name, value in zip(_NAMES, _mean(total[c] for c in group), strict=True):
                results[name + suffix] = value
        table = tabulate([results.values()], headers=list(results), tablefmt="pipe", floatfmt=".3f")
        logging.getLogger(__name__).info(f"Panoptic quality of {len(total)} categories:\n{table}")
        return {"panoptic_seg": results}


def count_segments(
    annotated: np.ndarray,
    annotations: list[dict[str, Any]],
    found: np.ndarray,
    detections: list[dict[str, Any]],
) -> Counts:
    """Match the segments of one image.

    Args:
        annotated, found: each pixel's segment id, ``(H, W)``, 0 for none.
        annotations, detections: for each segment its ``id`` and ``category_id``; an annotation
            may have ``iscrowd``.

    Returns:
        By category: ``iou``, ``tp``, ``fp`` and ``fn``.
    """
    pairs, sizes = np.unique(
        np.stack([annotated, found]).reshape(2, -1), axis=1, return_counts=True
    )
    overlap = Counter(dict(zip(map(tuple, pairs.T.tolist()), sizes.tolist(), strict=True)))
    area: Counter[tuple[str, int]] = Counter()
    for (there, here), size in overlap.items():
        area["annotated", there] += size
        area["found", here] += size

    counts: Counts = defaultdict(_zero)
    crowds: dict[int, list[int]] = defaultdict(list)
    matched = set()
    for annotation in annotations:
        identity, category = annotation["id"], annotation["category_id"]
        if annotation.get("iscrowd"):
            crowds[category].append(identity)
            continue
        for detection in detections:
            common = overlap[identity, detection["id"]]
            if detection["category_id"] != category or not common:
                continue
            union = area["annotated", identity] + area["found", detection["id"]] - common
            union -= overlap[_VOID, detection["id"]]
            if 2 * common > union:  # no other can reach as much
                counts[category]["iou"] += common / union
                counts[category]["tp"] += 1
                matched.add(detection["id"])
                break
        else:
            counts[category]["fn"] += 1
    for detection in detections:
        identity, category = detection["id"], detection["category_id"]
        ignored = sum(overlap[i, identity] for i in (_VOID, *crowds[category]))
        if identity not in matched and 2 * ignored <= area["found", identity]:
            counts[category]["fp"] += 1
    return counts


def _zero() -> dict[str, float]:
    return {"iou": 0.0, "tp": 0, "fp": 0, "fn": 0}


def _mean(counts: Iterable[dict[str, float]]) -> list[float]:
    """PQ, SQ and RQ in percent; NaN where there is no category."""
    rows = []
    for one in counts:
        sq = one["iou"] / one["tp"] if one["tp"] else 0.0
        rq = one["tp"] / (one["tp"] + one["fp"] / 2 + one["fn"] / 2)
        rows.append((sq * rq, sq, rq))
    return [100 * float(v) for v in np.mean(rows, axis=0)] if rows else [float("nan")] * 3
