"""Compare two models' detections of the same images: the difference of their AP, with intervals.

example:
  python -m dnl_det compare output/nl/inference/coco_instances_results.json \\
      output/dnl/inference/coco_instances_results.json \\
      --ground-truth datasets/coco/annotations/instances_val2017.json

Prints AP and AR of both in per cent, the second's less the first's with a 95 % interval, and the
classes that differ most. The interval is by bootstrap: images are drawn with repetition, the same
for both. --output FILE writes all of it as JSON.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from tabulate import tabulate

from ..engine import exit_on_bad_input
from ..evaluation.detections_file import (
    TASK_KEYS,
    evaluate_detections,
    read_annotations,
    read_detections,
    require_hotcoco,
)
from ..files import refuse_to_overwrite, write_whole
from ..text import table_cell

_CLASSES = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    add = parser.add_argument
    add("first", metavar="A.json", help="detections in the format of COCO results")
    add("second", metavar="B.json", help="those of the other model")
    text = "annotations in COCO's format"
    add("--ground-truth", required=True, metavar="FILE", help=text)
    text = "boxes or masks (default: bbox)"
    add("--task", choices=tuple(TASK_KEYS), default="bbox", help=text)
    text = "how often images are drawn anew (default: 1000)"
    add("--draws", type=int, default=1000, metavar="N", help=text)
    add("--seed", type=int, default=0, help="seed of the draws (default: 0)")
    add("--output", metavar="FILE", help="write all numbers there, as JSON")


def run(args: argparse.Namespace) -> int:
    """Read, compare, print, write."""
    with exit_on_bad_input():
        require_hotcoco("compare")
        if args.draws < 1:
            raise ValueError(f"--draws: {args.draws} must be at least 1")
        if args.output:
            refuse_to_overwrite([args.output], [args.first, args.second, args.ground_truth])
        truth = read_annotations(args.ground_truth)
        first, second = (
            evaluate_detections(file, truth, read_detections(file, truth), args.task)
            for file in (args.first, args.second)
        )
    import hotcoco

    found = dict(hotcoco.compare(first, second, n_bootstrap=args.draws, seed=args.seed))
    print(_tables(found))
    if args.output:
        content = {"first": args.first, "second": args.second, "task": args.task, **found}
        with exit_on_bad_input(), write_whole(Path(args.output)) as file:
            file.write(json.dumps(content, indent=1).encode())
    return 0


def _tables(found: dict[str, Any]) -> str:
    rows = [
        (
            key,
            *(f"{100 * found[of][key]:.2f}" for of in ("metrics_a", "metrics_b", "deltas")),
            f"[{100 * interval['lower']:.2f}, {100 * interval['upper']:.2f}]",
        )
        for key in found["metric_keys"]
        if (interval := found["ci"][key])
    ]
    headers = ("%", "first", "second", "difference", "95 % interval")
    classes = sorted(found["per_category"], key=lambda one: -abs(one["delta"]))[:_CLASSES]
    shown = [
        (table_cell(one["cat_name"]), *(f"{100 * one[k]:.2f}" for k in ("ap_a", "ap_b", "delta")))
        for one in classes
    ]
    return (
        f"{tabulate(rows, headers, disable_numparse=True)}\n\n"
        f"{found['num_images']:,} images, {found['n_bootstrap']:,} draws. AP of the classes that "
        f"differ most:\n{tabulate(shown, headers[:4], disable_numparse=True)}"
    )
