"""Registering data sets in detectron2."""

from collections.abc import Callable
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog


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
