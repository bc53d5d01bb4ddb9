"""COCO's box and mask AP by faster-coco-eval: the same numbers in a fraction of the time."""

import gc
import itertools
import json
import os
from typing import Any

from detectron2.evaluation import COCOEvaluator

TASKS = ("bbox", "segm")


class FasterCOCOEvaluator(COCOEvaluator):
    """detectron2's evaluator, with matching and accumulation in C++.

    Needs the package faster-coco-eval, which gives the 12 numbers of pycocotools.

    Args:
        dataset_name: a registered data set.
        tasks: any of :data:`TASKS`.
        distributed: collect detections from all processes.
        output_dir: where ``coco_instances_results.json`` is written; nowhere if None.

    Raises:
        ImportError: faster-coco-eval is not installed.
    """

    def __init__(
        self,
        dataset_name: str,
        tasks: tuple[str, ...],
        distributed: bool = True,
        output_dir: str | None = None,
    ):
        from faster_coco_eval import COCO

        super().__init__(
            dataset_name, tasks, distributed, output_dir=output_dir, use_fast_impl=False
        )
        self._truth = COCO(self._coco_api.dataset)
        # detectron2 would also pickle all detections there: what the JSON says, for two fifths of
        # the time that all the rest takes.
        self._folder, self._output_dir = output_dir, None

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
        self._to_dataset_ids(results)
        if self._folder:
            os.makedirs(self._folder, exist_ok=True)
            file = os.path.join(self._folder, "coco_instances_results.json")
            _write(file, _to_json(results))
            self._logger.info(f"Saved {len(results)} detections to {file}")
        if not self._do_evaluation:
            self._logger.info("Annotations are not available for evaluation.")
            return
        for task in sorted(self._tasks):
            evaluation = self._evaluate_task(results, task, img_ids) if results else None
            self._results[task] = self._derive_coco_results(
                evaluation, task, class_names=self._metadata.get("thing_classes")
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
    ) -> Any:
        from faster_coco_eval import COCOeval_faster

        # One of both: with a box, its area would decide which masks are small. A segmentation that
        # is there saves making polygons of boxes.
        key, rest = {"bbox": ("bbox", {"segmentation": None}), "segm": ("segmentation", {})}[task]
        detections = [
            {
                "image_id": result["image_id"],
                "category_id": result["category_id"],
                "score": result["score"],
                key: result[key],
                **rest,
            }
            for result in results
        ]
        evaluation = COCOeval_faster(
            self._truth, self._truth.loadRes(detections), task, print_function=print
        )
        evaluation.params.maxDets = self._max_dets_per_image
        if img_ids is not None:
            evaluation.params.imgIds = img_ids
        evaluation.run()
        return evaluation


def _write(file: str, content: bytes) -> None:
    """Stopped at any moment, it leaves the file that was there or the new one, whole."""
    partial = f"{file}.{os.getpid()}.partial"
    try:
        with open(partial, "wb") as stream:
            stream.write(content)
        os.replace(partial, file)
    finally:
        if os.path.exists(partial):
            os.remove(partial)


def _to_json(results: list[dict[str, Any]]) -> bytes:
    try:
        import orjson
    except ImportError:
        return json.dumps(results).encode()
    return orjson.dumps(results)
