"""What attention attends to and what it costs: records, statistics, time, memory."""

from .benchmark import STAGES, benchmark_attention, benchmark_models
from .geometry import Frame, Grid
from .measure import Timing, extra_peak_memory, machine, time_together
from .multiply_adds import count_multiply_adds
from .record import AttentionRecord, BlockRecord, QueryAttention, record_attention
from .statistics import BlockStatistics, block_statistics

__all__ = [
    "STAGES",
    "AttentionRecord",
    "BlockRecord",
    "BlockStatistics",
    "Frame",
    "Grid",
    "QueryAttention",
    "Timing",
    "benchmark_attention",
    "benchmark_models",
    "block_statistics",
    "count_multiply_adds",
    "extra_peak_memory",
    "machine",
    "record_attention",
    "time_together",
]
