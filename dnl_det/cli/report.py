"""Report what AP does not say about detections: errors, confusions, thresholds, worst images.

example:
  python -m dnl_det report output/dnl/inference/coco_instances_results.json \\
      --ground-truth datasets/coco/annotations/instances_val2017.json \\
      --images datasets/coco/val2017 --precision 0.9

Prints AP, the errors by TIDE, the threshold of each class for the wanted precision, and the most
frequent confusions. Writes report.html, report.json and the charts beside the detections, or to
--output DIR.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tabulate import tabulate
from tqdm import tqdm

from ..engine import exit_on_bad_input
from ..evaluation.detections_file import (
    TASK_KEYS,
    evaluate_detections,
    read_annotations,
    read_detections,
    require_hotcoco,
)
from ..evaluation.report import analyse, draw_charts, draw_worst, render_page
from ..files import refuse_to_overwrite, write_whole
from ..text import printable, shortened, table_cell

_LONGEST_NAME = 24  # characters of a class in a chart
_ROWS = 10  # of the classes and confusions that are printed
_CHARTS = ("precision_recall", "classes", "confusion", "tide")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    add = parser.add_argument
    add("detections", metavar="FILE.json", help="detections in the format of COCO results")
    text = "annotations in COCO's format"
    add("--ground-truth", required=True, metavar="FILE", help=text)
    add("--images", metavar="DIR", help="folder of the images, for pictures of the worst")
    text = "boxes, masks or both (default: what the detections have)"
    add("--task", choices=tuple(TASK_KEYS), nargs="+", default=[], help=text)
    text = "precision that the thresholds of the classes are to give, 0 to 1 (default: 0.9)"
    add("--precision", type=float, default=0.9, metavar="P", help=text)
    text = "lowest score of a detection in the confusions and pictures (default: 0.5)"
    add("--threshold", type=float, default=0.5, metavar="SCORE", help=text)
    add("--worst", type=int, default=12, metavar="N", help="number of images (default: 12)")
    add("--output", type=Path, metavar="DIR", help="folder for the results")


def run(args: argparse.Namespace) -> int:
    """Read, evaluate, print, draw, write."""
    with exit_on_bad_input():
        require_hotcoco("report")
        for option in ("precision", "threshold"):
            if not 0 <= getattr(args, option) <= 1:
                raise ValueError(f"--{option}: {getattr(args, option)} must be from 0 to 1")
        if args.worst < 0:
            raise ValueError(f"--worst: {args.worst} must be 0 or more")
        if args.images and not Path(args.images).is_dir():
            raise ValueError(f"--images: there is no folder {printable(args.images)}")
        truth = read_annotations(args.ground_truth)
        detections = read_detections(args.detections, truth)
        tasks = args.task or [
            task for task, key in TASK_KEYS.items() if not detections or key in detections[0]
        ]
        folder = args.output or Path(args.detections).parent
        outputs = [folder / "report.html", folder / "report.json"]
        outputs += [folder / f"report_{task}_{name}.png" for task in tasks for name in _CHARTS]
        refuse_to_overwrite(outputs, [args.detections, args.ground_truth])
        names = [shortened(str(one["name"]), _LONGEST_NAME) for one in truth["categories"]]
        drawn_truth = {
            **truth,
            "categories": [
                {**one, "name": name} for one, name in zip(truth["categories"], names, strict=True)
            ],
        }
        evaluations = {
            task: evaluate_detections(args.detections, drawn_truth, detections, task)
            for task in tasks
        }
        folder.mkdir(parents=True, exist_ok=True)
    numbers = {
        task: analyse(one, args.precision, args.threshold) for task, one in evaluations.items()
    }
    for task, found in numbers.items():
        for one, category in zip(found["classes"], truth["categories"], strict=True):
            one["name"] = category["name"]  # whole, where charts have it shortened
        print("\n\n".join(_tables(task, found)), end="\n\n", flush=True)
    charts = {task: draw_charts(one, args.threshold, names) for task, one in evaluations.items()}
    worst = {
        task: list(_worst(found["images"][: args.worst], truth, detections, task, args))
        for task, found in numbers.items()
    }
    page = render_page(printable(args.detections), numbers, charts, worst)
    with exit_on_bad_input():
        contents = {"report.json": json.dumps(numbers).encode(), "report.html": page.encode()}
        for task, drawn in charts.items():
            contents |= {f"report_{task}_{name}.png": png for name, png in drawn.items()}
        for name, content in contents.items():
            with write_whole(folder / name) as file:
                file.write(content)
    print(f"Written: {printable(str(folder / 'report.html'))}, with report.json and the charts")
    return 0


def _worst(
    rows: list[dict[str, Any]],
    truth: dict[str, Any],
    detections: list[dict[str, Any]],
    task: str,
    args: argparse.Namespace,
) -> Iterator[tuple[dict[str, Any], bytes | None]]:
    """Each row with its picture, or None where there is no image."""
    classes = {one["id"]: str(one["name"]) for one in truth["categories"]}
    shown = tqdm(rows, unit="image", desc="drawing", disable=not args.images)
    for row in shown:
        picture = None
        if args.images:
            file = str(Path(args.images) / row["file_name"])
            annotated, found = (
                [_of_task(one, task) for one in entries if one["image_id"] == row["id"]]
                for entries in (truth["annotations"], detections)
            )
            try:
                picture = draw_worst(file, annotated, found, classes, args.threshold)
            except OSError as error:
                shown.write(f"{printable(file)} is not shown: {error}", file=sys.stderr)
        yield row, picture


def _of_task(entry: dict[str, Any], task: str) -> dict[str, Any]:
    """Without its mask where boxes alone are looked at."""
    return entry if task == "segm" else {k: v for k, v in entry.items() if k != "segmentation"}


def _tables(task: str, found: dict[str, Any]) -> Iterator[str]:
    metrics = {key: value for key, value in found["metrics"].items() if value >= 0}
    yield f"{task}, %\n" + _table([[f"{100 * value:.1f}" for value in metrics.values()]], metrics)
    tide = found["tide"]
    rows = [
        (kind, tide["counts"][kind], f"{100 * tide['gain'][kind]:.1f}") for kind in tide["counts"]
    ]
    yield _table(sorted(rows, key=lambda row: -float(row[2])), ("error", "number", "AP50 gains"))
    known = [one for one in found["classes"] if one["AP"] is not None]
    rows = [
        (table_cell(str(one["name"])), one["objects"], f"{100 * one['AP']:.1f}", *_point(one))
        for one in sorted(known, key=lambda one: one["AP"])[:_ROWS]
    ]
    rows.append(("all classes", sum(one["objects"] for one in known), "", *_point(found)))
    headers = ("lowest AP first", "objects", "AP", "threshold", "precision", "recall")
    yield _table(rows, headers)
    if confusions := list(_confusions(found)):
        yield _table(confusions, ("annotated", "found as", "number"))


def _point(found: dict[str, Any]) -> tuple[str, ...]:
    point = found["operating_point"]
    if point is None:
        return "", "", ""
    return (
        f"{point['threshold']:.3f}",
        *(f"{100 * point[key]:.1f}" for key in ("precision", "recall")),
    )


def _confusions(found: dict[str, Any]) -> Iterator[tuple[str, str, int]]:
    """Of two classes, the most frequent first."""
    names = {one["id"]: table_cell(str(one["name"])) for one in found["classes"]}
    ids, matrix = found["confusion"]["classes"], found["confusion"]["matrix"]
    pairs = [(matrix[i][j], i, j) for i in range(len(ids)) for j in range(len(ids)) if i != j]
    for number, i, j in sorted(pairs, key=lambda pair: -pair[0])[:_ROWS]:
        if number:
            yield names[ids[i]], names[ids[j]], number


def _table(rows: Any, headers: Any) -> str:
    return tabulate(rows, list(headers), disable_numparse=True)
