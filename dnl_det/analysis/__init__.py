"""Measuring attention: multiply-adds, time, memory."""

from .benchmark import STAGES, benchmark_attention, benchmark_models
from .measure import Timing, extra_peak_memory, machine, time_together
from .multiply_adds import count_multiply_adds

__all__ = [
    "STAGES",
    "Timing",
    "benchmark_attention",
    "benchmark_models",
    "count_multiply_adds",
    "extra_peak_memory",
    "machine",
    "time_together",
]
