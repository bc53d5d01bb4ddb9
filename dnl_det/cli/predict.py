"""Detect objects in images: pictures with boxes, masks, classes and scores, and a COCO JSON.

example:
  python -m dnl_det predict --config-file configs/Shapes/disentangled.yaml \\
      --weights output/shapes/model_final.pth photo1.jpg photo2.png --output detections

--output then has photo1.png, photo2.png and detections.json: a list in the format of COCO
results (bbox is x, y, width, height in pixels; segmentation is RLE), and the file of each.
"""

import argparse
import json
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, Metadata, MetadataCatalog
from detectron2.evaluation.coco_evaluation import instances_to_coco_json
from detectron2.utils.logger import setup_logger
from PIL import Image
from tqdm import tqdm

from ..data.images import read_image
from ..data.own_data import use_own_data
from ..engine import Predictor, exit_on_bad_input, fall_back_to_cpu, load_config
from ..evaluation.pictures import draw_detections


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="image files")
    parser.add_argument("--config-file", required=True, metavar="FILE", help="the model's config")
    parser.add_argument("--weights", required=True, metavar="FILE", help="a trained checkpoint")
    parser.add_argument("--output", required=True, metavar="DIR", help="where results are written")
    parser.add_argument(
        "--threshold",
        type=float,
        default=0.5,
        help="lowest score drawn, 0 to 1 (default 0.5); the JSON has all the model returns",
    )
    parser.add_argument(
        "--opts", nargs=argparse.REMAINDER, default=[], help="config overrides, last: KEY VALUE ..."
    )


def run(args: argparse.Namespace) -> int:
    """Read and check everything first, then detect image by image."""
    setup_logger(name="dnl_det")
    with exit_on_bad_input():
        cfg = load_config(args.config_file, args.opts)
        images = [_read(cfg, file) for file in args.images]
        cfg.MODEL.WEIGHTS = args.weights
        fall_back_to_cpu(cfg)
        metadata = class_metadata(cfg)
        predictor = Predictor(cfg)
        os.makedirs(args.output, exist_ok=True)

    names = _picture_names(args.images)
    results: list[dict[str, Any]] = []
    for index, (file, image) in enumerate(zip(tqdm(args.images), images, strict=True)):
        instances = predictor(image)["instances"].to("cpu")
        picture = draw_detections(image, instances, metadata, args.threshold)
        Image.fromarray(picture).save(Path(args.output, names[index]))
        results += _coco_results(instances, index + 1, file, metadata)
    json_file = Path(args.output, "detections.json")
    json_file.write_text(json.dumps(results))
    print(f"{len(results)} detections in {len(images)} images: {json_file}; pictures beside it.")
    return 0


def class_metadata(cfg: CfgNode) -> Metadata:
    """Class names and ids of the data that a config was trained on, as far as they are known."""
    try:
        use_own_data(cfg)
        names = [*cfg.DATASETS.TEST, *cfg.DATASETS.TRAIN]
        metadata = MetadataCatalog.get(names[0])
        if not hasattr(metadata, "thing_dataset_id_to_contiguous_id"):
            DatasetCatalog.get(names[0])  # reading the annotations sets it
        return metadata
    except (FileNotFoundError, IndexError):
        count = cfg.MODEL.ROI_HEADS.NUM_CLASSES
        logging.getLogger(__name__).warning(
            "The data this model was trained on are not here, so its classes are named class_1 "
            f"to class_{count}."
        )
        metadata = Metadata(name="unnamed")
        metadata.thing_classes = [f"class_{k + 1}" for k in range(count)]
        metadata.thing_dataset_id_to_contiguous_id = {k + 1: k for k in range(count)}
        return metadata


def _read(cfg: CfgNode, file: str) -> np.ndarray:
    try:
        return read_image(cfg, file, "BGR")
    except (FileNotFoundError, ValueError) as error:
        raise type(error)(f"IMAGE: {error}") from error


def _picture_names(files: Sequence[str]) -> list[str]:
    """One name a file; files of the same name in several folders get a number."""
    stems = [Path(file).stem for file in files]
    return [
        f"{stem}.png" if stems.count(stem) == 1 else f"{stem}_{index + 1}.png"
        for index, stem in enumerate(stems)
    ]


def _coco_results(instances: Any, image_id: int, file: str, metadata: Metadata) -> list[Any]:
    ids = {k: v for v, k in metadata.thing_dataset_id_to_contiguous_id.items()}
    results = instances_to_coco_json(instances, image_id)
    for result in results:
        result["category_name"] = metadata.thing_classes[result["category_id"]]
        result["category_id"] = ids[result["category_id"]]
        result["file_name"] = file
    return results
