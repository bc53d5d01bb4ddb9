"""The generated data set Shapes, whose classes need context.

Its options, its scenes, how they are drawn and written, and its registration in detectron2.
"""

from ..registering import default_root
from .options import (
    CATEGORY_IDS,
    ENDINGS_OF_CUE,
    OUTLINES_OF_CUE,
    PALETTE,
    SPLITS,
    THING_CLASSES,
    ShapesOptions,
)
from .register import register_shapes
from .scene import Scene, make_scene
from .writing import count_categories, json_path, write_shapes

__all__ = [
    "CATEGORY_IDS",
    "ENDINGS_OF_CUE",
    "OUTLINES_OF_CUE",
    "PALETTE",
    "SPLITS",
    "THING_CLASSES",
    "Scene",
    "ShapesOptions",
    "count_categories",
    "default_root",
    "json_path",
    "make_scene",
    "register_shapes",
    "write_shapes",
]
