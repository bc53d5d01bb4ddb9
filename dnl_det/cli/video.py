"""What ``predict`` does with a video: one drawn, and a line of JSON for each frame."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from ..engine import Predictor, at_first_signal
from ..files import write_whole
from ..text import printable

SUFFIXES = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm")
_UNKNOWN_RATE = 25.0  # frames a second, where the file does not say


def is_video(file: str) -> bool:
    """Whether its name ends as a video's does."""
    return Path(file).suffix.lower() in SUFFIXES


class Video:
    """The frames of a file, one after the other.

    Args:
        file: any that OpenCV reads.

    Attributes:
        rate: frames a second.
        count: of the frames, as far as the file says; else 0.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is no video, or has no frame.
    """

    def __init__(self, file: str):
        if not os.path.isfile(file):
            raise FileNotFoundError(f"IMAGE: there is no file {printable(file)}")
        self.file = file
        opened = cv2.VideoCapture(file)
        if not (opened.isOpened() and opened.read()[0]):
            raise ValueError(
                f"IMAGE: {printable(file)} cannot be read as a video: play it to see whether it is "
                "whole, or write it anew with ffmpeg"
            )
        rate = opened.get(cv2.CAP_PROP_FPS)
        self.rate = rate if 0 < rate < 1000 else _UNKNOWN_RATE
        self.count = max(int(opened.get(cv2.CAP_PROP_FRAME_COUNT)), 0)
        opened.release()

    def __iter__(self) -> Iterator[np.ndarray]:
        """BGR uint8 ``(H, W, 3)``."""
        opened = cv2.VideoCapture(self.file)
        try:
            while True:
                there, frame = opened.read()
                if not there:
                    return
                yield frame
        finally:
            opened.release()


def predict_video(
    predictor: Predictor, video: Video, outputs: tuple[Path, Path], show: Any
) -> tuple[int, int]:
    """Write a video with what was found, and JSON lines with the numbers.

    Frames are read, shown and written one by one. SIGINT (Ctrl-C) or SIGTERM ends both files after
    the frame that is being shown; a second one ends at once, without files.

    Args:
        predictor: gives what is found in a frame.
        video: to read.
        outputs: the .mp4 and the .jsonl to write.
        show: from a frame and what was found in it to its picture, RGB uint8 ``(H, W, 3)``, and to
            its numbers, a dictionary.

    Returns:
        The number of frames, and that of the signal which ended them early, or 0.

    Raises:
        OSError: a file cannot be written.
    """
    drawn, lines = outputs
    # OpenCV chooses the format by the name's end, and writes by itself.
    partial = drawn.with_name(f".{drawn.stem}.{os.getpid()}.partial.mp4")
    writer, count = None, 0
    signals: list[int] = []
    try:
        with write_whole(lines) as numbers, at_first_signal(signals.append):
            for frame in tqdm(video, total=video.count or None, unit="frame", desc=drawn.stem):
                picture, found = show(frame, predictor(frame))
                if writer is None:
                    writer = _writer(partial, video.rate, picture)
                writer.write(np.ascontiguousarray(picture[:, :, ::-1]))
                line = {"frame": count, "seconds": count / video.rate, **found}
                numbers.write(json.dumps(line).encode() + b"\n")
                count += 1
                if signals:
                    break
            if writer is not None:
                writer.release()
                partial.replace(drawn)
    finally:
        partial.unlink(missing_ok=True)
    return count, signals[0] if signals else 0


def _writer(file: Path, rate: float, picture: np.ndarray) -> cv2.VideoWriter:
    height, width = picture.shape[:2]
    code = cv2.VideoWriter.fourcc(*"mp4v")
    writer = cv2.VideoWriter(str(file), code, rate, (width, height))
    if not writer.isOpened():
        raise OSError(f"{file.parent} cannot be written to, or OpenCV has no encoder for .mp4")
    return writer
