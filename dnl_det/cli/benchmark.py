"""Measure time, memory and multiply-adds of the attention backends and of whole models.

example:
  python -m dnl_det benchmark --stages res3 res4 res5 --sizes 800x1344 --output output/benchmark
  python -m dnl_det benchmark --stages --sizes 800x1344 --output output/models --models \\
      configs/COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml \\
      configs/COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_dnl_c4_c5all_1x.yaml

Prints a table. --output DIR also writes it to DIR/benchmark.json together with the hardware and
versions used and, for several sizes, plots it in DIR/growth.png. "attention" takes query, key and
value to the weighted sum, "block" is the whole DNL block, and "bare" is the two matrix products of
the attention alone; efficiency is the time of "bare" divided by that of the backend. Memory leaves
out inputs and results.
"""

import argparse
import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

import torch
from tabulate import tabulate
from torch import nn

from ..analysis import STAGES, WARM_UP, benchmark_attention, benchmark_models, machine
from ..checkpoint import Checkpointer
from ..engine import Trainer, config_inputs, exit_on_bad_input, load_config
from ..files import refuse_to_overwrite
from ..layers import BACKENDS

# Maps of L x S numbers that the plain backend has at once, at most.
_PLAIN_MAPS = {"inference": 2, "training": 4}
# Title and key; of numbers also a factor and a format.
_COLUMNS: tuple[tuple[Any, ...], ...] = (
    ("what", "what"),
    ("image", "size"),
    ("mode", "mode"),
    ("backend", "backend"),
    ("ms", "seconds", 1e3, ".1f"),
    ("shortest", "shortest", 1e3, ".1f"),
    ("longest", "longest", 1e3, ".1f"),
    ("of plain", "seconds_ratio", 1, ".2f"),
    ("MiB", "bytes", 2**-20, ".0f"),
    ("of plain", "bytes_ratio", 1, ".2f"),
    ("10^9 multiply-adds", "multiply_adds", 1e-9, ".1f"),
    ("efficiency", "efficiency", 1, ".2f"),
)
Row = dict[str, Any]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    add = parser.add_argument
    several: dict[str, Any] = {"nargs": "*"}
    text = (
        "stages of the ResNet, each with one DNL block, and head, a segmentation head's (default: "
        "res4 res5; none: models only)"
    )
    add("--stages", choices=STAGES, default=["res4", "res5"], help=text, **several)
    text = "what computes the attention (default: plain auto)"
    add("--backends", choices=BACKENDS, default=["plain", "auto"], help=text, **several)
    sizes, text = [(400, 672), (800, 1344)], "image sizes (default: 400x672 800x1344)"
    add("--sizes", type=_size, default=sizes, metavar="HxW", help=text, **several)
    add("--models", default=[], metavar="CONFIG", help="configs of whole detectors", **several)
    text = "checkpoints, one for each model (default: random weights)"
    add("--weights", default=[], metavar="FILE", help=text, **several)
    add("--repeats", type=int, default=7, help="number of timed calls (default: 7)")
    add("--threads", type=int, help="number of CPU threads (default: torch's choice)")
    add("--device", default="cpu", help="cpu or cuda (default: cpu)")
    text = "skip the plain backend where it needs more memory than this (default: 8)"
    add("--memory", type=float, default=8.0, metavar="GIB", help=text)
    add("--output", type=Path, metavar="DIR", help="folder for the results")


def run(args: argparse.Namespace) -> int:
    """Measure, print as it comes, write."""
    with exit_on_bad_input():
        _check(args)
        configs = {Path(file).stem: load_config(file) for file in args.models}
        if len(configs) < len(args.models):
            raise ValueError("--models: two of the configs have the same name")
        for cfg, weights in zip(configs.values(), args.weights or [""] * len(configs), strict=True):
            cfg.MODEL.WEIGHTS = weights
        if args.output:
            inputs = [f for m in args.models for f in config_inputs(configs[Path(m).stem], m)]
            outputs = [args.output / "benchmark.json", args.output / "growth.png"]
            refuse_to_overwrite(outputs, [*inputs, *args.weights])
    if args.threads:
        torch.set_num_threads(args.threads)
    about = machine(args.device)
    print(", ".join(f"{key}: {value}" for key, value in about.items()), flush=True)
    rows: list[Row] = []
    for size in args.sizes:
        for stage in args.stages:
            for mode in _PLAIN_MAPS:
                rows += _print(_attention(args, stage, size, mode))
        if configs:
            models = {name: partial(_build, cfg, args.device) for name, cfg in configs.items()}
            with exit_on_bad_input():  # of weights that do not fit
                rows += _print(benchmark_models(models, size, args.repeats, args.device))
    if args.output:
        args.output.mkdir(parents=True, exist_ok=True)
        content = {"machine": about, "warm_up": WARM_UP, "repeats": args.repeats, "rows": rows}
        (args.output / "benchmark.json").write_text(json.dumps(content, indent=1))
        if len(args.sizes) > 1 and args.stages:
            _plot(rows, args.output / "growth.png")
        print(f"Written to {args.output}")
    return 0


def _size(text: str) -> tuple[int, int]:
    try:
        h, w = (int(side) for side in text.lower().split("x"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} must be HEIGHTxWIDTH, as 800x1344") from None
    if min(h, w) < 32:
        raise argparse.ArgumentTypeError(f"{text!r}: both sides must be at least 32")
    return h, w


def _check(args: argparse.Namespace) -> None:
    if args.repeats < 1:
        raise ValueError(f"--repeats: {args.repeats} must be at least 1")
    if args.stages and not args.backends:
        raise ValueError(f"--backends: give at least one of {', '.join(BACKENDS)}")
    if args.weights and len(args.weights) != len(args.models):
        raise ValueError(
            f"--weights: {len(args.weights)} files for {len(args.models)} models; give one for "
            "each of --models, or none for untrained ones"
        )
    if args.device.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(f"--device: {args.device} is not available; leave it out to use the CPU")
    if not args.device.startswith(("cpu", "cuda")):
        raise ValueError(f"--device: {args.device!r} must be cpu or cuda")


def _attention(args: argparse.Namespace, stage: str, size: tuple[int, int], mode: str) -> list[Row]:
    stride = STAGES[stage].stride
    positions = -(-size[0] // stride) * -(-size[1] // stride)
    maps = _PLAIN_MAPS[mode] * positions**2 * 4 / 2**30
    backends = list(dict.fromkeys(args.backends))
    if "plain" in backends and maps > args.memory:
        print(f"plain is left out of {stage} {mode}: it needs {maps:.1f} GiB (--memory)")
        backends.remove("plain")
    if not backends:
        return []
    more = {"repeats": args.repeats, "device": args.device}
    return benchmark_attention(stage, size, backends, training=mode == "training", **more)


def _build(cfg: Any, device: str) -> nn.Module:
    cfg = cfg.clone()
    cfg.MODEL.DEVICE = device
    torch.manual_seed(0)
    model = Trainer.build_model(cfg)
    if cfg.MODEL.WEIGHTS:
        Checkpointer(model, complete=True).load(cfg.MODEL.WEIGHTS)
    return model


def _print(rows: list[Row]) -> list[Row]:
    if rows:
        table = [[_cell(row.get(key), *form) for _, key, *form in _COLUMNS] for row in rows]
        alignment = ["right" if form else "left" for _, _, *form in _COLUMNS]
        headers = [title for title, *_ in _COLUMNS]
        print(tabulate(table, headers, disable_numparse=True, colalign=alignment), end="\n\n")
        sys.stdout.flush()
    return rows


def _cell(value: Any, factor: float = 1.0, form: str = "") -> str:
    if value is None or isinstance(value, str):
        return value or ""
    return f"{factor * value:{form}}"


def _plot(rows: list[Row], file: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    panels = ((left, "seconds", 1.0, "seconds"), (right, "bytes", 2**20, "extra memory, MiB"))
    for axes, key, unit, label in panels:
        curves: dict[str, list[tuple[float, float]]] = {}
        for row in rows:
            if row["what"].startswith("attention") and row.get(key):
                name = f"{row['what'].split()[1]} {row['mode']}, {row['backend']}"
                curves.setdefault(name, []).append((row["positions"], row[key] / unit))
        for name, points in curves.items():
            axes.plot(*zip(*sorted(points), strict=True), marker="o", label=name)
        axes.set(xscale="log", yscale="log", xlabel="positions", ylabel=label)
        axes.grid(True, which="both", alpha=0.3)
    left.legend(fontsize=7)
    figure.savefig(file, dpi=150)
