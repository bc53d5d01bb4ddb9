"""What attention attends to and what it costs: records, statistics, time, memory."""

from .benchmark import STAGES, benchmark_attention, benchmark_models
from .correlation import RegionCorrelations, region_correlations
from .diagnosis import BackboneAlone, Diagnosis
from .geometry import Frame, Grid
from .intervals import Mean, mean_over_images
from .measure import WARM_UP, Timing, extra_peak_memory, machine, time_together
from .multiply_adds import count_multiply_adds
from .record import (
    AttentionRecord,
    BlockRecord,
    QueryAttention,
    record_attention,
    short_name,
)
from .regions import Regions, category_map, regions_at
from .statistics import BlockStatistics, block_statistics

__all__ = [
    "STAGES",
    "WARM_UP",
    "AttentionRecord",
    "BackboneAlone",
    "BlockRecord",
    "BlockStatistics",
    "Diagnosis",
    "Frame",
    "Grid",
    "Mean",
    "QueryAttention",
    "RegionCorrelations",
    "Regions",
    "Timing",
    "benchmark_attention",
    "benchmark_models",
    "block_statistics",
    "category_map",
    "count_multiply_adds",
    "extra_peak_memory",
    "machine",
    "mean_over_images",
    "record_attention",
    "region_correlations",
    "regions_at",
    "short_name",
    "time_together",
]
