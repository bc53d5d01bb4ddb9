"""Loading weights: read safely, converted where they are of other projects, checked to fit."""

from .checkpointer import Checkpointer, WeightsNotFetchedError
from .conversion import Conversion, UnknownLayoutError, convert
from .finite import check_finite
from .reading import DamagedCheckpointError, UnsafeCheckpointError, read_checkpoint

__all__ = [
    "Checkpointer",
    "Conversion",
    "DamagedCheckpointError",
    "UnknownLayoutError",
    "UnsafeCheckpointError",
    "WeightsNotFetchedError",
    "check_finite",
    "convert",
    "read_checkpoint",
]
