#!/usr/bin/env python3
"""Compare the attention blocks on Shapes: one shared backbone, every block, several seeds.

What is finished is not done again, and what was interrupted goes on from its last checkpoint. After
every run the table and the figure are written anew. docs/STUDY.md says what it is about.
"""

import argparse
import json
import sys
from contextlib import redirect_stdout
from dataclasses import asdict, replace
from io import StringIO
from pathlib import Path
from statistics import median

import torch
from cues import accuracy_by_cue, ap_by_cue
from report import write_report
from study_data import OPTIONS, overrides, write_data
from training import ROOT, train

from dnl_det.__main__ import main as dnl_det
from dnl_det.data import ShapesOptions
from dnl_det.engine import exit_on_bad_input
from dnl_det.files import write_whole

CONFIG = str(ROOT / "configs/Shapes/Base-Study.yaml")
BACKBONE_CONFIG = str(ROOT / "configs/Shapes/Base-Study-Backbone.yaml")
MODES = ("joint", "pairwise", "unary", "add_shared", "disentangled")
VARIANTS = {
    "baseline": ["MODEL.DNL.BLOCK", "none"],
    **{mode: ["MODEL.DNL.MODE", mode] for mode in MODES},
    **{block: ["MODEL.DNL.BLOCK", block] for block in ("nl", "snl", "gc")},
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
    for number, (variant, seed) in enumerate(runs, start=1):
        if not (args.output / variant / str(seed) / "result.json").exists():
            print(f"  [{number}/{len(runs)}] {variant}, seed {seed}", flush=True)
            run(args, variant, seed, backbone)
        write_report(args.output, VARIANTS)
    print((args.output / "table.md").read_text())
    return 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS), metavar="VARIANT")
    add("--seeds", nargs="+", type=int, default=[1, 2, 3], metavar="N")
    add("--iterations", type=int, default=4000, help="of each run (default %(default)s)")
    add("--backbone-iterations", type=int, default=1600, metavar="N")
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
    args.output.mkdir(parents=True, exist_ok=True)
    known = json.loads(file.read_text()) if file.exists() else settings
    if changed := [key for key, value in settings.items() if known.get(key) != value]:
        raise ValueError(
            f"{args.output} holds a study with another setting of {', '.join(changed)} (see "
            f"{file}): give another --output, or remove that folder"
        )
    file.write_text(json.dumps(settings, indent=1))


def train_backbone(args: argparse.Namespace) -> Path:
    """The backbone alone, without its FPN, of a detector trained on the labels of parts."""
    folder = args.output / "backbone"
    weights = folder / "backbone.pth"
    if not weights.exists():
        keys = ["SEED", "0", *overrides(args.output / "data", parts=True), *args.opts]
        train(BACKBONE_CONFIG, args.backbone_iterations, folder, keys)
        model = torch.load(folder / "model_final.pth", weights_only=False)["model"]
        resnet = {k.replace(".bottom_up", ""): v for k, v in model.items() if ".bottom_up." in k}
        with write_whole(weights) as file:
            torch.save({"model": resnet}, file)
    return weights


def run(args: argparse.Namespace, variant: str, seed: int, backbone: Path) -> None:
    """Train and measure a variant; write ``result.json``, which the report is made of."""
    folder = args.output / variant / str(seed)
    weights = folder / "model_final.pth"
    keys = [*VARIANTS[variant], *overrides(args.output / "data", parts=False), *args.opts]
    start = ["MODEL.WEIGHTS", str(backbone), "SEED", str(seed)]
    results = train(CONFIG, args.iterations, folder, [*keys, *start])
    lines = [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]
    model = torch.load(weights, weights_only=False)["model"]
    statistics = ("running_mean", "running_var", "num_batches_tracked", "pixel_mean", "pixel_std")
    found = {
        "seed": seed,
        "box_ap": results["bbox/AP"],
        "parameters": sum(v.numel() for k, v in model.items() if not k.endswith(statistics)),
        "seconds_per_iteration": median(line["time"] for line in lines if "time" in line),
        "peak_memory": results["peak_memory"],
        "peak_memory_MiB": results["peak_memory"] / 2**20,
        **{f"{cue}_ap": ap for cue, ap in ap_by_cue(results, "bbox").items() if ap == ap},
        **{f"{cue}_accuracy": a for cue, a in accuracy_by_cue(CONFIG, weights, keys).items()},
    }
    if variant != "baseline":
        command = ["diagnose", "--config-file", CONFIG, "--weights", str(weights)]
        with redirect_stdout(StringIO()):
            dnl_det([*command, "--output", str(folder), "--opts", *keys])
        found["diagnose"] = json.loads((folder / "diagnose.json").read_text())["blocks"]
    with write_whole(folder / "result.json") as file:
        file.write(json.dumps(found, indent=1).encode())


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
