"""The page of a report: one file that needs no other."""

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment

from .numbers import Numbers

_TEMPLATE = Path(__file__).with_name("report.html")
_TASKS = {"bbox": "Boxes", "segm": "Masks"}
# Of TIDE, in its own words.
_ERRORS = {
    "Cls": "right place, wrong class",
    "Loc": "right class, imprecise place",
    "Both": "wrong class and imprecise place",
    "Dupe": "one more detection of an object that is found",
    "Bkg": "no object there",
    "Miss": "an object that nothing found",
}


def render_page(
    title: str,
    numbers: Mapping[str, Numbers],
    charts: Mapping[str, Mapping[str, bytes]],
    worst: Mapping[str, Sequence[tuple[dict[str, Any], bytes | None]]],
) -> str:
    """HTML with all pictures in it.

    Args:
        title: such as the file of the detections.
        numbers: of each task, see :func:`~dnl_det.evaluation.report.analyse`.
        charts: of each task, see :func:`~dnl_det.evaluation.report.draw_charts`.
        worst: of each task the rows of its worst images, with their pictures if there are any.
    """
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["base64"] = lambda content: base64.b64encode(content).decode()
    environment.filters["percent"] = _percent
    template = environment.from_string(_TEMPLATE.read_text(encoding="utf-8"))
    return template.render(
        title=title, tasks=_TASKS, numbers=numbers, charts=charts, worst=worst, errors=_ERRORS
    )


def _percent(value: float | None) -> str:
    return "–" if value is None or value < 0 else f"{100 * value:.1f}"
