"""Image files to arrays: 8 bits, three channels, upright; what cannot be read is named."""

import functools
import os
from collections.abc import Iterator
from contextlib import contextmanager

import cv2
import numpy as np
from detectron2.data import detection_utils
from PIL import Image

from .findings import printable

# What Pillow decodes by itself. Others, such as EPS, it hands to programs outside.
_FORMATS = ("JPEG", "MPO", "PNG", "BMP", "GIF", "TIFF", "WEBP", "PPM", "JPEG2000", "AVIF", "TGA")


class UnreadableImageError(ValueError):
    """An image file that cannot be read, or is not the one that was annotated."""

    def __init__(self, message: str):
        # A worker of torch's loader puts its traceback before the message.
        super().__init__(message.rstrip().rsplit(f"{type(self).__name__}: ", 1)[-1])


@contextmanager
def open_image(file: str) -> Iterator[Image.Image]:
    """A file opened by Pillow, its header read and its pixels not.

    Raises:
        Exception: Pillow's decoders raise what they like; ``Image.DecompressionBombError`` where
            there are more pixels than it allows.
    """
    with Image.open(file, formats=_formats()) as image:
        yield image


@functools.cache
def _formats() -> list[str]:
    Image.init()
    return [name for name in _FORMATS if name in Image.OPEN]


def is_16_bit_grey(image: Image.Image) -> bool:
    """Whether an opened image has one channel of 16 bits, which ``convert`` would turn white."""
    return image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM"))


def is_readable_mode(image: Image.Image) -> bool:
    """False for 32-bit integers and floating-point pixels, whose range is not known."""
    return image.mode not in ("I", "F") or is_16_bit_grey(image)


def read_with_pillow(file: str, image_format: str | None) -> np.ndarray:
    """An image as detectron2's ``read_image`` reads it, and grey ones of 16 bits rightly.

    Args:
        file: its path.
        image_format: as ``INPUT.FORMAT``.

    Returns:
        ``(H, W, C)``, uint8 for ``BGR`` and ``RGB``.

    Raises:
        UnreadableImageError: it cannot be read.
    """
    try:
        with open_image(file) as opened:
            if not is_readable_mode(opened):
                raise ValueError("its pixels are floating-point numbers or 32-bit integers")
            wide = is_16_bit_grey(opened)
            image = detection_utils._apply_exif_orientation(opened)
            if wide:
                image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
            pixels: np.ndarray = detection_utils.convert_PIL_to_numpy(image, image_format)
            return pixels
    except Exception as error:  # see open_image
        raise UnreadableImageError(_message(file, error)) from error


def read_with_opencv(file: str, image_format: str) -> np.ndarray:
    """An image as ``cv2.imread`` reads it: 8 bits, three channels, upright.

    Raises:
        UnreadableImageError: it cannot be read.
        ValueError: another ``image_format`` than BGR and RGB.
    """
    if image_format not in ("BGR", "RGB"):
        raise ValueError(
            f"INPUT.FORMAT: {image_format!r} must be BGR or RGB with INPUT.IMAGE_LIBRARY opencv"
        )
    try:
        # OpenCV's own limit is six times that of Pillow, and it reads what Pillow need not.
        with open_image(file):
            pass
    except Image.DecompressionBombError as error:
        raise UnreadableImageError(_message(file, error)) from error
    except Exception:  # see open_image
        pass
    image = cv2.imread(os.fspath(file), cv2.IMREAD_COLOR)  # BGR
    if image is None:
        raise UnreadableImageError(f"{printable(file)} cannot be read as an image by OpenCV")
    return image if image_format == "BGR" else np.ascontiguousarray(image[:, :, ::-1])


def _message(file: str, error: Exception) -> str:
    return f"{printable(os.fspath(file))} cannot be read as an image ({printable(str(error))})"
