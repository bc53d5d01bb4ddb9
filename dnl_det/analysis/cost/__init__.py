"""What attention costs: time, memory, multiply-adds."""

from .benchmark import STAGES, benchmark_attention, benchmark_models
from .measure import (
    WARM_UP,
    Timing,
    count_multiply_adds,
    extra_peak_memory,
    machine,
    time_together,
)

__all__ = [
    "STAGES",
    "WARM_UP",
    "Timing",
    "benchmark_attention",
    "benchmark_models",
    "count_multiply_adds",
    "extra_peak_memory",
    "machine",
    "time_together",
]
