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
import contextlib
import io
import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tabulate import tabulate

from ..engine import exit_on_bad_input
from ..files import refuse_to_overwrite, write_whole
from ..text import printable, table_cell

_KEYS = {"bbox": "bbox", "segm": "segmentation"}
_CLASSES = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    add = parser.add_argument
    add("first", metavar="A.json", help="detections in the format of COCO results")
    add("second", metavar="B.json", help="those of the other model")
    text = "annotations in COCO's format"
    add("--ground-truth", required=True, metavar="FILE", help=text)
    text = "boxes or masks (default: bbox)"
    add("--task", choices=tuple(_KEYS), default="bbox", help=text)
    text = "how often images are drawn anew (default: 1000)"
    add("--draws", type=int, default=1000, metavar="N", help=text)
    add("--seed", type=int, default=0, help="seed of the draws (default: 0)")
    add("--output", metavar="FILE", help="write all numbers there, as JSON")


def run(args: argparse.Namespace) -> int:
    """Read, compare, print, write."""
    with exit_on_bad_input():
        if find_spec("hotcoco") is None:
            raise ValueError("compare needs the package hotcoco: pip install hotcoco")
        if args.draws < 1:
            raise ValueError(f"--draws: {args.draws} must be at least 1")
        if args.output:
            refuse_to_overwrite([args.output], [args.first, args.second, args.ground_truth])
        truth = _read(args.ground_truth, dict, "annotations in COCO's format")
        if not truth.get("annotations"):
            raise ValueError(
                f"{printable(args.ground_truth)} has no annotations, with which detections are "
                "compared"
            )
        both = [_detections(file, truth, args.task) for file in (args.first, args.second)]
    found = _compare(truth, both, args)
    print(_tables(found))
    if args.output:
        content = {"first": args.first, "second": args.second, "task": args.task, **found}
        with exit_on_bad_input(), write_whole(Path(args.output)) as file:
            file.write(json.dumps(content, indent=1).encode())
    return 0


def _read(file: str, kind: type, what: str) -> Any:
    try:
        content = json.loads(Path(file).read_bytes())
    except ValueError as error:
        raise ValueError(f"{printable(file)} is no JSON ({error}): {what} are needed") from error
    if not isinstance(content, kind):
        raise ValueError(f"{printable(file)} must be {what}")
    return content


def _detections(file: str, truth: dict[str, Any], task: str) -> list[dict[str, Any]]:
    detections = _read(file, list, "a list of detections, in the format of COCO results")
    needed = ("image_id", "category_id", "score", _KEYS[task])
    known = {key: {entry["id"] for entry in truth[key]} for key in ("images", "categories")}
    for index, one in enumerate(detections):
        lacking = [key for key in needed if not isinstance(one, dict) or key not in one]
        if lacking:
            raise ValueError(f"{printable(file)}: detection {index} has no {', '.join(lacking)}")
        for key, of in (("image_id", "images"), ("category_id", "categories")):
            if one[key] not in known[of]:
                raise ValueError(
                    f"{printable(file)}: detection {index} has {key} {one[key]}, which the ground "
                    f"truth's {of} do not have: are they of the same data?"
                )
    return [{key: one[key] for key in needed} for one in detections]


def _compare(truth: dict[str, Any], both: list[Any], args: argparse.Namespace) -> dict[str, Any]:
    import hotcoco

    annotated, evaluations = hotcoco.COCO(truth), []
    for detections in both:
        found = (
            annotated.load_res(detections)
            if detections
            else hotcoco.COCO({**truth, "annotations": []})
        )
        evaluation = hotcoco.COCOeval(annotated, found, args.task)
        with contextlib.redirect_stdout(io.StringIO()):
            evaluation.evaluate()
            evaluation.accumulate()
        evaluations.append(evaluation)
    first, second = evaluations
    return dict(hotcoco.compare(first, second, n_bootstrap=args.draws, seed=args.seed))


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
