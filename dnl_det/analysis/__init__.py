"""What attention attends to and what it costs: records, statistics, time, memory."""

from .cost.benchmark import STAGES, benchmark_attention, benchmark_models
from .cost.measure import (
    WARM_UP,
    Timing,
    count_multiply_adds,
    extra_peak_memory,
    machine,
    time_together,
)
from .recording.geometry import Frame, Grid
from .recording.record import (
    AttentionRecord,
    BlockRecord,
    QueryAttention,
    attention_blocks,
    record_attention,
    short_name,
)
from .statistics.block_statistics import BlockStatistics, block_statistics
from .statistics.correlation import RegionCorrelations, region_correlations
from .statistics.diagnosis import BackboneAlone, Diagnosis
from .statistics.intervals import Mean, mean_over_images
from .statistics.regions import IGNORED, Regions, category_map, regions_at

__all__ = [
    "IGNORED",
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
    "attention_blocks",
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
