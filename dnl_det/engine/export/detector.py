"""Exporting a detector, and detecting with the file."""

import copy
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.modeling import GeneralizedRCNN
from detectron2.modeling.meta_arch.dense_detector import DenseDetector
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.structures import Boxes, Instances
from torch import Tensor

from ...data.images import build_test_resize
from ...files import write_whole
from ...mmdet1 import box_scale, in_original_image
from ..predictor import Predictor
from .files import About, Graph, describe, format_of, write_graph
from .graph import OUTPUTS

# Between a detector and its graph, of each detection.
BOX_TOLERANCE = 0.1  # pixels
SCORE_TOLERANCE = 0.001


class ExportedDetector(Predictor):
    """:class:`Predictor` of a file of :func:`export`.

    Args:
        path: the file.
        kind: its format, if its ending does not say so.
        device: where it runs (default: a CUDA device if there is one).

    Attributes:
        about: its classes and inputs.

    Raises:
        ValueError, OSError: see :class:`Graph`.
    """

    def __init__(self, path: str | os.PathLike[str], kind: str = "", device: str = ""):
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self.graph = Graph(path, kind or format_of(path, "--model"), device)
        self.about = self.graph.about
        self.cfg = self.about.cfg()
        self.cfg.MODEL.DEVICE = "cpu"  # of the image; the graph takes it where it runs
        self.model: Any = self.detect  # detectron2 only calls it
        self.aug = build_test_resize(self.cfg)
        self.input_format = "BGR"

    def detect(self, batched_inputs: Sequence[dict[str, Any]]) -> list[dict[str, Instances]]:
        """As a detector of detectron2 in eval mode.

        Args:
            batched_inputs: of each image ``image``, ``(3, H, W)``, and the original's ``height``
                and ``width``.

        Raises:
            ValueError: an image that is smaller than the graph takes.
        """
        return [{"instances": self._detect(inputs)} for inputs in batched_inputs]

    def _detect(self, inputs: dict[str, Any]) -> Instances:
        image, *scale = arguments = _arguments(self.about, self.cfg, inputs)
        outputs = {name: value.cpu() for name, value in self.graph(arguments).items()}
        found = Instances(tuple(image.shape[1:]))
        found.pred_boxes = Boxes(outputs.pop("boxes"))
        for name, value in outputs.items():
            found.set(OUTPUTS[name], value)
        original = inputs["height"], inputs["width"]
        if scale:
            return in_original_image(found, scale[0], *original)
        return detector_postprocess(found, *original)


def _arguments(about: About, cfg: CfgNode, inputs: dict[str, Any]) -> tuple[Tensor, ...]:
    """A graph's arguments of one of the inputs of a detector of detectron2."""
    image = inputs["image"].to(torch.uint8)
    h, w = image.shape[1:]
    if min(h, w) < about.min_side:
        raise ValueError(
            f"an image has {w} x {h} pixels once it is resized, and this graph takes sides of "
            f"{about.min_side} and more: raise INPUT.MIN_SIZE_TEST, or export TorchScript"
        )
    limits = cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST
    scale = box_scale((inputs["height"], inputs["width"]), (h, w), *limits)
    return (image, scale)[: len(about.inputs)]


@dataclass(frozen=True)
class Agreement:
    """How far a graph is from its detector.

    Attributes:
        detections: how many were compared.
        box: the largest difference of a coordinate, in pixels of the image.
        score: the largest of a score.
        pixels: the largest share of pixels of a mask that differ, of those in it.
    """

    detections: int
    box: float
    score: float
    pixels: float


def export(
    predictor: Predictor,
    path: str | os.PathLike[str],
    images: Sequence[np.ndarray],
    classes: Sequence[str],
    ids: Sequence[int],
) -> Agreement:
    """Write a detector as one graph that takes images of any size.

    The file gets its name once it has given the detector's own detections on the images, the
    whole ones and their upper three quarters, which have another size.

    Args:
        predictor: with a Mask R-CNN, Faster R-CNN or RetinaNet, on the CPU.
        path: ends in ``.pt``, TorchScript, ``.pt2``, ``torch.export``, or ``.onnx``.
        images: BGR uint8 ``(H, W, 3)``, at least one.
        classes: their names, by the model's index.
        ids: their ids in the data, likewise.

    Returns:
        How well the two agree.

    Raises:
        ValueError: another kind of model, one that torch cannot export, a package that is missing,
            or detections that differ.
        OSError: the file cannot be written.
    """
    kind, model = format_of(path, "--output"), predictor.model
    check_exportable(predictor.cfg, model)
    about = describe(predictor.cfg, model, classes, ids, kind)
    sizes = [part for image in images for part in (image, image[: image.shape[0] * 3 // 4])]
    resizer = copy.copy(predictor)
    resizer.model = lambda inputs: inputs  # type: ignore[assignment]
    with write_whole(path) as file:
        example = _arguments(about, predictor.cfg, resizer(images[0]))
        write_graph(model, example, kind, about, file)
        file.flush()
        exported = ExportedDetector(file.name, kind, "cpu")
        return agreement(
            [
                (predictor(image)["instances"].to("cpu"), exported(image)["instances"])
                for image in sizes
            ]
        )


def check_exportable(cfg: CfgNode, model: Any) -> None:
    """Raise a ValueError where a model is none of those that :func:`export` writes."""
    values = {
        "MODEL.META_ARCHITECTURE": (
            cfg.MODEL.META_ARCHITECTURE,
            isinstance(model, GeneralizedRCNN | DenseDetector),
        ),
        "MODEL.KEYPOINT_ON": (cfg.MODEL.KEYPOINT_ON, not cfg.MODEL.KEYPOINT_ON),
        "TEST.AUG.ENABLED": (cfg.TEST.AUG.ENABLED, not cfg.TEST.AUG.ENABLED),
        "INPUT.FORMAT": (cfg.INPUT.FORMAT, cfg.INPUT.FORMAT in ("BGR", "RGB", "L")),
    }
    for key, (value, good) in values.items():
        if not good:
            raise ValueError(
                f"{key}: {value} cannot be exported: only Faster, Mask and Cascade R-CNN and "
                "RetinaNet, of BGR, RGB or grey images, without key points and test-time "
                "augmentation"
            )


def agreement(pairs: Sequence[tuple[Instances, Instances]]) -> Agreement:
    """Compare a graph's detections with those of its detector.

    Args:
        pairs: of each image, what the detector and what the graph has found.

    Raises:
        ValueError: they differ by more than the tolerances above, or in number.
    """
    box = score = pixels = 0.0
    for expected, found in pairs:
        if len(expected) != len(found):
            raise ValueError(
                f"the exported graph finds {len(found)} objects and the model {len(expected)}: "
                "nothing was written. Take another --format"
            )
        if not len(expected):
            continue
        # Of the same class the nearest box: those of equal scores may change their order.
        other = (expected.pred_classes[:, None] != found.pred_classes).float() * 1e6
        boxes = expected.pred_boxes.tensor, found.pred_boxes.tensor
        found = found[(torch.cdist(*boxes, p=torch.inf) + other).argmin(dim=1)]
        if not torch.equal(expected.pred_classes, found.pred_classes):
            raise ValueError(
                "the exported graph finds objects of another class: nothing was written. Take "
                "another --format"
            )
        box = max(box, float((expected.pred_boxes.tensor - found.pred_boxes.tensor).abs().max()))
        score = max(score, float((expected.scores - found.scores).abs().max()))
        if expected.has("pred_masks"):
            ours, theirs = (instances.pred_masks.flatten(1) for instances in (expected, found))
            share = (ours ^ theirs).sum(dim=1) / (ours | theirs).sum(dim=1).clamp(min=1)
            pixels = max(pixels, float(share.max()))
    if box > BOX_TOLERANCE or score > SCORE_TOLERANCE:
        raise ValueError(
            f"the exported graph's boxes differ by up to {box:.3g} pixels from the model's "
            f"(allowed: {BOX_TOLERANCE}), its scores by {score:.3g} ({SCORE_TOLERANCE}): nothing "
            "was written. Take another --format"
        )
    return Agreement(sum(len(expected) for expected, _ in pairs), box, score, pixels)
