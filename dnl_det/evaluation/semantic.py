"""Semantic segmentation against labels that are checked.

K: classes, H, W: height, width.
"""

import itertools
import json
import logging
import math
import os
from typing import Any

import cv2
import numpy as np
import torch
from detectron2.data import MetadataCatalog
from detectron2.evaluation import SemSegEvaluator
from detectron2.utils import comm
from tabulate import tabulate

from ..data.labels import LabelError, check_label_size, check_label_values, read_labels
from ..files import write_whole
from ..text import table_cell
from .confusion import draw_confusion

# Of the image's diagonal: how far from its edge a region's boundary reaches.
_BOUNDARY = 0.02

logger = logging.getLogger(__name__)


class CheckedSemSegEvaluator(SemSegEvaluator):
    """detectron2's numbers, but for these cases.

    - A label that is no class is an error. There it would count as ignored, or as another pair of
      annotated and found class.
    - The boundary IoU of a class is of that class' boundary. There it is of differences between
      labels.
    - A class that is not annotated has no IoU, boundary IoU and accuracy (NaN), and no part in
      their means, even where it is found.
    - Files are written whole or not at all.

    It adds ``mBoundaryIoU``, a table of all classes in the log, and ``confusion_matrix.png``.

    Args:
        dataset_name: a registered data set, each image with ``sem_seg_file_name``.
        output_dir: where results are written; nowhere if None.

    Raises:
        LabelError: an image without labels; in ``process``, a label that is no class, or labels
            of another size than the prediction.
    """

    def __init__(self, dataset_name: str, output_dir: str | None = None):
        try:
            super().__init__(
                dataset_name, output_dir=output_dir, sem_seg_loading_fn=self._read_labels
            )
        except KeyError as error:
            if error.args != ("sem_seg_file_name",):
                raise
            raise LabelError(
                f"data set {dataset_name!r} has images without 'sem_seg_file_name', the semantic "
                f"labels that are evaluated: use '{dataset_name}_separated', which detectron2's "
                "register_coco_panoptic_separated registers with their folder, sem_seg_root"
            ) from None

    def reset(self) -> None:
        """Forget all images."""
        super().reset()
        # Pixels of each class' boundary: annotated, found, and both.
        self._boundaries = np.zeros((3, self._num_classes), dtype=np.int64)

    def process(self, inputs: list[dict[str, Any]], outputs: list[dict[str, Any]]) -> None:
        """Count the pixels of some images, each output with logits ``sem_seg`` ``(K, H, W)``."""
        for image, output in zip(inputs, outputs, strict=True):
            name = image["file_name"]
            found = output["sem_seg"].argmax(dim=0).cpu().numpy()  # (H, W)
            labels = self._labels_of(name, output["sem_seg"].shape)
            self._predictions.extend(self.encode_json_sem_seg(found, name))

            ignored = labels == self._ignore_label
            labels = np.where(ignored, self._num_classes, labels)
            size = self._num_classes + 1
            self._conf_matrix += np.bincount(
                (size * found + labels).ravel(), minlength=size**2
            ).reshape(size, size)
            # What is found where nothing counts makes no boundary beside it.
            found = np.where(ignored, self._num_classes, found)
            annotated_edge, found_edge = _on_boundary(labels), _on_boundary(found)
            both = annotated_edge & found_edge & (labels == found)
            for row, pixels in enumerate((labels[annotated_edge], found[found_edge], found[both])):
                self._boundaries[row] += np.bincount(pixels, minlength=size)[:-1]

    def _labels_of(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        file = self.input_file_to_gt_file[name]
        labels: np.ndarray = self.sem_seg_loading_fn(file, dtype=int)
        check_label_size(labels, file, shape[1:], name)
        if shape[0] > self._num_classes:
            raise LabelError(
                f"the model predicts {shape[0]} classes, and {self._dataset_name!r} has "
                f"{self._num_classes} stuff_classes: MODEL.SEM_SEG_HEAD.NUM_CLASSES does not fit it"
            )
        return labels

    def evaluate(self) -> dict[str, Any] | None:
        """Percentages: means over classes, those of all pixels, and those of each class.

        Returns:
            In the main process ``{"sem_seg": results}``, else None.
        """
        gathered = comm.gather((self._conf_matrix, self._boundaries, self._predictions))
        if not comm.is_main_process():
            return None
        matrices, boundaries, predictions = zip(*gathered, strict=True)
        counts = sum(matrices)[:-1, :-1].T  # annotated, found
        results = self._summarize(counts, sum(boundaries))
        if self._output_dir:
            os.makedirs(self._output_dir, exist_ok=True)
            with self._open("sem_seg_predictions.json") as file:
                file.write(json.dumps(list(itertools.chain(*predictions))).encode())
            with self._open("sem_seg_evaluation.pth") as file:
                torch.save(results, file)
            with self._open("confusion_matrix.png") as file:
                file.write(draw_confusion(counts, self._class_names))
        return {"sem_seg": results}

    def _open(self, name: str) -> Any:
        return write_whole(os.path.join(self._output_dir, name))

    def _summarize(self, counts: np.ndarray, boundaries: np.ndarray) -> dict[str, float]:
        """All numbers from the pixels ``(K, K)`` of each annotated and found class."""
        right, annotated, found = counts.diagonal(), counts.sum(axis=1), counts.sum(axis=0)
        missing = annotated == 0
        with np.errstate(invalid="ignore"):
            accuracy = 100 * right / annotated
            iou = np.where(missing, np.nan, 100 * right / (annotated + found - right))
            boundary_annotated, boundary_found, both = boundaries
            boundary_iou = 100 * both / (boundary_annotated + boundary_found - both)
            boundary_iou[missing] = np.nan
        if missing.all():
            logger.warning(
                f"data set {self._dataset_name}: no pixel of its labels has a class, so there is "
                "no mIoU"
            )
        share = annotated / max(annotated.sum(), 1)
        means = {
            "mIoU": _mean(iou),
            "fwIoU": float(np.nansum(iou * share)),
            "mBoundaryIoU": _mean(boundary_iou),
            "mACC": _mean(accuracy),
            "pACC": float(100 * right.sum() / annotated.sum()) if not missing.all() else math.nan,
        }
        columns = {
            "IoU": iou,
            "BoundaryIoU": boundary_iou,
            "min(IoU, B-Iou)": np.minimum(iou, boundary_iou),
            "ACC": accuracy,
        }
        shown = ("IoU", "BoundaryIoU", "ACC")
        names = map(table_cell, self._class_names)
        rows = zip(names, *(columns[column] for column in shown), 100 * share, strict=True)
        table = tabulate(
            [*rows, ("mean", *(_mean(columns[column]) for column in shown))],
            headers=["class", *shown, "share of pixels"],
            tablefmt="pipe",
            floatfmt=".2f",
            disable_numparse=[0],
        )
        logger.info(
            f"Semantic segmentation of {self._dataset_name}, percent (nan: not annotated):\n{table}"
        )
        return means | {
            f"{column}-{name}": float(value)
            for column, values in columns.items()
            for name, value in zip(self._class_names, values, strict=True)
        }

    def _read_labels(self, file_name: str, dtype: Any) -> np.ndarray:
        offset = MetadataCatalog.get(self._dataset_name).get("label_offset", 0)
        labels = read_labels(file_name, offset, self._ignore_label).astype(dtype)
        kind = f"stuff_classes of {self._dataset_name!r}"
        check_label_values(labels, file_name, self._num_classes, offset, self._ignore_label, kind)
        return labels


def _on_boundary(labels: np.ndarray) -> np.ndarray:
    """Pixels near one of another label or the image's edge.

    They are the boundaries of all regions at once: of each what its erosion takes away.
    Reference: Cheng et al., "Boundary IoU", CVPR 2021.

    Args:
        labels: ``(H, W)``, from 0 on.
    """
    distance = max(1, round(_BOUNDARY * math.hypot(*labels.shape)))
    padded = np.pad(labels + 1, 1).astype(np.uint16)
    window = np.ones((3, 3), dtype=np.uint8)
    lowest = cv2.erode(padded, window, iterations=distance)
    highest = cv2.dilate(padded, window, iterations=distance)
    return ((lowest != padded) | (highest != padded))[1:-1, 1:-1]


def _mean(values: np.ndarray) -> float:
    """Of those that are a number."""
    numbers = values[~np.isnan(values)]
    return float(numbers.mean()) if len(numbers) else math.nan
