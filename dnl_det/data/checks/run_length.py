"""COCO's run-length encoding (RLE), looked at before pycocotools' C code trusts it."""

from typing import Any


def runs_of(rle: dict[str, Any], height: int, width: int) -> list[int]:
    """The lengths of the runs of 0 and 1 in turn, down the columns.

    Args:
        rle: ``size`` ``[height, width]`` and ``counts``, a list or COCO's compressed text.
        height, width: of the image, in pixels.

    Raises:
        ValueError: it is not RLE, or not of an image of that size.
    """
    if rle.get("size") != [height, width]:
        raise ValueError("its size is not that of the image")
    counts = rle.get("counts")
    if isinstance(counts, str):
        runs = _decompress(counts)
    elif isinstance(counts, list) and all(type(run) is int for run in counts):
        runs = counts
    else:
        raise ValueError("its counts are neither text nor a list of whole numbers")
    if min(runs, default=0) < 0 or sum(runs) != height * width:
        raise ValueError("its counts do not add up to the image's pixels")
    return runs


def _decompress(text: str) -> list[int]:
    """As pycocotools' rleFrString: groups of 5 bits, each run less the one before the last."""
    runs: list[int] = []
    value = shift = 0
    for character in text:
        code = ord(character) - 48
        if not 0 <= code < 64 or shift > 30:
            raise ValueError("its counts are not COCO's compressed text")
        value |= (code & 31) << shift
        shift += 5
        if code & 32:
            continue
        if code & 16:
            value -= 1 << shift
        if len(runs) > 2:
            value += runs[-2]
        runs.append(value)
        value = shift = 0
    if shift:
        raise ValueError("its counts end in the middle of a number")
    return runs
