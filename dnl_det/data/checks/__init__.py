"""The check of somebody's data, before a model is built: JSON, entries, images, boxes, masks.

``faults.py`` has every fault that can be found and what is done about it; docs/DATA.md lists them.
"""

from .config import check_config, class_count, prepare_data
from .dataset import Use, check_dataset, checked, raise_errors
from .faults import FAULTS
from .findings import DataError, Report
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
