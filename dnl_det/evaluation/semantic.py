"""Semantic segmentation against labels that are checked."""

from typing import Any

import numpy as np
from detectron2.evaluation import SemSegEvaluator
from detectron2.utils.file_io import PathManager
from PIL import Image


class LabelError(ValueError):
    """Semantic labels that cannot be evaluated. The message says which and what to do."""


class CheckedSemSegEvaluator(SemSegEvaluator):
    """detectron2's, but a label that is no class is an error.

    There it would count as ignored, or as another pair of annotated and found class.

    Args:
        dataset_name: a registered data set, each image with ``sem_seg_file_name``.
        output_dir: where ``sem_seg_predictions.json`` is written; nowhere if None.

    Raises:
        LabelError: an image without labels; in ``process``, a label that is no class.
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

    def _read_labels(self, file_name: str, dtype: Any) -> np.ndarray:
        # detectron2's asks for no copy, which numpy 2 refuses where the type changes.
        with PathManager.open(file_name, "rb") as file, Image.open(file) as image:
            labels = np.array(image, dtype=dtype)  # (H, W)
        if labels.ndim != 2:
            raise LabelError(
                f"{file_name} is an image of {labels.shape[2]} channels: semantic labels must have "
                "one, the number of each pixel's class; write it again"
            )
        wrong = labels[(labels >= self._num_classes) & (labels != self._ignore_label)]
        if len(wrong):
            raise LabelError(
                f"{file_name} has the label {wrong[0]}: must be from 0 to {self._num_classes - 1}, "
                f"one of the {self._num_classes} stuff_classes of {self._dataset_name!r}, or "
                f"{self._ignore_label} for a pixel that does not count; correct the file, or add "
                "the class to the metadata"
            )
        return labels
