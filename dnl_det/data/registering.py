"""Registering data sets in detectron2."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog


def default_root() -> Path:
    """The folder that holds all data sets: $DETECTRON2_DATASETS, or ``datasets``, as detectron2."""
    return Path(os.environ.get("DETECTRON2_DATASETS", "datasets")).expanduser()


def register(name: str, load: Callable[[], list[dict[str, Any]]], **metadata: Any) -> None:
    """Register a data set, in the place of one of the same name.

    Args:
        load: gives the records in detectron2's format.
        metadata: attributes of its metadata.
    """
    DatasetCatalog.pop(name, None)
    MetadataCatalog.pop(name, None)
    DatasetCatalog.register(name, load)
    MetadataCatalog.get(name).set(**metadata)
