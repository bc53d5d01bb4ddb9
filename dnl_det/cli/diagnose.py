"""Diagnose attention over a data set: does it depend on the query, and does it follow the objects?

example:
  python -m dnl_det diagnose --config-file configs/Shapes/disentangled.yaml \\
      --weights output/shapes/model_final.pth --output output/diagnosis

Prints, for each attention block, means over images with 95 % intervals: distances between queries
(0: the block has degenerated, all queries attend alike), entropy, correlations of the pairwise and
the unary term with the objects' categories and boundaries, gamma. --output then has diagnose.json
and diagnose.png. What each number means: docs/DIAGNOSE.md.
"""

import argparse
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import build_detection_test_loader, get_detection_dataset_dicts
from detectron2.utils.logger import setup_logger
from tabulate import tabulate
from torch import nn
from tqdm import tqdm

from ..analysis import BackboneAlone, Diagnosis, Mean, category_map, record_attention, short_name
from ..checkpoint import Checkpointer
from ..data.checks import Use, check_dataset, raise_errors, use_repaired
from ..data.images import build_mapper
from ..data.own_data import use_own_data
from ..engine import Trainer, config_inputs, exit_on_bad_input, fall_back_to_cpu, load_config
from ..files import refuse_to_overwrite, write_whole
from .inputs import add_opts_argument

Means = dict[str, dict[str, Mean | None]]
_BLOCKS_BESIDE = 4
_PANELS = {
    "distance between queries, of cosines": (
        "input_distance",
        "output_distance",
        "context_distance",
        "pairwise_distance",
        "combined_distance",
    ),
    "attention": (
        "pairwise_divergence",
        "pairwise_entropy",
        "unary_entropy",
    ),
    "correlation with masks": (
        "pairwise_category",
        "pairwise_boundary",
        "unary_category",
        "unary_boundary",
    ),
    "weight of the terms": ("gamma", "pairwise_share", "context_share"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    parser.add_argument("--config-file", required=True, metavar="FILE", help="the model's config")
    parser.add_argument("--weights", required=True, metavar="FILE", help="a trained checkpoint")
    parser.add_argument("--output", required=True, metavar="DIR", help="where results are written")
    parser.add_argument(
        "--dataset", metavar="NAME", help="a registered data set (default: DATASETS.TEST's first)"
    )
    parser.add_argument(
        "--images", type=int, default=100, help="how many, evenly spread (default 100)"
    )
    parser.add_argument(
        "--queries", type=int, default=256, help="taken of each image by chance (default 256)"
    )
    parser.add_argument(
        "--band",
        type=float,
        default=1.0,
        help="side, in strides, of the cell around a position that makes it a boundary where it "
        "touches several categories (default 1)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the queries (default 0)")
    add_opts_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Check everything first, then go through the images, print, write."""
    setup_logger(name="dnl_det")
    with exit_on_bad_input():
        _check(args)
        cfg = load_config(args.config_file, args.opts)
        fall_back_to_cpu(cfg)
        outputs = [Path(args.output, f"diagnose.{kind}") for kind in ("json", "png")]
        inputs = [args.weights, *config_inputs(cfg, args.config_file)]
        refuse_to_overwrite(outputs, inputs)
        name, images = _choose_images(cfg, args)
        refuse_to_overwrite(outputs, [image["file_name"] for image in images])
        model = Trainer.build_model(cfg).eval()
        with record_attention(model):  # which has to have a block
            Checkpointer(model, complete=True).load(args.weights)
        os.makedirs(args.output, exist_ok=True)

    found = Diagnosis(args.queries, args.band, args.seed)
    _diagnose(cfg, model, images, found)
    means = found.means()
    print(_tables(means))
    print(f"Means over {found.images} images of {name} with 95 % intervals.")
    if without := found.images - found.images_with_regions:
        print(
            f"The correlations leave out {without} of them, which have no masks, or none that a "
            "position lies in."
        )
    content = {
        "config_file": args.config_file,
        "weights": args.weights,
        "dataset": name,
        "images": found.images,
        "images_with_regions": found.images_with_regions,
        "queries": args.queries,
        "band": args.band,
        "seed": args.seed,
        "blocks": {
            block: {key: mean and asdict(mean) for key, mean in quantities.items()}
            for block, quantities in means.items()
        },
    }
    output = Path(args.output)
    with exit_on_bad_input():
        with write_whole(output / "diagnose.json") as file:
            file.write(json.dumps(content, indent=1).encode())
        with write_whole(output / "diagnose.png") as file:
            _plot(means, file)
    print(f"Written to {output}: diagnose.json, diagnose.png")
    return 0


def _check(args: argparse.Namespace) -> None:
    for option, least in (("images", 1), ("queries", 2)):
        if getattr(args, option) < least:
            raise ValueError(f"--{option}: {getattr(args, option)} must be at least {least}")
    if not args.band > 0:
        raise ValueError(f"--band: {args.band} must be above 0")


def _choose_images(cfg: CfgNode, args: argparse.Namespace) -> tuple[str, list[dict[str, Any]]]:
    """The data set's name, and the chosen images with their annotations."""
    use_own_data(cfg)
    if not args.dataset and not cfg.DATASETS.TEST:
        raise ValueError(
            "--dataset is missing: the config's DATASETS.TEST is empty. Name a data set, or your "
            "own data by --opts DATASETS.VAL_JSON FILE DATASETS.VAL_IMAGES DIR"
        )
    name = args.dataset or cfg.DATASETS.TEST[0]
    # Every image that can be used serves: nothing is compared with other results.
    found = check_dataset(
        name, Use(annotated=False, masks=False, max_json_mb=cfg.DATASETS.MAX_JSON_MB)
    )
    raise_errors([found.report])
    use_repaired(found, Path(args.output, "annotations"))
    known = get_detection_dataset_dicts(name, filter_empty=False)
    chosen = np.linspace(0, len(known) - 1, min(args.images, len(known))).round().astype(int)
    return name, [known[index] for index in chosen]


@torch.no_grad()
def _diagnose(
    cfg: CfgNode, model: nn.Module, images: list[dict[str, Any]], found: Diagnosis
) -> None:
    loader = build_detection_test_loader(
        dataset=images,
        mapper=build_mapper(cfg, is_train=False),
        num_workers=cfg.DATALOADER.NUM_WORKERS,
    )
    network = BackboneAlone.of(model)
    with record_attention(network) as record:
        for image, batch in zip(images, tqdm(loader), strict=True):  # one image a batch
            network(batch)
            annotations = image.get("annotations", [])
            found.add(record, [category_map(annotations, image["height"], image["width"])])


def _tables(means: Means) -> str:
    """Quantities down, blocks across, a few beside each other."""
    names = list(means)
    tables = []
    for start in range(0, len(names), _BLOCKS_BESIDE):
        beside = names[start : start + _BLOCKS_BESIDE]
        rows = [
            [key.replace("_", " "), *(_cell(means[name][key]) for name in beside)]
            for keys in _PANELS.values()
            for key in keys
        ]
        tables.append(tabulate(rows, ["", *map(short_name, beside)], disable_numparse=True))
    return "\n\n".join(tables)


def _cell(mean: Mean | None) -> str:
    if mean is None:
        return "-"
    if mean.low is None or mean.low == mean.high:
        return f"{mean.value:.3f}"
    return f"{mean.value:.3f} [{mean.low:.3f}, {mean.high:.3f}]"


def _plot(means: Means, file: BinaryIO) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 7), layout="constrained")
    width = 0.8 / len(means)
    for axes, (title, keys) in zip(figure.subplots(2, 2).flat, _PANELS.items(), strict=True):
        for index, (name, quantities) in enumerate(means.items()):
            for place, key in enumerate(keys):
                mean = quantities[key]
                if mean is None:
                    continue
                error = None
                if mean.low is not None and mean.high is not None:
                    ends = (mean.value - mean.low, mean.high - mean.value)
                    error = [[max(end, 0.0)] for end in ends]
                where = place + (index - (len(means) - 1) / 2) * width
                color = f"C{index % 10}"
                axes.bar(where, mean.value, width, yerr=error, color=color, capsize=2)
            if title == next(iter(_PANELS)):
                axes.bar(0, 0, color=f"C{index % 10}", label=short_name(name))
        labels = [key.removesuffix("_distance").replace("_", "\n") for key in keys]
        axes.set_xticks(range(len(keys)), labels)
        axes.set_xlim(-0.5, len(keys) - 0.5)
        axes.axhline(0, color="black", linewidth=0.5)
        axes.set_title(title)
        axes.grid(True, axis="y", alpha=0.3)
    figure.axes[0].legend()
    figure.savefig(file, format="png", dpi=150)
