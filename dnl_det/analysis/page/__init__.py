"""What recorded attention looks like: the explorer's page and the figure.

The page's HTML, CSS and scripts are in ``assets/``.
"""

from .detections import class_regions
from .explorer import GENERATOR, PAGE_BUDGET, block_names, explore_image
from .figure import AttentionFigure, default_points

__all__ = [
    "GENERATOR",
    "PAGE_BUDGET",
    "AttentionFigure",
    "block_names",
    "class_regions",
    "default_points",
    "explore_image",
]
