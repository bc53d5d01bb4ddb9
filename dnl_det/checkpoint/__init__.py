"""Loading weights: what fits, what starts fresh, and what cannot be meant."""

from .checkpointer import Checkpointer, WeightsNotFetchedError

__all__ = ["Checkpointer", "WeightsNotFetchedError"]
