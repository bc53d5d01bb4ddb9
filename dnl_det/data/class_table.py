"""detectron2's table of how many objects each class has, with names that leave it a table."""

from typing import Any

from detectron2.data import build

from ..text import table_cell

_print_table = build.print_instances_class_histogram


def _print_class_table(dataset_dicts: list[dict[str, Any]], class_names: list[str]) -> None:
    _print_table(dataset_dicts, [table_cell(name) for name in class_names])


# Every loader of detectron2 prints it, and none can be told to leave it.
build.print_instances_class_histogram = _print_class_table
