"""Cityscapes' official evaluation, beside this project's own."""

import copy
import logging
import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from detectron2.data import MetadataCatalog
from PIL import Image

from .semantic import CheckedSemSegEvaluator, LabelError

# What the official code reads beside the labels of the training.
_OFFICIAL_LABELS = ("labelIds", "instanceIds")


def check_cityscapes(dataset_name: str) -> None:
    """Check that the official code is there, if it is a data set of Cityscapes.

    Raises:
        LabelError: names the package.
    """
    kind = MetadataCatalog.get(dataset_name).get("evaluator_type")
    if kind == "cityscapes_sem_seg" and find_spec("cityscapesscripts") is None:
        raise LabelError(
            f"data set {dataset_name!r}: the official evaluation of Cityscapes needs the package "
            "cityscapesscripts, which is not installed: pip install cityscapesscripts"
        )


class CityscapesEvaluator(CheckedSemSegEvaluator):
    """mIoU, boundary IoU and accuracy, and what the package cityscapesscripts computes.

    In the results, ``sem_seg`` is this project's and ``cityscapes`` the package's: ``IoU`` and
    ``iIoU`` are means of the 19 classes, ``IoU_sup`` and ``iIoU_sup`` of the categories. Its mean
    IoU counts a class that is found and not annotated as 0; ``mIoU`` leaves it out.

    The predictions stay in ``output_dir/cityscapes``, with the ids that the benchmark's server
    wants. Several processes need a folder that all of them see.

    Args:
        dataset_name: registered by detectron2's ``register_all_cityscapes``, or like it.
        output_dir: where results are written.

    Raises:
        LabelError: the package is not installed, or a file that it reads is not there.
    """

    def __init__(self, dataset_name: str, output_dir: str):
        check_cityscapes(dataset_name)
        super().__init__(dataset_name, output_dir)
        self._predicted = Path(output_dir, "cityscapes")
        for labels in self.input_file_to_gt_file.values():
            for kind in _OFFICIAL_LABELS:
                if not os.path.isfile(file := _other_labels(labels, kind)):
                    raise LabelError(
                        f"data set {dataset_name!r}: there is no file {file}, which the official "
                        f"evaluation reads beside {labels}: unpack gtFine_trainvaltest.zip again"
                    )

    def process(self, inputs: list[dict[str, Any]], outputs: list[dict[str, Any]]) -> None:
        """See :class:`CheckedSemSegEvaluator`; write the predicted ids too."""
        from cityscapesscripts.helpers.labels import trainId2label

        super().process(inputs, outputs)
        ids = np.array([trainId2label[k].id for k in range(self._num_classes)], dtype=np.uint8)
        self._predicted.mkdir(parents=True, exist_ok=True)
        for image, output in zip(inputs, outputs, strict=True):
            found = output["sem_seg"].argmax(dim=0).cpu().numpy()
            Image.fromarray(ids[found]).save(self._file_of(image["file_name"]))

    def evaluate(self) -> dict[str, Any] | None:
        """See :class:`CheckedSemSegEvaluator`; ``cityscapes`` has the official numbers."""
        results = super().evaluate()  # which waits for the files of all processes
        if results is not None:
            results["cityscapes"] = self._evaluate_officially()
        return results

    def _file_of(self, image: str) -> Path:
        return self._predicted / f"{Path(image).stem}_pred.png"

    def _evaluate_officially(self) -> dict[str, float]:
        from cityscapesscripts.evaluation import evalPixelLevelSemanticLabeling as official

        options = copy.copy(official.args)
        options.quiet, options.JSONOutput = True, False
        images, labels = zip(*self.input_file_to_gt_file.items(), strict=True)
        logging.getLogger(__name__).info(f"Official evaluation of {len(images)} images ...")
        # Its code calls a function that numpy 2.4 does not have any more.
        with patch.object(np, "in1d", np.isin, create=True):
            found = official.evaluateImgLists(
                [str(self._file_of(image)) for image in images],
                [_other_labels(file, "labelIds") for file in labels],
                options,
            )
        means = {
            "IoU": found["averageScoreClasses"],
            "iIoU": found["averageScoreInstClasses"],
            "IoU_sup": found["averageScoreCategories"],
            "iIoU_sup": found["averageScoreInstCategories"],
        }
        of_classes = {f"IoU-{name}": found["classScores"][name] for name in self._class_names}
        return {name: 100 * float(value) for name, value in (means | of_classes).items()}


def _other_labels(file: str, kind: str) -> str:
    folder, name = os.path.split(file)
    return os.path.join(folder, name.replace("labelTrainIds", kind))
