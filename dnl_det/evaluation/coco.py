"""COCO's AP, with an answer in the odd cases too: by pycocotools, or sooner by hotcoco."""

import gc
import itertools
import json
import logging
import os
import shlex
from typing import Any

from detectron2.evaluation import COCOEvaluator
from detectron2.evaluation.coco_evaluation import COCOeval_opt, _evaluate_predictions_on_coco
from detectron2.structures import Instances
from detectron2.utils.logger import create_small_table

from ..files import write_whole
from ..text import table_cell
from .limit import COCO_LIMIT, COCO_LIMITS, take_beyond_coco

# The key of a prediction, beside detectron2's "image_id" and "instances".
_NOT_FINITE = "not_finite"

logger = logging.getLogger(__name__)


class CheckedCOCOEvaluator(COCOEvaluator):
    """detectron2's evaluator, but for these cases.

    - Without any detection AP is 0, as COCO defines it, and not NaN.
    - Detections whose box or score is not finite are left out and counted in a warning.
    - Where a model gives more than 100 detections of an image, there is AP of all of them too, such
      as ``AP@300``; COCO's, and so ``AP``, is of the best 100 of each class.
    - Without annotations there is no AP, with a warning that says so.
    - ``coco_instances_results.json`` is written whole or not at all. detectron2 also pickles the
      same detections, in more time than all the rest takes: this one does not.

    Args:
        dataset_name: a registered data set.
        tasks: any of ``bbox``, ``segm``, ``keypoints``.
        distributed: collect detections from all processes.
        output_dir: where ``coco_instances_results.json`` is written; nowhere if None.
        detections_per_image: how many a model gives at most.
        kwargs: see ``COCOEvaluator``.
    """

    def __init__(
        self,
        dataset_name: str,
        tasks: tuple[str, ...],
        distributed: bool = True,
        output_dir: str | None = None,
        detections_per_image: int = COCO_LIMIT,
        **kwargs: Any,
    ):
        super().__init__(dataset_name, tasks, distributed, output_dir=output_dir, **kwargs)
        self._dataset_name = dataset_name
        self._folder, self._output_dir = output_dir, None
        if detections_per_image > COCO_LIMIT:
            self._max_dets_per_image = [*COCO_LIMITS, detections_per_image]
        # An empty list is no better than none: there would be nothing to find.
        self._do_evaluation = bool(self._coco_api.dataset.get("annotations"))

    def process(self, inputs: list[dict[str, Any]], outputs: list[dict[str, Any]]) -> None:
        """See ``COCOEvaluator``."""
        for image, output in zip(inputs, outputs, strict=True):
            if "instances" not in output:
                super().process([image], [output])
                continue
            kept, count = _finite(output["instances"])
            super().process([image], [{**output, "instances": kept}])
            if count:
                self._predictions[-1][_NOT_FINITE] = count

    def evaluate(self, img_ids: list[int] | None = None) -> dict[str, Any]:
        """See ``COCOEvaluator``."""
        # Hundreds of thousands of dictionaries are made, and none is garbage: looking for some
        # takes a third of the time.
        enabled = gc.isenabled()
        gc.disable()
        try:
            return super().evaluate(img_ids)
        finally:
            if enabled:
                gc.enable()

    def _eval_predictions(self, predictions: list[Any], img_ids: list[int] | None = None) -> None:
        results = list(itertools.chain.from_iterable(p["instances"] for p in predictions))
        self._warn_of_not_finite(predictions)
        self._to_dataset_ids(results)
        if self._folder:
            os.makedirs(self._folder, exist_ok=True)
            file = os.path.join(self._folder, "coco_instances_results.json")
            with write_whole(file) as stream:
                stream.write(_to_json(results))
            logger.info(f"Saved {len(results)} detections to {file}")
        if not self._do_evaluation:
            logger.warning(
                f"data set {self._dataset_name}: {self._metadata.json_file} has no annotations, so "
                "there is no AP"
            )
            return
        if not results:
            logger.warning(
                f"data set {self._dataset_name}: the model found nothing in {len(predictions)} "
                "images, so AP is 0"
            )
        for task in sorted(self._tasks):
            evaluation, beyond = self._evaluate_task(results, task, img_ids)
            self._results[task] = self._derive_coco_results(
                evaluation, task, class_names=self._metadata.get("thing_classes")
            )
            if beyond:
                self._results[task].update(beyond)
                logger.info(
                    f"AP of {task} counts the best {COCO_LIMIT} detections of a class in an image, "
                    f"as COCO's does, and the model gives up to {self._max_dets_per_image[-1]} in "
                    f"all. Of all of them:\n{create_small_table(beyond)}"
                )
        if self._folder:
            words = shlex.join(["report", file, "--ground-truth", self._metadata.json_file])
            logger.info(
                f"Errors, confusions, thresholds and the worst images: python -m dnl_det {words}"
            )

    def _warn_of_not_finite(self, predictions: list[dict[str, Any]]) -> None:
        affected = [p for p in predictions if _NOT_FINITE in p]
        if affected:
            count = sum(p[_NOT_FINITE] for p in affected)
            logger.warning(
                f"data set {self._dataset_name}: {count} detections in {len(affected)} of "
                f"{len(predictions)} images have a box or score that is not finite, first in image "
                f"{affected[0]['image_id']}, and are left out: the training has probably diverged"
            )

    def _to_dataset_ids(self, results: list[dict[str, Any]]) -> None:
        ids = self._metadata.get("thing_dataset_id_to_contiguous_id")
        if ids is None:
            return
        of_class = {index: dataset_id for dataset_id, index in ids.items()}
        for result in results:
            if result["category_id"] not in of_class:
                raise ValueError(
                    f"a detection has class {result['category_id']}, but the data set has only "
                    f"{len(of_class)}, from 0: MODEL.ROI_HEADS.NUM_CLASSES does not fit it"
                )
            result["category_id"] = of_class[result["category_id"]]

    def _evaluate_task(
        self, results: list[dict[str, Any]], task: str, img_ids: list[int] | None
    ) -> tuple[Any, dict[str, float]]:
        """The summarized evaluation at COCO's limits, and AP beyond them."""
        if task == "keypoints" and results:
            sigmas = self._kpt_oks_sigmas
            return _evaluate_predictions_on_coco(
                self._coco_api, results, task, kpt_oks_sigmas=sigmas, img_ids=img_ids
            ), {}
        evaluation = COCOeval_opt(self._coco_api, self._load(results, task), task)
        if task != "keypoints":
            evaluation.params.maxDets = self._max_dets_per_image
        if img_ids is not None:
            evaluation.params.imgIds = img_ids
        evaluation.evaluate()
        evaluation.accumulate()
        beyond = take_beyond_coco(evaluation)  # before its summary, which is of the last limit
        evaluation.summarize()
        return evaluation, beyond

    def _load(self, results: list[dict[str, Any]], task: str) -> Any:
        if not results:  # loadRes looks at the first
            found = type(self._coco_api)()
            found.dataset = {**self._coco_api.dataset, "annotations": []}
            found.createIndex()
            return found
        # One of both: with a box, its area would decide which masks are small. A segmentation that
        # is there saves making polygons of boxes.
        key, rest = {"bbox": ("bbox", {"segmentation": None}), "segm": ("segmentation", {})}[task]
        keys = ("image_id", "category_id", "score", key)
        return self._coco_api.loadRes([{**{k: r[k] for k in keys}, **rest} for r in results])

    def _derive_coco_results(
        self, coco_eval: Any, iou_type: str, class_names: list[str] | None = None
    ) -> dict[str, float]:
        """detectron2's; the names of classes fit its table, and are whole in the results."""
        names = class_names or []
        shown = [table_cell(name) for name in names]
        if len(set(shown)) < len(shown):  # shortened to the same
            shown = [f"{number}: {name}" for number, name in enumerate(shown, 1)]
        whole = {f"AP-{cell}": f"AP-{name}" for cell, name in zip(shown, names, strict=True)}
        results = super()._derive_coco_results(coco_eval, iou_type, shown or None)
        return {whole.get(key, key): value for key, value in results.items()}


class HotCOCOEvaluator(CheckedCOCOEvaluator):
    """The same, in Rust: boxes, masks and key points by the package hotcoco.

    It gives the numbers of pycocotools.

    Raises:
        ImportError: hotcoco is not installed.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        import hotcoco

        super().__init__(*args, use_fast_impl=False, **kwargs)
        self._hotcoco = hotcoco
        self._truth = hotcoco.COCO(self._coco_api.dataset)

    def _evaluate_task(
        self, results: list[dict[str, Any]], task: str, img_ids: list[int] | None
    ) -> tuple[Any, dict[str, float]]:
        found = self._load(results, task)
        limits = [[20]] if task == "keypoints" else [list(COCO_LIMITS)]
        if task != "keypoints" and self._max_dets_per_image not in (None, limits[0]):
            limits.append(self._max_dets_per_image)
        evaluations = []
        for limit in limits:
            evaluation = self._hotcoco.COCOeval(self._truth, found, task)
            evaluation.params.maxDets = limit
            if task == "keypoints" and len(self._kpt_oks_sigmas):
                evaluation.params.kpt_oks_sigmas = list(self._kpt_oks_sigmas)
            if img_ids is not None:
                evaluation.params.imgIds = img_ids
            evaluation.evaluate()
            evaluation.accumulate()
            evaluations.append(evaluation)
        evaluations[0].summarize()
        return evaluations[0], take_beyond_coco(evaluations[-1])

    def _load(self, results: list[dict[str, Any]], task: str) -> Any:
        if not results:
            return self._hotcoco.COCO({**self._coco_api.dataset, "annotations": []})
        # With key points detectron2 takes the box's area.
        own = {"bbox": ("bbox",), "segm": ("segmentation",), "keypoints": ("keypoints", "bbox")}
        keys = ("image_id", "category_id", "score", *own[task])
        return self._truth.load_res([{k: r[k] for k in keys} for r in results])


def _finite(instances: Instances) -> tuple[Instances, int]:
    """Those with a finite box and score, and the number of the others."""
    finite = instances.pred_boxes.tensor.isfinite().all(dim=1) & instances.scores.isfinite()
    if finite.all():
        return instances, 0
    return instances[finite], int((~finite).sum())


def _to_json(results: list[dict[str, Any]]) -> bytes:
    try:
        import orjson
    except ImportError:
        return json.dumps(results).encode()
    return orjson.dumps(results)
