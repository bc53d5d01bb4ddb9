"""Detections in the format of COCO results, read beside their annotations, and evaluated."""

import contextlib
import io
import json
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..text import printable

# What a detection of a task has besides its image, class and score.
TASK_KEYS = {"bbox": "bbox", "segm": "segmentation"}


def require_hotcoco(command: str) -> None:
    """Raise a ValueError that says what to install, unless hotcoco is there."""
    if find_spec("hotcoco") is None:
        raise ValueError(f"{command} needs the package hotcoco: pip install hotcoco")


def read_annotations(file: str) -> dict[str, Any]:
    """Annotations in COCO's format.

    Raises:
        ValueError: another format, or no annotations; the message names the file.
    """
    truth: dict[str, Any] = _read(file, dict, "annotations in COCO's format")
    if not truth.get("annotations"):
        raise ValueError(
            f"{printable(file)} has no annotations, with which detections are compared"
        )
    return truth


def read_detections(file: str, truth: dict[str, Any]) -> list[dict[str, Any]]:
    """Detections of the images of ``truth``.

    Raises:
        ValueError: another format, or an image or class that ``truth`` does not have.
    """
    detections: list[dict[str, Any]] = _read(
        file, list, "a list of detections, in the format of COCO results"
    )
    known = {key: {entry["id"] for entry in truth[key]} for key in ("images", "categories")}
    for index, one in enumerate(detections):
        _check_keys(file, index, one, ("image_id", "category_id", "score"))
        for key, of in (("image_id", "images"), ("category_id", "categories")):
            if one[key] not in known[of]:
                raise ValueError(
                    f"{printable(file)}: detection {index} has {key} {one[key]}, which the ground "
                    f"truth's {of} do not have: are they of the same data?"
                )
    return detections


def evaluate_detections(
    file: str, truth: dict[str, Any], detections: Sequence[dict[str, Any]], task: str
) -> Any:
    """An accumulated ``hotcoco.COCOeval``.

    Args:
        file: of the detections, for messages.
        truth: see :func:`read_annotations`.
        detections: see :func:`read_detections`.
        task: ``bbox`` or ``segm``.

    Raises:
        ValueError: a detection lacks a box, or a mask.
    """
    import hotcoco

    keys = ("image_id", "category_id", "score", TASK_KEYS[task])
    for index, one in enumerate(detections):
        _check_keys(file, index, one, keys[-1:])
    annotated = hotcoco.COCO(truth)
    # With a box, its area would decide which masks are small.
    shown = [{key: one[key] for key in keys} for one in detections]
    found = annotated.load_res(shown) if shown else hotcoco.COCO({**truth, "annotations": []})
    evaluation = hotcoco.COCOeval(annotated, found, task)
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation


def _read(file: str, kind: type, what: str) -> Any:
    try:
        content = json.loads(Path(file).read_bytes())
    except ValueError as error:
        raise ValueError(f"{printable(file)} is no JSON ({error}): {what} are needed") from error
    if not isinstance(content, kind):
        raise ValueError(f"{printable(file)} must be {what}")
    return content


def _check_keys(file: str, index: int, detection: Any, keys: Sequence[str]) -> None:
    lacking = [key for key in keys if not isinstance(detection, dict) or key not in detection]
    if lacking:
        raise ValueError(f"{printable(file)}: detection {index} has no {', '.join(lacking)}")
