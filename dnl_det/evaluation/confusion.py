"""The confusion matrix of semantic segmentation as a picture."""

import io
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from ..text import shortened
from .pictures import plain_text

_LONGEST_NAME = 24  # characters
_MOST_WITH_NUMBERS = 40  # classes
_CELL, _SMALL_CELL = 0.32, 0.14  # inches, with and without a number in it
_NAMES = 2.5  # inches
_DPI = 120


def draw_confusion(counts: np.ndarray, names: Sequence[str]) -> bytes:
    """A row for each annotated class: as what its pixels are predicted, in percent.

    Up to 40 classes, the numbers are written in the cells. A row without pixels is grey.

    Args:
        counts: pixels ``(K, K)``, annotated class by predicted class.
        names: of the K classes.

    Returns:
        A PNG.
    """
    with np.errstate(invalid="ignore"):
        percent = 100 * counts / counts.sum(axis=1, keepdims=True)
    numbered = len(names) <= _MOST_WITH_NUMBERS
    side = _NAMES + len(names) * (_CELL if numbered else _SMALL_CELL)
    labels = [shortened(name, _LONGEST_NAME) for name in names]
    buffer = io.BytesIO()
    with plain_text(labels):
        figure = Figure(figsize=(side, side), layout="constrained")
        axes = figure.subplots()
        axes.set_facecolor("lightgrey")
        shown = axes.imshow(percent, cmap="Blues", vmin=0, vmax=100)
        size = 9 if numbered else 6
        axes.set_xticks(range(len(names)), labels, rotation=90, fontsize=size)
        axes.set_yticks(range(len(names)), labels, fontsize=size)
        axes.set_xlabel("predicted")
        axes.set_ylabel("annotated")
        figure.colorbar(shown, label="% of the annotated pixels", shrink=0.5, fraction=0.03)
        for row, column in np.argwhere(percent >= 0.5) if numbered else ():
            value = percent[row, column]
            color = "white" if value > 60 else "black"
            axes.text(
                column, row, f"{value:.0f}", ha="center", va="center", fontsize=8, color=color
            )
        figure.savefig(buffer, format="png", dpi=_DPI, bbox_inches="tight")
    return buffer.getvalue()
