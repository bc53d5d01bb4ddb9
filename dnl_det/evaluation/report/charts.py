"""The charts of a report, by hotcoco."""

import io
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ..pictures import plain_text
from .numbers import BACKGROUND_IOU, IOU

_CLASSES = 10  # curves in one chart
_DPI = 120


def draw_charts(evaluation: Any, threshold: float, names: Sequence[str]) -> dict[str, bytes]:
    """PNG files by name: ``precision_recall``, ``classes``, ``confusion`` and ``tide``.

    Args:
        evaluation: an accumulated and summarised ``hotcoco.COCOeval``.
        threshold: the lowest score that counts in the confusion matrix, 0 to 1.
        names: of the classes, as they are drawn.
    """
    from hotcoco import plot
    from matplotlib import pyplot

    with plain_text(names), _any_font_weight():
        figures = {
            "precision_recall": plot.pr_curve_iou_sweep(evaluation),
            "classes": plot.pr_curve_top_n(evaluation, top_n=_CLASSES, iou_thr=IOU),
            "confusion": plot.confusion_matrix(
                evaluation.confusion_matrix(iou_thr=IOU, min_score=threshold)
            ),
            "tide": plot.tide_errors(evaluation.tide_errors(pos_thr=IOU, bg_thr=BACKGROUND_IOU)),
        }
        drawn = {}
        for name, (figure, _) in figures.items():
            buffer = io.BytesIO()
            figure.savefig(buffer, format="png", dpi=_DPI, bbox_inches="tight")
            drawn[name] = buffer.getvalue()
            pyplot.close(figure)
    return drawn


@contextmanager
def _any_font_weight() -> Iterator[None]:
    """Without a warning for each weight that the fonts of hotcoco do not have."""
    logger = logging.getLogger("matplotlib.font_manager")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
