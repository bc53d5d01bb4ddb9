"""Loading weights: read safely, converted where they are of other projects, checked to fit."""

from .checkpointer import Checkpointer, WeightsNotFetchedError
from .conversion import Conversion, UnknownLayoutError, convert
from .reading import UnsafeCheckpointError, read_checkpoint

__all__ = [
    "Checkpointer",
    "Conversion",
    "UnknownLayoutError",
    "UnsafeCheckpointError",
    "WeightsNotFetchedError",
    "convert",
    "read_checkpoint",
]
