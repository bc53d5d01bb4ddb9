"""What recorded attention says in numbers: of a block, of regions, of a data set.

Definitions: docs/DIAGNOSE.md.
"""

from .block_statistics import BlockStatistics, block_statistics
from .correlation import RegionCorrelations, region_correlations
from .diagnosis import BackboneAlone, Diagnosis
from .intervals import Mean, mean_over_images
from .regions import Regions, category_map, regions_at

__all__ = [
    "BackboneAlone",
    "BlockStatistics",
    "Diagnosis",
    "Mean",
    "RegionCorrelations",
    "Regions",
    "block_statistics",
    "category_map",
    "mean_over_images",
    "region_correlations",
    "regions_at",
]
