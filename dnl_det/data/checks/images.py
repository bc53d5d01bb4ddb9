"""The files of a data set's images: there, whole, of a kind that is read, and as large as said."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from PIL import Image
from tqdm import tqdm

from ...text import printable, repr_shortly
from ..reading import is_16_bit_grey, is_readable_mode, open_image, orientation, to_array
from .entries import why_missing
from .findings import Report

T = TypeVar("T")

_TIFF_BITS_PER_SAMPLE, _TIFF_ORIENTATION = 258, 274
# Pillow's modes of the images that are converted as they are read.
_CONVERTED = {
    "image-grey": ("1", "L", "LA", "La", "I", "I;16", "I;16L", "I;16B", "I;16N"),
    "image-alpha": ("RGBA", "RGBa", "LA", "La", "PA"),
    "image-cmyk": ("CMYK", "YCbCr", "LAB"),
}


@dataclass
class Look:
    """What a look at one file gives.

    Attributes:
        stored: width and height of its pixels; None where it cannot be read.
        upright: the same after the rotation that its EXIF or XMP notes.
        found: codes and details.
    """

    stored: tuple[int, int] | None = None
    upright: tuple[int, int] | None = None
    found: list[tuple[str, str]] = field(default_factory=list)


def look_at(file: str | Path, decode: bool) -> Look:
    """Look at an image file.

    Args:
        file: its path.
        decode: decode it in any case; otherwise only where its end is not as it should be, so that
            damage in the middle stays unseen.
    """
    try:
        if not os.path.isfile(file):
            return Look(found=[("image-missing", "")])
        size = os.path.getsize(file)
        if not size:
            return Look(found=[("image-zero-bytes", "")])
        with open_image(os.fspath(file)) as image:
            if not is_readable_mode(image):
                return Look(found=[("image-unreadable", f"its pixels are of mode {image.mode}")])
            try:
                decode = decode or not _ends_well(image, file, size)
                if decode and image.format == "PNG":
                    image.load()  # its orientation may be behind its pixels
                look = _describe(image, file)
                if decode:
                    _decode(image, file)
            except Exception as error:  # Pillow's decoders raise what they like
                return Look(found=[("image-truncated", printable(str(error)))])
            return look
    except Image.DecompressionBombError as error:
        return Look(found=[("image-bomb", printable(str(error)))])
    except Exception as error:  # see above
        return Look(found=[("image-unreadable", _without_path(error))])


def _without_path(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return "no format that is read" if isinstance(error, OSError) else printable(str(error))


def _decode(image: Image.Image, file: str | Path) -> None:
    to_array(image, "RGB")
    if image.format == "PNG":  # whose check sums are passed over in decoding
        with open_image(os.fspath(file)) as again:
            again.verify()


def _describe(image: Image.Image, file: str | Path) -> Look:
    noted = orientation(image)
    look = Look(image.size, image.size[::-1] if noted > 4 else image.size)
    tags: Any = image
    if image.format == "TIFF" and tags.tag_v2.get(_TIFF_ORIENTATION) in range(5, 9):
        look.stored, look.upright = look.upright, look.stored  # Pillow tells the size when turned
    if noted > 1:
        look.found.append(("image-rotated", f"orientation {noted}"))
    if is_16_bit_grey(image) or _bits_per_channel(image, file) == 16:
        look.found.append(("image-16-bit", ""))
    for code, modes in _CONVERTED.items():
        if image.mode in modes or (code == "image-alpha" and "transparency" in image.info):
            look.found.append((code, ""))
    return look


def _bits_per_channel(image: Image.Image, file: str | Path) -> int:
    if image.format == "PNG":
        with open(file, "rb") as stream:
            return stream.read(25)[24]  # of IHDR, always the first chunk
    if image.format == "TIFF":
        tags: Any = image
        bits = tags.tag_v2.get(_TIFF_BITS_PER_SAMPLE, 8)
        return max(bits) if isinstance(bits, tuple) else bits
    return 8


def _ends_well(image: Image.Image, file: str | Path, size: int) -> bool:
    """Whether a file ends as a whole one does; False where that cannot be told."""
    with open(file, "rb") as stream:
        head = stream.read(12)
        stream.seek(max(0, size - 12))
        tail = stream.read()
    if image.format in ("JPEG", "MPO"):
        return tail.endswith(b"\xff\xd9")
    if image.format == "PNG":
        return tail[4:8] == b"IEND" and not _notes_behind_pixels(file)
    if image.format == "BMP":
        return int.from_bytes(head[2:6], "little") == size
    if image.format == "WEBP":
        return int.from_bytes(head[4:8], "little") + 8 <= size
    return False


def _notes_behind_pixels(file: str | Path) -> bool:
    """Whether a PNG has EXIF or text, which may be XMP, after its pixels."""
    with open(file, "rb") as stream:
        stream.seek(8)
        pixels = False
        while len(head := stream.read(8)) == 8:
            kind = head[4:]
            if pixels and kind in (b"eXIf", b"iTXt", b"tEXt", b"zTXt"):
                return True
            pixels |= kind == b"IDAT"
            stream.seek(int.from_bytes(head[:4], "big") + 4, os.SEEK_CUR)
    return False


def check_images(
    entries: list[dict[str, Any]],
    root: Path,
    annotated: set[int],
    report: Report,
    decode: bool,
    progress: bool = False,
) -> tuple[list[dict[str, Any]], set[int]]:
    """The images that can be used; their width and height are then those of their files.

    Args:
        entries: of :func:`check_image_entries`.
        root: the folder their files are in.
        annotated: ids of images with annotations.
        report: gets what is wrong.
        decode: see :func:`look_at`.
        progress: show a bar.

    Returns:
        The entries to go on with, and the ids of those left out.
    """
    kept, left_out = [], set()
    bar = tqdm(entries, desc=report.name, unit=" images", disable=not progress, mininterval=0.5)
    for entry, look in zip(bar, _looks(entries, root, decode), strict=True):
        where = {"file": entry["file_name"], "image_id": entry["id"]}
        for code, detail in look.found:
            detail = detail or (why_missing(entry["file_name"]) if code == "image-missing" else "")
            report.add(code, detail, **where)
        if look.upright and _take_size(entry, look, entry["id"] in annotated, report, where):
            kept.append(entry)
        else:
            left_out.add(entry["id"])
    return kept, left_out


def _looks(entries: list[dict[str, Any]], root: Path, decode: bool) -> Iterator[Look]:
    def look(entry: dict[str, Any]) -> Look:
        name = entry["file_name"]
        slashed = name.replace("\\", "/")
        if slashed == name or os.path.isfile(root / name) or not os.path.isfile(root / slashed):
            return look_at(root / name, decode)
        entry["file_name"] = slashed
        look = look_at(root / slashed, decode)
        look.found.insert(0, ("image-backslash", printable(name)))
        return look

    yield from in_threads(look, entries)


def in_threads(look: Callable[[dict[str, Any]], T], entries: list[dict[str, Any]]) -> Iterator[T]:
    """What ``look`` gives of each entry, in their order.

    Waiting for files and decoding leave Python's lock to other threads.
    """
    portion = 2000  # so that stopping the program does not wait for all of them
    with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
        for begin in range(0, len(entries), portion):
            yield from pool.map(look, entries[begin : begin + portion])


def _take_size(
    entry: dict[str, Any], look: Look, annotated: bool, report: Report, where: dict[str, Any]
) -> bool:
    """Give the entry its file's size; False where it has another one and objects in it."""
    given = entry.get("width"), entry.get("height")
    as_said = given == look.upright
    if not (as_said and all(type(side) is int for side in given)):
        is_ = "the file is {} x {}".format(*look.upright or ())
        if given == look.stored and not as_said:
            is_ += " after the rotation that its EXIF or XMP notes"
        said = " x ".join(repr_shortly(side) for side in given)
        told = all(isinstance(side, (int, float)) and side == side for side in given)
        wrong = told and annotated and not as_said
        code = "image-size" if wrong else "image-size-taken"
        report.add(code, f"{is_}, the JSON says {said} (width x height)", **where)
        if wrong:
            return False
    entry["width"], entry["height"] = look.upright or given
    return True
