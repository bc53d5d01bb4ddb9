"""Detect objects in images: pictures with boxes, masks, classes and scores, and a COCO JSON.

example:
  python -m dnl_det predict --config-file configs/Shapes/disentangled.yaml \\
      --weights output/shapes/model_final.pth photo1.jpg photo2.png --output detections

--output then has photo1.png, photo2.png and detections.json: a list in the format of COCO
results (bbox is x, y, width, height in pixels; segmentation is RLE), and the file of each.
"""

import argparse
import json
import os
from pathlib import Path
from typing import Any

from detectron2.data import Metadata
from detectron2.evaluation.coco_evaluation import instances_to_coco_json
from detectron2.utils.logger import setup_logger
from PIL import Image
from tqdm import tqdm

from ..engine import exit_on_bad_input
from ..evaluation.pictures import draw_detections
from .inputs import add_input_arguments, read_inputs


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    add_input_arguments(parser)
    parser.add_argument(
        "--threshold",
        type=float,
        default=0.5,
        help="lowest score drawn, 0 to 1 (default 0.5); the JSON has all the model returns",
    )


def run(args: argparse.Namespace) -> int:
    """Read and check everything first, then detect image by image."""
    setup_logger(name="dnl_det")
    with exit_on_bad_input():
        given = read_inputs(args)
        os.makedirs(args.output, exist_ok=True)

    results: list[dict[str, Any]] = []
    for index, image in enumerate(tqdm(given.images)):
        instances = given.predictor(image)["instances"].to("cpu")
        picture = draw_detections(image, instances, given.metadata, args.threshold)
        Image.fromarray(picture).save(Path(args.output, f"{given.names[index]}.png"))
        results += _coco_results(instances, index + 1, given.files[index], given.metadata)
    json_file = Path(args.output, "detections.json")
    json_file.write_text(json.dumps(results))
    print(
        f"{len(results)} detections in {len(given.images)} images: {json_file}; pictures beside it."
    )
    return 0


def _coco_results(instances: Any, image_id: int, file: str, metadata: Metadata) -> list[Any]:
    ids = {k: v for v, k in metadata.thing_dataset_id_to_contiguous_id.items()}
    results = instances_to_coco_json(instances, image_id)
    for result in results:
        result["category_name"] = metadata.thing_classes[result["category_id"]]
        result["category_id"] = ids[result["category_id"]]
        result["file_name"] = file
    return results
