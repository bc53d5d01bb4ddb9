"""Image files to arrays: 8 bits, three channels, upright; what cannot be read is named."""

import functools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

import cv2
import numpy as np
from detectron2.data import detection_utils
from PIL import Image

from ..text import printable

# What Pillow decodes by itself. Others, such as EPS, it hands to programs outside.
_FORMATS = ("JPEG", "MPO", "PNG", "BMP", "GIF", "TIFF", "WEBP", "PPM", "JPEG2000", "AVIF", "TGA")

_ORIENTATION = 274  # of EXIF
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_AS_STORED = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION


class UnreadableImageError(ValueError):
    """An image file that cannot be read, or is not the one that was annotated."""

    def __init__(self, message: str):
        # A worker of torch's loader puts its traceback before the message.
        super().__init__(message.rstrip().rsplit(f"{type(self).__name__}: ", 1)[-1])


@contextmanager
def open_image(file: str | IO[bytes]) -> Iterator[Image.Image]:
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


@functools.cache
def _becomes_rgb(mode: str) -> bool:
    try:
        Image.new(mode, (1, 1)).convert("RGB")
    except ValueError:
        return False
    return True


def is_readable_mode(image: Image.Image) -> bool:
    """False for 32-bit integers and floating-point pixels, whose range is not known."""
    return is_16_bit_grey(image) or (image.mode not in ("I", "F") and _becomes_rgb(image.mode))


def orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8, that an opened image's EXIF or XMP notes.

    A PNG may note it behind its pixels: load them before. A TIFF's is 1 once it is loaded, since
    Pillow then has turned it.
    """
    try:
        # Not PngImageFile's, which decodes all pixels to look for it.
        noted = Image.Image.getexif(image).get(_ORIENTATION, 1)
    except Exception:  # as detectron2, which then takes it for upright
        return 1
    return int(noted) if noted in range(1, 9) else 1


def to_array(opened: Image.Image, image_format: str | None) -> np.ndarray:
    """The pixels of an opened image, upright; see :func:`read_with_pillow`."""
    if not is_readable_mode(opened):
        raise ValueError(f"its pixels, of mode {opened.mode}, have no known range or colours")
    wide = is_16_bit_grey(opened)
    opened.load()
    image = _turned(opened, orientation(opened))
    if wide:
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    pixels: np.ndarray = detection_utils.convert_PIL_to_numpy(image, image_format)
    return pixels


def _turned(image: Image.Image, noted: int) -> Image.Image:
    return image.transpose(_TURNS[noted]) if noted in _TURNS else image


def read_with_pillow(file: str, image_format: str | None) -> np.ndarray:
    """An image as detectron2's ``read_image`` reads it, with every orientation and 16 bits right.

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
            return to_array(opened, image_format)
    except Exception as error:  # see open_image
        raise UnreadableImageError(_message(file, error)) from error


def read_with_opencv(file: str, image_format: str) -> np.ndarray:
    """An image upright, 8 bits, three channels; grey and RGB JPEG decoded by ``cv2.imread``.

    Other files give the same pixels whoever decodes them, or other colours, or OpenCV does not
    read them: these are left to Pillow, so that both libraries read the same files alike.

    Args:
        file: its path.
        image_format: ``BGR`` or ``RGB``.

    Raises:
        UnreadableImageError: it cannot be read.
    """
    try:
        with open_image(file) as opened:
            pixels = None
            if opened.format in ("JPEG", "MPO") and opened.mode in ("L", "RGB"):
                pixels = cv2.imread(os.fspath(file), _AS_STORED)  # BGR
            if pixels is None:
                return np.ascontiguousarray(to_array(opened, image_format))
            noted = orientation(opened)
    except Exception as error:  # see open_image
        raise UnreadableImageError(_message(file, error)) from error
    if noted != 1:
        pixels = np.asarray(_turned(Image.fromarray(pixels), noted))
    return pixels if image_format == "BGR" else np.ascontiguousarray(pixels[:, :, ::-1])


def _message(file: str, error: Exception) -> str:
    return f"{printable(os.fspath(file))} cannot be read as an image ({printable(str(error))})"
