"""Detect objects in images: pictures with boxes, masks, classes and scores, and a COCO JSON.

example:
  python -m dnl_det predict --config-file configs/Shapes/disentangled.yaml \\
      --weights output/shapes/model_final.pth photo1.jpg photo2.png --output detections

--output then has photo1.png, photo2.png and detections.json: a list in the format of COCO
results (bbox is x, y, width, height in pixels; segmentation is RLE), and the file of each.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from detectron2.data import Metadata
from detectron2.evaluation.coco_evaluation import instances_to_coco_json
from detectron2.utils.logger import setup_logger
from PIL import Image
from tqdm import tqdm

from ..engine import exit_on_bad_input
from ..evaluation.pictures import draw_detections
from ..files import refuse_to_overwrite, write_whole
from .inputs import Inputs, add_input_arguments, files_read, read_inputs


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
        json_file = Path(args.output, "detections.json")
        pictures = [Path(args.output, f"{name}.png") for name in given.names]
        refuse_to_overwrite([json_file, *pictures], files_read(given.predictor.cfg, args))
        json_file.parent.mkdir(parents=True, exist_ok=True)

    results: list[dict[str, Any]] = []
    for index, picture in enumerate(tqdm(pictures)):
        results += _detect(given, index, picture, args.threshold)
    with exit_on_bad_input(), write_whole(json_file) as file:
        file.write(json.dumps(results).encode())
    print(f"{len(results)} detections in {len(pictures)} images: {json_file}; pictures beside it.")
    return 0


def _detect(given: Inputs, index: int, picture: Path, threshold: float) -> list[Any]:
    """Draw the detections of one image into a file, and give them as COCO results."""
    with exit_on_bad_input():
        image = given.image(index)
    instances = given.predictor(image)["instances"].to("cpu")
    drawn = draw_detections(image, instances, given.metadata, threshold)
    with exit_on_bad_input(), write_whole(picture) as file:
        Image.fromarray(drawn).save(file, "PNG")
    return _coco_results(instances, index + 1, given.files[index], given.metadata)


def _coco_results(instances: Any, image_id: int, file: str, metadata: Metadata) -> list[Any]:
    ids = {k: v for v, k in metadata.thing_dataset_id_to_contiguous_id.items()}
    results = instances_to_coco_json(instances, image_id)
    for result in results:
        result["category_name"] = metadata.thing_classes[result["category_id"]]
        result["category_id"] = ids[result["category_id"]]
        result["file_name"] = file
    return results
