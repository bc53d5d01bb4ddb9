"""Detect objects in images and videos, or segment them: pictures, and what was found as files.

example:
  python -m dnl_det predict --config-file configs/Shapes/disentangled.yaml \\
      --weights output/shapes/model_final.pth photo1.jpg photo2.png --output detections
  python -m dnl_det predict --model model.onnx photo1.jpg --output detections

--output then has photo1.png, photo2.png and detections.json: a list in the format of COCO
results (bbox is x, y, width, height in pixels; segmentation is RLE), and the file of each. A model
for semantic segmentation gives photo1_labels.png in place of the JSON: the number of each pixel's
class, from 0 on.

A video, such as clip.mp4, gives a drawn clip.mp4, and clip.jsonl: a line for each frame with its
number, its second, and the same detections (of semantic classes, the number of pixels of each).
Ctrl-C ends both at that frame.
"""

import argparse
import json
import signal
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.data import Metadata
from detectron2.evaluation.coco_evaluation import instances_to_coco_json
from detectron2.utils.logger import setup_logger
from PIL import Image
from tqdm import tqdm

from ..engine import exit_on_bad_input
from ..evaluation.pictures import draw_detections, draw_labels
from ..files import refuse_to_overwrite, write_whole
from .inputs import Inputs, add_exported_argument, files_read, read_inputs, unique_stems
from .video import Video, is_video, predict_video


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    add_exported_argument(parser)
    parser.add_argument(
        "--threshold",
        type=float,
        default=0.5,
        help="lowest score drawn, 0 to 1 (default 0.5); the JSON has all the model returns. Of "
        "detections alone",
    )


def run(args: argparse.Namespace) -> int:
    """Read and check everything first, then detect or segment image by image."""
    setup_logger(name="dnl_det")
    videos = [file for file in args.images if is_video(file)]
    args.images = [file for file in args.images if not is_video(file)]
    with exit_on_bad_input():
        opened = [Video(file) for file in videos]
        given = read_inputs(args)
        outputs = _video_outputs(given, args, videos)
    status = 0
    if args.images:
        status = _run_segmentor(given, args) if given.segments else _run_detector(given, args)
    for video, files in zip(opened, outputs, strict=True):
        with exit_on_bad_input():
            show = partial(_show, given, args.threshold)
            count, number = predict_video(given.predictor, video, files, show)
        print(f"{count:,} frames: {files[0]}, {files[1]}")
        if number:
            print(f"Stopped by {signal.Signals(number).name}; both files end there.")
            return 128 + number
        if count < video.count:
            print(f"The file says that it has {video.count:,}: it may be truncated.")
    return status


def _video_outputs(
    given: Inputs, args: argparse.Namespace, videos: list[str]
) -> list[tuple[Path, Path]]:
    """The .mp4 and .jsonl of each, of which none is an input."""
    names = unique_stems(videos)
    outputs = [(Path(args.output, f"{n}.mp4"), Path(args.output, f"{n}.jsonl")) for n in names]
    inputs = [*files_read(given.predictor.cfg, args), *videos]
    refuse_to_overwrite([file for pair in outputs for file in pair], inputs)
    if outputs:
        Path(args.output).mkdir(parents=True, exist_ok=True)
    return outputs


def _show(
    given: Inputs, threshold: float, frame: np.ndarray, found: Any
) -> tuple[np.ndarray, dict[str, Any]]:
    """The picture of a frame, and its numbers."""
    if given.segments:
        labels = found["sem_seg"].argmax(dim=0).cpu().numpy()
        counts = np.bincount(labels.ravel(), minlength=len(given.class_names)).tolist()
        pixels = dict(zip(given.class_names, counts, strict=True))
        return draw_labels(frame, labels, given.metadata), {"pixels": pixels}
    instances = found["instances"].to("cpu")
    detections = _coco_results(instances, given.metadata)
    return draw_detections(frame, instances, given.metadata, threshold), {"detections": detections}


def _run_detector(given: Inputs, args: argparse.Namespace) -> int:
    with exit_on_bad_input():
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


def _run_segmentor(given: Inputs, args: argparse.Namespace) -> int:
    with exit_on_bad_input():
        output = Path(args.output)
        pictures = [output / f"{name}.png" for name in given.names]
        label_files = [output / f"{name}_labels.png" for name in given.names]
        if same := set(pictures) & set(label_files):
            raise ValueError(f"IMAGE: the files of two images are both {same.pop()}: rename one")
        refuse_to_overwrite([*pictures, *label_files], files_read(given.predictor.cfg, args))
        output.mkdir(parents=True, exist_ok=True)

    for index, (picture, label_file) in enumerate(zip(tqdm(pictures), label_files, strict=True)):
        with exit_on_bad_input():
            image = given.image(index)
        labels = given.predictor(image)["sem_seg"].argmax(dim=0).cpu().numpy()  # (H, W)
        drawn = draw_labels(image, labels, given.metadata)
        numbers = labels.astype(np.uint8 if len(given.class_names) <= 256 else np.uint16)
        for file, pixels in ((picture, drawn), (label_file, numbers)):
            with exit_on_bad_input(), write_whole(file) as stream:
                Image.fromarray(pixels).save(stream, "PNG")
    print(f"Pictures and labels of {len(pictures)} images: {output}")
    return 0


def _detect(given: Inputs, index: int, picture: Path, threshold: float) -> list[Any]:
    """Draw the detections of one image into a file, and give them as COCO results."""
    with exit_on_bad_input():
        image = given.image(index)
    instances = given.predictor(image)["instances"].to("cpu")
    drawn = draw_detections(image, instances, given.metadata, threshold)
    with exit_on_bad_input(), write_whole(picture) as file:
        Image.fromarray(drawn).save(file, "PNG")
    of_image = {"image_id": index + 1, "file_name": given.files[index]}
    return [{**result, **of_image} for result in _coco_results(instances, given.metadata)]


def _coco_results(instances: Any, metadata: Metadata) -> list[dict[str, Any]]:
    """In the format of COCO results, without their image."""
    ids = {k: v for v, k in metadata.thing_dataset_id_to_contiguous_id.items()}
    results: list[dict[str, Any]] = instances_to_coco_json(instances, None)
    for result in results:
        del result["image_id"]
        result["category_name"] = metadata.thing_classes[result["category_id"]]
        result["category_id"] = ids[result["category_id"]]
    return results
