"""Images beside what was annotated and what was found in them."""

import io
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from detectron2.data import Metadata
from detectron2.data.detection_utils import read_image
from detectron2.structures import Boxes, BoxMode, Instances
from PIL import Image
from pycocotools import mask as mask_util

from ..pictures import draw_annotations, draw_detections

_WIDTH = 640  # pixels, of each of both pictures at most
_GAP = 8


def draw_worst(
    file: str,
    annotations: Iterable[dict[str, Any]],
    detections: Iterable[dict[str, Any]],
    classes: dict[int, str],
    threshold: float,
) -> bytes:
    """A JPEG: annotations to the left, detections to the right.

    Args:
        file: the image.
        annotations: of it, in COCO's format, with a segmentation for masks.
        detections: the same.
        classes: names by the ids of categories.
        threshold: the lowest score drawn, 0 to 1.

    Raises:
        OSError: the file cannot be read.
    """
    image = read_image(file, format="BGR")
    index = {key: number for number, key in enumerate(classes)}
    metadata = Metadata(name="report", thing_classes=list(classes.values()))
    shown = [{**one, "category_id": index[one["category_id"]]} for one in annotations]
    shown = [{**one, "bbox_mode": BoxMode.XYWH_ABS} for one in shown]
    annotated = draw_annotations(image, {"annotations": shown}, metadata)
    instances = _instances(list(detections), index, image.shape[:2])
    found = draw_detections(image, instances, metadata, threshold)
    gap = np.full((annotated.shape[0], _GAP, 3), 255, dtype=np.uint8)
    picture = Image.fromarray(np.hstack([annotated, gap, found]))
    picture.thumbnail((2 * _WIDTH + _GAP, 2 * _WIDTH))
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG", quality=85)
    return buffer.getvalue()


def _instances(
    detections: list[dict[str, Any]], index: dict[int, int], size: tuple[int, int]
) -> Instances:
    found = Instances(size)
    boxes = np.array([one["bbox"] for one in detections], dtype=np.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    found.pred_boxes = Boxes(torch.from_numpy(boxes))
    found.scores = torch.tensor([float(one["score"]) for one in detections])
    found.pred_classes = torch.tensor([index[one["category_id"]] for one in detections]).long()
    if detections and all("segmentation" in one for one in detections):
        masks = np.stack([mask_util.decode(one["segmentation"]) for one in detections])
        found.pred_masks = torch.from_numpy(masks.astype(bool))
    return found
