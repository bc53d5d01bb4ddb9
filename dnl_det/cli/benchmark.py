"""Time, memory and multiply-adds of the attention's backends, and of whole models.

example:
  python -m dnl_det benchmark --stages res3 res4 res5 --sizes 800x1344 --output output/benchmark
  python -m dnl_det benchmark --stages --sizes 800x1344 --output output/models --models \\
      configs/COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml \\
      configs/COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_dnl_c4_c5all_1x.yaml

Prints a table, and writes it with all it depends on to benchmark.json; with several sizes also
growth.png. "attention" is q, k, v to the weighted sum; "block" adds convolutions and the rest of
DNL; "bare" is the two matrix products alone. Memory is beyond input and result.
"""

import argparse
import json
from collections.abc import Callable
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


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    several: dict[str, Any] = {"nargs": "*"}
    parser.add_argument("--stages", choices=STAGES, default=["res4", "res5"], **several)
    parser.add_argument("--backends", choices=BACKENDS, default=["plain", "auto"], **several)
    parser.add_argument(
        "--sizes", type=_size, default=[(400, 672), (800, 1344)], metavar="HxW", **several
    )
    parser.add_argument("--models", default=[], metavar="CONFIG", help="detectors", **several)
    parser.add_argument("--weights", default=[], metavar="FILE", help="of each model", **several)
    parser.add_argument("--repeats", type=int, default=7, help="timed calls (default 7)")
    parser.add_argument("--threads", type=int, help="of torch (default: its own choice)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument(
        "--memory", type=float, default=8.0, help="GiB a plain case may take, else left out"
    )
    parser.add_argument("--output", type=Path, metavar="DIR", help="folder for JSON and plot")


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
    rows: list[dict[str, Any]] = []
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
        raise ValueError(f"--device: {args.device} is not there; leave it out to take the CPU")
    if not args.device.startswith(("cpu", "cuda")):
        raise ValueError(f"--device: {args.device!r} must be cpu or cuda")


def _attention(
    args: argparse.Namespace, stage: str, size: tuple[int, int], mode: str
) -> list[dict[str, Any]]:
    stride, _ = STAGES[stage]
    positions = -(-size[0] // stride) * -(-size[1] // stride)
    maps = _PLAIN_MAPS[mode] * positions**2 * 4 / 2**30
    backends = list(args.backends)
    if "plain" in backends and maps > args.memory:
        print(f"plain is left out of {stage} {mode}: it takes {maps:.1f} GiB (--memory)")
        backends.remove("plain")
    if not backends:
        return []
    return benchmark_attention(
        stage,
        size,
        backends,
        training=mode == "training",
        repeats=args.repeats,
        device=args.device,
    )


def _build(cfg: Any, device: str) -> nn.Module:
    cfg = cfg.clone()
    cfg.MODEL.DEVICE = device
    torch.manual_seed(0)
    model = Trainer.build_model(cfg)
    if cfg.MODEL.WEIGHTS:
        Checkpointer(model, complete=True).load(cfg.MODEL.WEIGHTS)
    return model


def _print(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    if not rows:
        return rows

    def cell(row: dict[str, Any], key: str, form: Callable[[Any], str]) -> str:
        return "" if row.get(key) is None else form(row[key])

    table = [
        [
            row["what"],
            row["size"],
            row["mode"],
            row["backend"],
            f"{1e3 * row['seconds']:.1f}",
            f"{1e3 * row['shortest']:.1f} to {1e3 * row['longest']:.1f}",
            cell(row, "seconds_ratio", "{:.2f}".format),
            cell(row, "bytes", lambda b: f"{b / 2**20:.0f}"),
            cell(row, "bytes_ratio", "{:.2f}".format),
            f"{row['multiply_adds'] / 1e9:.1f}",
            cell(row, "efficiency", "{:.2f}".format),
        ]
        for row in rows
    ]
    headers = ["what", "image", "mode", "backend", "ms", "range", "of plain", "MiB", "of plain"]
    headers += ["10^9 multiply-adds", "bare / it"]
    print(tabulate(table, headers, disable_numparse=True, colalign=["left"] * 4 + ["right"] * 7))
    print(flush=True)
    return rows


def _plot(rows: list[dict[str, Any]], file: Path) -> None:
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
