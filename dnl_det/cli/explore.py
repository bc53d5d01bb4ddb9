"""Show what the attention blocks of a detector attend to: a page an image, or a figure.

example:
  python -m dnl_det explore --config-file configs/Shapes/disentangled.yaml \\
      --weights output/shapes/model_final.pth photo1.jpg photo2.png --output explorer
  ... --format png --points 120,80 310,95       the paper's figure, for these query points

--output then has photo1.html and photo2.html, to be opened in a browser, without a network: hover
over the picture to see where that position attends, by block and term. With --format png it has
attention_res4.4.png and so on: a row for each image and query point, a column for each term.
"""

import argparse
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.utils.logger import setup_logger
from tqdm import tqdm

from ..analysis import AttentionRecord, record_attention
from ..analysis.page import (
    GENERATOR,
    PAGE_BUDGET,
    AttentionFigure,
    block_names,
    default_points,
    explore_image,
)
from ..engine import exit_on_bad_input
from ..files import refuse_to_overwrite, write_whole
from ..text import escaped
from .inputs import Inputs, add_input_arguments, files_read, read_inputs

Point = tuple[float, float]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    add_input_arguments(parser)
    parser.add_argument(
        "--format", choices=("html", "png", "both"), default="html", help="default html"
    )
    parser.add_argument(
        "--blocks", nargs="+", metavar="BLOCK", help="such as res4.4 (default: all with attention)"
    )
    parser.add_argument(
        "--points",
        nargs="+",
        type=_point,
        metavar="X,Y",
        help="query points of the figure in pixels of each image (default: the centres of its two "
        "best detections)",
    )
    parser.add_argument(
        "--threshold", type=float, default=0.5, help="lowest score drawn at first (default 0.5)"
    )
    parser.add_argument(
        "--budget",
        type=float,
        default=PAGE_BUDGET / 1e6,
        metavar="MB",
        help="size of a page's maps at most; with less, every second, third, ... position is a "
        "query (default %(default)g)",
    )


def run(args: argparse.Namespace) -> int:
    """Read and check everything first, then image by image; a page appears when it is complete."""
    setup_logger(name="dnl_det")
    with exit_on_bad_input():
        given = read_inputs(args)
        _check(args, given)
        with record_attention(given.predictor.model):
            pass  # says so where there is no attention block
        blocks = _chosen_blocks(args, given)
        pages, figure_files = _pages(args, given), _figure_files(args, blocks)
        refuse_to_overwrite([*pages, *figure_files.values()], files_read(given.predictor.cfg, args))
        os.makedirs(args.output, exist_ok=True)
        _refuse_foreign(pages)

    figures = {name: AttentionFigure(name) for name in blocks}
    for index in tqdm(range(len(given.files))):
        with exit_on_bad_input():
            image = given.image(index)
        with record_attention(given.predictor.model) as record:
            instances = given.predictor(image).get("instances")
        image = image[:, :, ::-1]  # RGB
        if args.format != "png":
            page = _page(args, given, index, image, record, instances, blocks)
            with write_whole(Path(args.output, f"{given.names[index]}.html")) as file:
                file.write(page.encode())
        if args.format != "html":
            points = args.points or default_points(instances, image.shape[:2])
            for name, figure in figures.items():
                figure.add(image, record[blocks[name]], record.frames[0], points)
    for name, path in figure_files.items():
        with write_whole(path) as file:
            file.write(figures[name].png())
    written = [*pages, *figure_files.values()]
    print(
        "\n".join(f"{escaped(str(path))} ({path.stat().st_size / 1e6:.1f} MB)" for path in written)
    )
    return 0


def _point(text: str) -> Point:
    try:
        x, y = (float(number) for number in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} must be X,Y in pixels, as 120,80") from None
    return x, y


def _check(args: argparse.Namespace, given: Inputs) -> None:
    if not args.budget > 0:
        raise ValueError(f"--budget: {args.budget} must be above 0, in MB")
    if not 0 <= args.threshold <= 1:
        raise ValueError(f"--threshold: {args.threshold} must be between 0 and 1")
    for x, y in args.points or ():
        for file, (height, width) in zip(given.files, given.sizes, strict=True):
            if not (0 <= x < width and 0 <= y < height):
                raise ValueError(
                    f"--points: {x:g},{y:g} is outside of {file}, which is {width} x {height} "
                    "pixels; x goes right and y down"
                )


def _chosen_blocks(args: argparse.Namespace, given: Inputs) -> Mapping[str, str]:
    """From short names of blocks to those of modules."""
    names = block_names(given.predictor.model)
    unknown = [name for name in args.blocks or () if name not in names]
    if unknown:
        raise ValueError(
            f"--blocks: {', '.join(unknown)} has no attention; those that have: {', '.join(names)}"
        )
    return {short: name for short, name in names.items() if short in (args.blocks or names)}


def _pages(args: argparse.Namespace, given: Inputs) -> Sequence[Path]:
    return [] if args.format == "png" else [Path(args.output, f"{n}.html") for n in given.names]


def _figure_files(args: argparse.Namespace, blocks: Mapping[str, str]) -> dict[str, Path]:
    if args.format == "html":
        return {}
    return {name: Path(args.output, f"attention_{name}.png") for name in blocks}


def _refuse_foreign(files: Sequence[Path]) -> None:
    for file in files:
        if file.exists() and GENERATOR not in file.read_text(errors="replace")[:2000]:
            raise ValueError(
                f"--output: {file} is there and is not a page of this command; move it, or give "
                "another folder"
            )


def _page(
    args: argparse.Namespace,
    given: Inputs,
    index: int,
    image: np.ndarray,
    record: AttentionRecord,
    instances: Any,
    blocks: Mapping[str, str],
) -> str:
    return explore_image(
        record,
        image,
        instances,
        given.metadata.thing_classes,
        blocks=blocks,
        title=escaped(Path(given.files[index]).name),
        model=f"{Path(args.config_file).stem}, {Path(args.weights).name}",
        threshold=args.threshold,
        budget=int(1e6 * args.budget),
    )
