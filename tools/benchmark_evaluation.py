#!/usr/bin/env python3
"""Time COCO evaluation of generated detections: hotcoco beside pycocotools.

    python tools/benchmark_evaluation.py [--images 5000] [--objects 36000] [--detections 100]

The defaults are the numbers of images and objects in COCO val2017 and the most detections that a
detector reports. Both evaluators are timed from the last image to the printed table.
"""

import argparse
import contextlib
import copy
import io
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.data import DatasetCatalog
from detectron2.data.datasets import register_coco_instances
from detectron2.evaluation import COCOEvaluator
from pycocotools import mask as mask_api

from dnl_det.evaluation import HotCOCOEvaluator

NAME = "benchmark_of_evaluation"
CLASSES = 80
SIZE = 480, 640
HEXAGON = np.array([(0.25, 0), (0.75, 0), (1, 0.5), (0.75, 1), (0.25, 1), (0, 0.5)])


def generate(images: int, objects: int, detections: int, seed: int = 0) -> tuple[Any, Any]:
    """Annotations as a COCO file has them; for each image detections as an evaluator keeps them."""
    rng = np.random.default_rng(seed)
    of_image = rng.integers(0, images, objects)
    boxes, classes = _boxes(rng, objects), rng.zipf(1.5, objects) % CLASSES
    crowd = rng.random(objects) < 0.01
    truth: dict[str, list[Any]] = {
        "images": [
            {"id": i + 1, "height": SIZE[0], "width": SIZE[1], "file_name": f"{i + 1}.jpg"}
            for i in range(images)
        ],
        "categories": [{"id": k + 1, "name": f"class {k + 1}"} for k in range(CLASSES)],
        "annotations": [
            _instance(
                image, kind + 1, box, id=i + 1, area=0.75 * box[2] * box[3], iscrowd=int(many)
            )
            for i, (image, kind, box, many) in enumerate(
                zip(of_image, classes, boxes, crowd, strict=True)
            )
        ],
    }
    predictions = []
    for image in range(images):
        mine = np.flatnonzero(of_image == image)
        # Some detections are near an object; the others are anywhere.
        chosen = rng.choice(mine, detections) if len(mine) else np.zeros(detections, int)
        near = (rng.random(detections) < 0.4) & (len(mine) > 0)
        found = np.where(near[:, None], boxes[chosen], _boxes(rng, detections))
        found = found + rng.normal(0, 3, found.shape) * near[:, None]
        found[:, 2:] = np.maximum(found[:, 2:], 4)
        labels = np.where(near, classes[chosen], rng.zipf(1.5, detections) % CLASSES)
        scores = np.sort(rng.random(detections))[::-1].tolist()
        instances = [
            _instance(image, label, box, score=score)
            for label, box, score in zip(labels, found, scores, strict=True)
        ]
        predictions.append({"image_id": image + 1, "instances": instances})
    return truth, predictions


def _boxes(rng: np.random.Generator, count: int) -> np.ndarray:
    """x, y, width, height: from 8 pixels to half the image, small ones more often."""
    sides = 8 * 2 ** rng.uniform(0, 5, (count, 2))
    corners = rng.uniform(0, 1, (count, 2)) * (np.array(SIZE[::-1]) - sides)
    return np.concatenate([corners, sides], axis=1)


def _instance(image: int, category: int, box: np.ndarray, **more: Any) -> dict[str, Any]:
    """With a hexagon in the box as its mask."""
    rle = mask_api.frPyObjects([(box[:2] + HEXAGON * box[2:]).ravel().tolist()], *SIZE)[0]
    mask = {**rle, "counts": rle["counts"].decode()}
    ids = {"image_id": int(image) + 1, "category_id": int(category)}
    return {**ids, "bbox": box.tolist(), "segmentation": mask, **more}


def evaluate(kind: type[COCOEvaluator], predictions: Any, task: str) -> tuple[float, np.ndarray]:
    """Seconds from the last image to the printed table; AP, AP50, ... and that of each class."""
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        options = {} if kind is HotCOCOEvaluator else {"use_fast_impl": False}
        evaluator = kind(NAME, (task,), output_dir=folder, **options)
        evaluator.reset()
        evaluator._predictions = copy.deepcopy(predictions)
        start = time.perf_counter()
        results = evaluator.evaluate()
        return time.perf_counter() - start, np.array(list(results[task].values()))


def register(truth: Any, folder: str) -> None:
    """Make the annotations a data set of detectron2 under the name of this benchmark."""
    file = Path(folder, "truth.json")
    file.write_text(json.dumps(truth))
    register_coco_instances(NAME, {}, str(file), folder)
    DatasetCatalog.get(NAME)  # reading it sets the mapping of category ids


def main() -> int:
    """Generate, evaluate twice, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--objects", type=int, default=36000)
    parser.add_argument("--detections", type=int, default=100, help="in each image")
    args = parser.parse_args()
    truth, predictions = generate(args.images, args.objects, args.detections)
    with tempfile.TemporaryDirectory() as folder:
        register(truth, folder)
        for task in ("segm", "bbox"):
            if task == "bbox":  # as of a detector of boxes
                for prediction in predictions:
                    for instance in prediction["instances"]:
                        del instance["segmentation"]
            ours, our_ap = evaluate(HotCOCOEvaluator, predictions, task)
            theirs, their_ap = evaluate(COCOEvaluator, predictions, task)
            print(
                f"{task}: hotcoco {ours:.1f} s, pycocotools {theirs:.1f} s: "
                f"{theirs / ours:.1f} times; AP {our_ap[0]:.3f}, all APs differ by at most "
                f"{np.nanmax(np.abs(our_ap - their_ap)):.1e}",
                flush=True,
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
