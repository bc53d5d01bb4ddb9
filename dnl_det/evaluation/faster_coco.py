"""COCO's box and mask AP by faster-coco-eval: the same numbers in a fraction of the time."""

import gc
from typing import Any

from .coco import CheckedCOCOEvaluator
from .limit import COCO_LIMIT, take_beyond_coco

TASKS = ("bbox", "segm")


class FasterCOCOEvaluator(CheckedCOCOEvaluator):
    """The same with matching and accumulation in C++.

    Needs the package faster-coco-eval, which gives the 12 numbers of pycocotools.

    Args:
        dataset_name: a registered data set.
        tasks: any of :data:`TASKS`.
        distributed: collect detections from all processes.
        output_dir: where ``coco_instances_results.json`` is written; nowhere if None.
        detections_per_image: how many a model gives at most.

    Raises:
        ImportError: faster-coco-eval is not installed.
    """

    def __init__(
        self,
        dataset_name: str,
        tasks: tuple[str, ...],
        distributed: bool = True,
        output_dir: str | None = None,
        detections_per_image: int = COCO_LIMIT,
    ):
        from faster_coco_eval import COCO

        super().__init__(
            dataset_name,
            tasks,
            distributed,
            output_dir=output_dir,
            detections_per_image=detections_per_image,
            use_fast_impl=False,
        )
        self._truth = COCO(self._coco_api.dataset)

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

    def _evaluate_task(
        self, results: list[dict[str, Any]], task: str, img_ids: list[int] | None
    ) -> tuple[Any, dict[str, float]]:
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
        evaluation.evaluate()
        evaluation.accumulate()
        beyond = take_beyond_coco(evaluation)  # before its summary, which is of the last limit
        evaluation.summarize()
        return evaluation, beyond
