#!/usr/bin/env python3
"""Compare the attention blocks on Shapes: one shared backbone, every block, several seeds.

Each run is a process of train_net.py, and `python -m dnl_det diagnose` on what it trained. What is
finished is not done again, and what was interrupted goes on from its last checkpoint. After every
run the table and the figure are written anew. docs/STUDY.md says what it is about.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import timedelta
from pathlib import Path
from statistics import fmean, median
from typing import Any

import torch
from accuracy import accuracy_by_cue
from cue_ap import ap_by_cue
from study_data import overrides, write_data
from study_report import write_report
from training import ROOT, peak_memory, train

from dnl_det.data import ShapesOptions
from dnl_det.engine import exit_on_bad_input
from dnl_det.files import write_whole

CONFIG = str(ROOT / "configs/Shapes/Base-Study.yaml")
BACKBONE_CONFIG = str(ROOT / "configs/Shapes/Base-Study-Backbone.yaml")
OPTIONS = ShapesOptions(
    image_size=64,
    num_train=12000,
    num_val=500,
    min_objects=2,
    max_objects=3,
    min_size=16,
    max_size=22,
    stroke=2,
    tag_size=7,
    beacon_size=10,
    noise=12,
    max_overlap=0.0,
    tag_share=0.6,
    beacon_share=0.2,
    plain_share=0.2,
)
ITERATIONS = 4000
BACKBONE_ITERATIONS = 1600
VARIANTS = {
    "baseline": ["MODEL.DNL.BLOCK", "none"],
    **{
        mode: ["MODEL.DNL.BLOCK", "dnl", "MODEL.DNL.MODE", mode]
        for mode in ("joint", "pairwise", "unary", "add_shared", "disentangled")
    },
    "nl": ["MODEL.DNL.BLOCK", "nl"],
    "snl": ["MODEL.DNL.BLOCK", "snl"],
    "gc": ["MODEL.DNL.BLOCK", "gc"],
}


def main() -> int:
    args = parse_arguments()
    options = replace(OPTIONS, num_train=args.images, num_val=args.val_images)
    with exit_on_bad_input():
        check_settings(args, options)
        print(f"[1/3] The data, in {args.output}/data", flush=True)
        write_data(args.output / "data", options)
    print("[2/3] The shared backbone", flush=True)
    backbone = train_backbone(args)
    runs = [(variant, seed) for seed in args.seeds for variant in args.variants]
    print(f"[3/3] {len(runs)} runs; {args.output}/table.md has what is known so far", flush=True)
    took: list[float] = []
    for number, (variant, seed) in enumerate(runs, start=1):
        file = args.output / variant / str(seed) / "result.json"
        if not file.exists():
            left = f", about {eta(took, len(runs) - number + 1)} left" if took else ""
            print(f"  [{number}/{len(runs)}] {variant}, seed {seed}{left}", flush=True)
            start = time.monotonic()
            result = run(args, variant, seed, backbone)
            with write_whole(file) as stream:
                stream.write(json.dumps(result, indent=1).encode())
            took.append(time.monotonic() - start)
        write_report(args.output, VARIANTS)
    print((args.output / "table.md").read_text())
    return 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS), metavar="VARIANT")
    add("--seeds", nargs="+", type=int, default=[1, 2, 3], metavar="N")
    add("--iterations", type=int, default=ITERATIONS, help="of each run (default %(default)s)")
    add("--backbone-iterations", type=int, default=BACKBONE_ITERATIONS, metavar="N")
    add("--images", type=int, default=OPTIONS.num_train, help="of the training data")
    add("--val-images", type=int, default=OPTIONS.num_val, help="of the validation data")
    add("--output", type=Path, default=Path("output/study"), metavar="DIR")
    add("--opts", nargs="*", default=[], help="config overrides of every run: KEY VALUE ...")
    return parser.parse_args()


def check_settings(args: argparse.Namespace, options: ShapesOptions) -> None:
    """Refuse to mix results of different settings in one folder."""
    settings = {
        "iterations": args.iterations,
        "backbone_iterations": args.backbone_iterations,
        "opts": args.opts,
        "data": asdict(options),
        "config": Path(CONFIG).read_text(),
        "backbone_config": Path(BACKBONE_CONFIG).read_text(),
    }
    file = args.output / "settings.json"
    if not file.exists():
        args.output.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(settings, indent=1))
        return
    known = json.loads(file.read_text())
    if changed := [key for key, value in settings.items() if known.get(key) != value]:
        raise ValueError(
            f"{args.output} holds a study with another setting of {', '.join(changed)} (see "
            f"{file}): give another --output, or remove that folder"
        )


def train_backbone(args: argparse.Namespace) -> Path:
    """The backbone alone, without its FPN, of a detector trained on the labels of parts."""
    folder = args.output / "backbone"
    weights = folder / "backbone.pth"
    if not weights.exists():
        keys = ["SEED", "0", *overrides(args.output / "data", parts=True), *args.opts]
        train(BACKBONE_CONFIG, args.backbone_iterations, folder, keys)
        model = torch.load(folder / "model_final.pth", weights_only=False)["model"]
        prefix = "backbone.bottom_up."
        resnet = {
            f"backbone.{key.removeprefix(prefix)}": value
            for key, value in model.items()
            if key.startswith(prefix)
        }
        torch.save({"model": resnet}, weights)
    return weights


def run(args: argparse.Namespace, variant: str, seed: int, backbone: Path) -> dict[str, Any]:
    """Train and measure a variant; everything that the report is made of."""
    folder = args.output / variant / str(seed)
    keys = [*VARIANTS[variant], *overrides(args.output / "data", parts=False), *args.opts]
    train_keys = [*keys, "MODEL.WEIGHTS", str(backbone), "SEED", str(seed)]
    results = train(CONFIG, args.iterations, folder, train_keys)
    lines = [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]
    model = torch.load(folder / "model_final.pth", weights_only=False)["model"]
    statistics = ("running_mean", "running_var", "num_batches_tracked", "pixel_mean", "pixel_std")
    found = {
        "variant": variant,
        "seed": seed,
        "box_ap": results["bbox/AP"],
        "mask_ap": results.get("segm/AP"),
        **{f"{cue}_ap": ap for cue, ap in ap_by_cue(results, "bbox").items() if ap == ap},
        "parameters": sum(v.numel() for k, v in model.items() if not k.endswith(statistics)),
        "seconds_per_iteration": median(line["time"] for line in lines if "time" in line),
        "peak_memory": peak_memory(folder),
    }
    accuracies = accuracy_by_cue(CONFIG, folder / "model_final.pth", keys)
    found |= {f"{cue}_accuracy": value for cue, value in accuracies.items() if value == value}
    found["classes"] = {
        key: value
        for key, value in results.items()
        if key.startswith(("bbox/", "segm/"))
        and value == value  # NaN where there is no such object
    }
    if variant != "baseline":
        found["diagnose"] = diagnose(folder, keys)
    return found


def diagnose(folder: Path, keys: Sequence[str]) -> dict[str, Any]:
    """What `python -m dnl_det diagnose` says of each block of a trained model."""
    command = [sys.executable, "-W", "ignore", "-m", "dnl_det", "diagnose"]
    command += ["--config-file", CONFIG, "--weights", str(folder / "model_final.pth")]
    command += ["--output", str(folder), "--opts", *keys]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if result.returncode:
        sys.exit(f"{result.stdout}{result.stderr}error: diagnose ended; its output is above")
    blocks: dict[str, Any] = json.loads((folder / "diagnose.json").read_text())["blocks"]
    return blocks


def eta(took: Sequence[float], left: int) -> timedelta:
    return timedelta(seconds=round(fmean(took) * left))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
