"""Diagnose attention over a data set: does it depend on the query, does it follow the objects?

example:
  python -m dnl_det diagnose --config-file configs/Shapes/disentangled.yaml \\
      --weights output/shapes/model_final.pth --output output/diagnosis

For each attention block, prints means over the images with 95 % intervals: distances between
queries (0: all queries attend alike, the block has degenerated), entropy, correlations of the
pairwise and the unary term with the categories and boundaries of objects, or of the labelled
regions of semantic segmentation, and gamma. Also writes
them to DIR/diagnose.json and DIR/diagnose.png. docs/DIAGNOSE.md defines the numbers.
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

from ..analysis import (
    IGNORED,
    BackboneAlone,
    Diagnosis,
    Mean,
    category_map,
    record_attention,
    short_name,
)
from ..checkpoint import Checkpointer
from ..data.augmentations import is_semantic
from ..data.checks import Use, check_dataset, raise_errors, use_repaired
from ..data.images import build_mapper
from ..data.labels import read_labels
from ..data.own_data import use_own_data
from ..engine import Trainer, config_inputs, exit_on_bad_input, fall_back_to_cpu, load_config
from ..files import refuse_to_overwrite, write_whole
from ..modeling import whole_images
from .inputs import add_model_arguments

Means = dict[str, dict[str, Mean | None]]
_BLOCKS_BESIDE = 4
_PANELS = {
    "distance between queries, of cosines": tuple(
        f"{of}_distance" for of in ("input", "output", "context", "pairwise", "combined")
    ),
    "attention": ("pairwise_divergence", "pairwise_entropy", "unary_entropy"),
    "correlation with masks": tuple(
        f"{term}_{of}" for term in ("pairwise", "unary") for of in ("category", "boundary")
    ),
    "weight of the terms": ("gamma", "pairwise_share", "context_share"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    add_model_arguments(parser)
    add = parser.add_argument
    text = "name of a registered data set (default: the first of DATASETS.TEST)"
    add("--dataset", metavar="NAME", help=text)
    text = "number of images, evenly spread over the data set (default: 100)"
    add("--images", type=int, default=100, metavar="N", help=text)
    text = "number of random query positions in each image (default: 256)"
    add("--queries", type=int, default=256, metavar="N", help=text)
    text = (
        "a position is on a boundary if the square of this side around it, in strides, touches "
        "several categories (default: 1)"
    )
    add("--band", type=float, default=1.0, metavar="STRIDES", help=text)
    add("--seed", type=int, default=0, help="seed of the random queries (default: 0)")


def run(args: argparse.Namespace) -> int:
    """Check everything first, then go through the images, print, write."""
    setup_logger(name="dnl_det")
    with exit_on_bad_input():
        _check(args)
        cfg = load_config(args.config_file, args.opts)
        fall_back_to_cpu(cfg)
        outputs = [Path(args.output, f"diagnose.{kind}") for kind in ("json", "png")]
        refuse_to_overwrite(outputs, [args.weights, *config_inputs(cfg, args.config_file)])
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
        print(f"The correlations leave out {without} of them: no position lies in a mask there.")
    content = {
        "config_file": args.config_file,
        "weights": args.weights,
        "dataset": name,
        "images": found.images,
        "images_with_regions": found.images_with_regions,
        **{option: getattr(args, option) for option in ("queries", "band", "seed")},
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
    print(f"Wrote diagnose.json and diagnose.png to {output}")
    return 0


def _check(args: argparse.Namespace) -> None:
    for option, value, least in (("images", args.images, 1), ("queries", args.queries, 2)):
        if value < least:
            raise ValueError(f"--{option}: {value} must be at least {least}")
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
    use = Use(
        annotated=False,
        masks=False,
        labels=is_semantic(cfg),
        max_json_mb=cfg.DATASETS.MAX_JSON_MB,
    )
    found = check_dataset(name, use)
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
    with record_attention(network) as record, whole_images(model):
        for image, batch in zip(images, tqdm(loader), strict=True):  # one image a batch
            network(batch)
            found.add(record, [_category_map(cfg, image)])


def _category_map(cfg: CfgNode, image: dict[str, Any]) -> np.ndarray | None:
    """Of an image's labels of semantic segmentation if it has them, else of its instances."""
    if "sem_seg_file_name" not in image:
        return category_map(image.get("annotations", []), image["height"], image["width"])
    ignore = cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE
    labels = read_labels(image["sem_seg_file_name"], image.get("label_offset", 0), ignore)
    return np.where(labels == ignore, IGNORED, labels + 1)


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
            shift, color = (index - (len(means) - 1) / 2) * width, f"C{index % 10}"
            for place, key in enumerate(keys):
                if mean := quantities[key]:
                    ends = None
                    if mean.low is not None and mean.high is not None:
                        ends = np.abs([[mean.low - mean.value], [mean.high - mean.value]])
                    where = place + shift
                    axes.bar(where, mean.value, width, yerr=ends, color=color, capsize=2)
            axes.bar(0, 0, color=color, label=short_name(name))
        labels = [key.removesuffix("_distance").replace("_", "\n") for key in keys]
        axes.set_xticks(range(len(keys)), labels)
        axes.set_xlim(-0.5, len(keys) - 0.5)
        axes.axhline(0, color="black", linewidth=0.5)
        axes.set_title(title)
        axes.grid(True, axis="y", alpha=0.3)
    figure.axes[0].legend()
    figure.savefig(file, format="png", dpi=150)
