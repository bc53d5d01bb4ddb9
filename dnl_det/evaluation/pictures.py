"""Pictures of detections, of predicted labels, and of what was annotated."""

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from detectron2.data import Metadata
from detectron2.data.detection_utils import convert_image_to_rgb
from detectron2.structures import BoxMode, Instances
from detectron2.utils.colormap import colormap
from detectron2.utils.logger import log_first_n
from detectron2.utils.visualizer import Visualizer
from matplotlib import rc_context
from matplotlib.font_manager import FontProperties, findfont, get_font

from ..text import shortened

# Pixels. In a smaller picture, class names would hide the objects.
_SHORT_SIDE = 480
_FONT_SIZE = 18
_LONGEST_NAME = 24  # characters: most of the width of the smallest picture
# Light enough for the object to be seen through its mask.
_MASK_ALPHA = 0.3
_LABEL_ALPHA = 0.5


def draw_detections(
    image: np.ndarray, instances: Instances, metadata: Metadata, threshold: float
) -> np.ndarray:
    """Boxes, masks, class names and scores on an image, one colour a class.

    Args:
        image: BGR uint8 ``(H, W, 3)``.
        instances: a model's output for it, in its pixels.
        metadata: for ``thing_classes``.
        threshold: the lowest score drawn, 0 to 1.

    Returns:
        RGB uint8, enlarged where the shorter side has fewer than 480 pixels.
    """
    shown = instances.to("cpu")
    shown = shown[shown.scores >= threshold]
    masks = shown.pred_masks.numpy() if shown.has("pred_masks") else None
    classes, scores = shown.pred_classes.tolist(), shown.scores.tolist()
    labels = [
        f"{name} {score:.0%}" for name, score in zip(_names(classes, metadata), scores, strict=True)
    ]
    return _draw(image, shown.pred_boxes.tensor.numpy(), masks, labels, classes)


def draw_annotations(
    image: np.ndarray, annotated: dict[str, Any], metadata: Metadata
) -> np.ndarray:
    """The same of an annotated image, ``annotated`` in detectron2's data set format."""
    annotations = annotated["annotations"]
    boxes = [BoxMode.convert(a["bbox"], a["bbox_mode"], BoxMode.XYXY_ABS) for a in annotations]
    has_masks = all("segmentation" in a for a in annotations)
    masks = [a["segmentation"] for a in annotations] if has_masks else None
    classes = [a["category_id"] for a in annotations]
    labels = _names(classes, metadata)
    return _draw(image, np.array(boxes).reshape(-1, 4), masks, labels, classes)


def draw_labels(image: np.ndarray, labels: np.ndarray, metadata: Metadata) -> np.ndarray:
    """The class of each pixel as a colour over an image, with the names of the classes.

    Args:
        image: BGR uint8 ``(H, W, 3)``.
        labels: ``(H, W)``, from 0 on; where one is no class, the image stays.
        metadata: for ``stuff_classes``, and ``stuff_colors`` where there are any.

    Returns:
        RGB uint8, enlarged where the shorter side has fewer than 480 pixels.
    """
    names = [shortened(name, _LONGEST_NAME) for name in metadata.stuff_classes]
    palette = colormap(rgb=True, maximum=255).tolist()
    colors = metadata.get("stuff_colors") or [palette[k % len(palette)] for k in range(len(names))]
    shown = Metadata(name="labels", stuff_classes=names, stuff_colors=colors)
    with plain_text([names[k] for k in np.unique(labels) if k < len(names)]):
        drawn = _canvas(image, shown).draw_sem_seg(labels, alpha=_LABEL_ALPHA)
        return drawn.get_image()


def _names(classes: Sequence[int], metadata: Metadata) -> list[str]:
    return [shortened(metadata.thing_classes[index], _LONGEST_NAME) for index in classes]


def _draw(
    image: np.ndarray, boxes: np.ndarray, masks: Any, labels: list[str], classes: Sequence[int]
) -> np.ndarray:
    canvas = _canvas(image)
    palette = colormap(rgb=True, maximum=1)
    with plain_text(labels):
        canvas.overlay_instances(
            boxes=boxes,
            masks=masks,
            labels=labels,
            assigned_colors=[palette[index % len(palette)] for index in classes],
            alpha=_MASK_ALPHA,
        )
        return canvas.output.get_image()


def _canvas(image: np.ndarray, metadata: Metadata | None = None) -> Visualizer:
    scale = max(1.0, _SHORT_SIDE / min(image.shape[:2]))
    canvas = Visualizer(convert_image_to_rgb(image, "BGR"), metadata, scale=scale)
    # Its own choice shrinks as the picture is enlarged.
    canvas._default_font_size = max(canvas._default_font_size, _FONT_SIZE / scale)
    return canvas


@contextmanager
def plain_text(labels: Sequence[str]) -> Iterator[None]:
    """Let matplotlib draw names of classes as they are: no mathematics, and one warning at most.

    Args:
        labels: what is drawn.
    """
    _warn_of_missing_glyphs(labels)
    with warnings.catch_warnings(), rc_context({"text.parse_math": False, "text.usetex": False}):
        warnings.filterwarnings("ignore", "Glyph .* missing from")  # one for each character
        yield


def _warn_of_missing_glyphs(labels: Sequence[str]) -> None:
    font = get_font(findfont(FontProperties(family=["sans-serif"])))
    if not all(font.get_char_index(ord(c)) for label in labels for c in label):
        log_first_n(
            logging.WARNING,
            f"The font {font.family_name} lacks characters of class names, which pictures show as "
            "boxes. Name an installed font that has them as font.sans-serif in a matplotlibrc.",
            name=__name__,
        )
