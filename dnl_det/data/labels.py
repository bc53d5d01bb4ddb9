"""Label files of semantic segmentation: the number of each pixel's class."""

import os

import numpy as np
from detectron2.utils.file_io import PathManager
from PIL import Image

from ..text import printable
from .reading import UnreadableImageError, is_16_bit_grey, open_image

# Pillow's modes of one channel; P is a palette, whose indices are the labels.
_MODES = ("1", "L", "P")


class LabelError(UnreadableImageError):
    """Semantic labels that cannot be used. The message says which and what to do."""


def read_labels(file: str | os.PathLike[str], offset: int = 0, ignore: int = 255) -> np.ndarray:
    """The class of each pixel.

    Args:
        file: an image of one channel of 8 or 16 bits, or with a palette.
        offset: of the data set's ``label_offset``: what class 0 is in the file. Lower values are
            ignored.
        ignore: the value of pixels that do not count, in the file and in the result.

    Returns:
        ``(H, W)``, int64. That they are classes is not checked.

    Raises:
        FileNotFoundError: no such file.
        LabelError: it cannot be read, or has several channels.
    """
    name = printable(os.fspath(file))
    try:
        with PathManager.open(os.fspath(file), "rb") as opened, open_image(opened) as image:
            mode = image.mode
            values = np.array(image).astype(np.int64) if is_label_image(image) else None
    except FileNotFoundError:
        raise
    except Exception as error:  # see open_image
        raise LabelError(f"{name} cannot be read as labels ({printable(str(error))})") from error
    if values is None:
        raise LabelError(
            f"{name} is an image of mode {mode}: semantic labels must have one channel of whole "
            "numbers, the class of each pixel; write it again as a grey or palette PNG"
        )
    if offset:
        values = np.where((values < offset) | (values == ignore), ignore, values - offset)
    return values


def is_label_image(image: Image.Image) -> bool:
    """Whether an opened image has one channel of whole numbers."""
    return image.mode in _MODES or is_16_bit_grey(image)


def check_label_values(
    labels: np.ndarray,
    file: str,
    num_classes: int,
    offset: int = 0,
    ignore: int = 255,
    kind: str = "classes of the model",
) -> None:
    """Check that every label is a class, or ignored.

    Args:
        labels: of :func:`read_labels`, with the same ``offset`` and ``ignore``.
        file: they are from.
        num_classes: how many there are.
        kind: of classes, in words.

    Raises:
        LabelError: names the file, a label and what is allowed.
    """
    wrong = labels[(labels >= num_classes) & (labels != ignore)]
    if len(wrong):
        raise LabelError(
            f"{printable(str(file))} has the label {wrong[0] + offset}: must be from {offset} to "
            f"{num_classes - 1 + offset}, one of the {num_classes} {kind}, or {ignore} for a "
            "pixel that does not count; correct the file, or add the class"
        )


def check_label_size(
    labels: np.ndarray, file: str, image_size: tuple[int, ...], image_file: str
) -> None:
    """Check that labels have their image's size, ``(height, width)``.

    Raises:
        LabelError: names both files and both sizes.
    """
    if labels.shape != image_size:
        raise LabelError(
            f"{printable(str(file))} has {labels.shape[1]} x {labels.shape[0]} pixels, and its "
            f"image {printable(str(image_file))} {image_size[1]} x {image_size[0]}: labels must "
            "have the size of their image"
        )
