"""What AP alone does not say about a detector: its errors, its scores, its worst images."""

from .charts import draw_charts
from .numbers import analyse, operating_point
from .page import render_page
from .worst import draw_worst

__all__ = ["analyse", "draw_charts", "draw_worst", "operating_point", "render_page"]
