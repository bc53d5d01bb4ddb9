"""The images in which a training's attention is watched, and pictures of them."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog, get_detection_dataset_dicts
from detectron2.structures import BoxMode, Instances
from torch import Tensor

from ...analysis import BlockRecord, Frame
from ...data.images import build_mapper, read_image
from ...evaluation.maps import draw_maps
from ...evaluation.pictures import draw_detections, draw_labels

_THRESHOLD = 0.5  # lowest score drawn


@dataclass(frozen=True)
class FixedImage:
    """An image of a data set.

    Attributes:
        input: what the model is called on, in a list.
        original: BGR uint8 ``(H, W, 3)``.
        point: x and y of the query in the original image: the centre of its largest object.
    """

    input: dict[str, Any]
    original: np.ndarray
    point: tuple[float, float]


def choose_fixed_images(cfg: CfgNode, count: int) -> list[FixedImage]:
    """Images of the first test data set with objects in them, evenly spread.

    Returns:
        ``count`` of them, or fewer where there are not as many; none without a test data set.

    Raises:
        OSError: a file of the data set is missing.
    """
    if not cfg.DATASETS.TEST:
        return []
    known = get_detection_dataset_dicts(cfg.DATASETS.TEST[0], filter_empty=False)
    known = [image for image in known if image.get("annotations")] or known
    count = min(count, len(known))
    mapper = build_mapper(cfg, is_train=False)
    return [
        _read(cfg, mapper, known[(2 * k + 1) * len(known) // (2 * count)]) for k in range(count)
    ]


def draw_found(image: FixedImage, instances: Instances, dataset: str) -> np.ndarray:
    """The detections with a score of at least 0.5: RGB uint8, channels first."""
    metadata = MetadataCatalog.get(dataset)
    picture = draw_detections(image.original, instances, metadata, _THRESHOLD)
    return picture.transpose(2, 0, 1)


def draw_classes(image: FixedImage, logits: Tensor, dataset: str) -> np.ndarray:
    """The class of each pixel, by logits ``(K, H, W)``: RGB uint8, channels first."""
    labels = logits.argmax(dim=0).cpu().numpy()
    return draw_labels(image.original, labels, MetadataCatalog.get(dataset)).transpose(2, 0, 1)


def draw_attention(image: FixedImage, block: BlockRecord, frame: Frame) -> np.ndarray:
    """The pairwise term of the image's query and the unary term: RGB uint8, channels first."""
    query = block.grid.nearest(frame.to_network(torch.tensor([image.point])))
    attention = block.attention(0, query)
    rows = [None if attention.pairwise is None else attention.pairwise[0], attention.unary]
    maps = [
        block.key_grid.to_image(row.clamp(min=0).cpu(), frame).numpy()
        for row in rows
        if row is not None
    ]
    point = None if attention.pairwise is None else image.point
    rgb = np.ascontiguousarray(image.original[:, :, ::-1])
    return draw_maps(rgb, maps, point).transpose(2, 0, 1)


def _read(cfg: CfgNode, mapper: Any, image: dict[str, Any]) -> FixedImage:
    original = read_image(cfg, image["file_name"], "BGR")
    boxes = [
        BoxMode.convert(a["bbox"], a["bbox_mode"], BoxMode.XYXY_ABS)
        for a in image.get("annotations", [])
    ]
    height, width = original.shape[:2]
    left, top, right, bottom = max(
        boxes, key=lambda b: (b[2] - b[0]) * (b[3] - b[1]), default=(0, 0, width, height)
    )
    return FixedImage(mapper(image), original, ((left + right) / 2, (top + bottom) / 2))
