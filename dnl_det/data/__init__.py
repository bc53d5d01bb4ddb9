"""Images for the models; the generated Shapes data set and its registration in detectron2."""

from . import class_table  # noqa: F401  changes what detectron2 prints
from .builtin import register_builtin
from .checks import DataError
from .images import FileMapper, OpenCVMapper, build_mapper
from .reading import UnreadableImageError
from .shapes import (
    CATEGORY_IDS,
    THING_CLASSES,
    Scene,
    ShapesOptions,
    count_categories,
    make_scene,
    register_shapes,
    write_shapes,
)
from .stream import TrainingStream

__all__ = [
    "CATEGORY_IDS",
    "DataError",
    "FileMapper",
    "OpenCVMapper",
    "THING_CLASSES",
    "Scene",
    "ShapesOptions",
    "TrainingStream",
    "UnreadableImageError",
    "build_mapper",
    "count_categories",
    "make_scene",
    "register_builtin",
    "register_shapes",
    "write_shapes",
]

register_shapes()
register_builtin()
