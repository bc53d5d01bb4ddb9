"""Annotations with blank images, and detections for them."""

import json

import numpy as np
from PIL import Image
from pycocotools import mask as mask_util


def write_config(folder):
    """For the model of ``given_detections.py``."""
    config = folder / "config.yaml"
    config.write_text(
        "MODEL: {META_ARCHITECTURE: GivenDetections, WEIGHTS: '', MASK_ON: True, DEVICE: cpu}\n"
        "INPUT: {MIN_SIZE_TEST: 32}\nDATALOADER: {NUM_WORKERS: 0}\n"
    )
    return config


def write_data(folder, truth):
    """Annotations and blank images; the options of ``train_net.py`` that name them."""
    (folder / "images").mkdir()
    for image in truth["images"]:
        blank = Image.new("L", (image["width"], image["height"]))
        blank.save(folder / "images" / image["file_name"])
    (folder / "truth.json").write_text(json.dumps(truth))
    return ["--val-json", folder / "truth.json", "--val-images", folder / "images"]


def thing(image, box, score=None, kind=5):
    """A rectangle as an annotation, or with a score as a detection."""
    x, y, width, height = box
    if score is None:
        mask = [[x, y, x + width, y, x + width, y + height, x, y + height]]
        rest = {"area": width * height, "iscrowd": 0}
    else:
        filled = np.zeros((40, 50), dtype=np.uint8)
        filled[y : y + height, x : x + width] = 1
        mask = encode(filled)
        rest = {"score": score}
    entry = {"image_id": image, "category_id": kind, "bbox": [float(v) for v in box]}
    return {**entry, "segmentation": mask, **rest}


def encode(mask):
    encoded = mask_util.encode(np.asfortranarray(mask))
    return {"size": encoded["size"], "counts": encoded["counts"].decode()}


def small(count):
    """Images of 50 x 40 and two categories, one of which no annotation has; and detections."""
    numbers = range(1, count + 1)
    annotations = [thing(i, (5, 5, 20, 10 + i)) for i in numbers]
    truth = {
        "images": [{"id": i, "file_name": f"{i}.png", "width": 50, "height": 40} for i in numbers],
        "categories": [{"id": 5, "name": "found"}, {"id": 9, "name": "absent"}],
        "annotations": [{**a, "id": i} for i, a in enumerate(annotations, 1)],
    }
    found = [thing(i, (6, 5, 20, 10 + i), 0.5 + i / 100) for i in numbers]
    found += [thing(i, (20, 20, 9, 9), 0.9 - i / 100) for i in numbers[::2]]
    found += [thing(1, (2, 2, 9, 9), 0.3, kind=9)]
    return truth, found
