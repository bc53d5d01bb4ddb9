"""The check of somebody's data, before a model is built: JSON, entries, images, boxes, masks.

``FAULTS.md`` lists every fault that can be found and what happens then.
"""

from .config import check_config, class_count, prepare_data
from .dataset import Use, check_dataset, checked, raise_errors
from .findings import FAULTS, DataError, Report
from .repaired import use_repaired

__all__ = [
    "FAULTS",
    "DataError",
    "Report",
    "Use",
    "check_config",
    "check_dataset",
    "checked",
    "class_count",
    "prepare_data",
    "raise_errors",
    "use_repaired",
]
