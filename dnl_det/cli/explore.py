"""Show what the attention blocks of a model attend to: a page for each image, or a figure.

example:
  python -m dnl_det explore --config-file configs/Shapes/disentangled.yaml \\
      --weights output/shapes/model_final.pth photo1.jpg photo2.png --output explorer
  ... --format png --points 120,80 310,95       the paper's figure, for these query points

Writes photo1.html and photo2.html to the folder of --output. They open in a browser and need no
network: hover over the picture to see where that position attends, by block and term. --format png
writes attention_BLOCK.png instead: a row for each image and query point, a column for each term.
Of a model for semantic segmentation, the page shows the classes it finds in place of detections.
"""

import argparse
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from detectron2.utils.logger import setup_logger
from torch import nn
from tqdm import tqdm

from ..analysis import record_attention
from ..analysis.page import (
    GENERATOR,
    PAGE_BUDGET,
    AttentionFigure,
    block_names,
    class_regions,
    default_points,
    explore_image,
)
from ..engine import exit_on_bad_input
from ..files import refuse_to_overwrite, write_whole
from ..modeling import whole_images
from ..text import escaped
from .inputs import Inputs, add_input_arguments, files_read, read_inputs


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    add_input_arguments(parser)
    add = parser.add_argument
    text = "html: pages; png: figures; both (default: html)"
    add("--format", choices=("html", "png", "both"), default="html", help=text)
    text = "attention blocks to show, such as res4.4 (default: all)"
    add("--blocks", nargs="+", metavar="BLOCK", help=text)
    text = (
        "query points of the figure, in pixels of each image (default: the centres of the two "
        "detections, or segmented classes, with the highest scores)"
    )
    add("--points", nargs="+", type=_point, metavar="X,Y", help=text)
    text = "lowest score that is drawn at first (default: 0.5)"
    add("--threshold", type=float, default=0.5, help=text)
    text = (
        "largest size of the maps in a page; a smaller one leaves out every second, third, ... "
        "query (default: %(default)g)"
    )
    add("--budget", type=float, default=PAGE_BUDGET / 1e6, metavar="MB", help=text)


def run(args: argparse.Namespace) -> int:
    """Read and check everything first, then image by image; a page appears when it is complete."""
    setup_logger(name="dnl_det")
    with exit_on_bad_input():
        given = read_inputs(args)
        model = given.predictor.model
        _check(args, given)
        with record_attention(model):
            pass  # raises an error if the model has no attention block
        blocks = _chosen_blocks(args, model)
        output = Path(args.output)
        pages = [output / f"{name}.html" for name in given.names if args.format != "png"]
        figures = {} if args.format == "html" else {name: AttentionFigure(name) for name in blocks}
        figure_files = [output / f"attention_{name}.png" for name in figures]
        written = [*pages, *figure_files]
        refuse_to_overwrite(written, files_read(given.predictor.cfg, args))
        os.makedirs(output, exist_ok=True)
        _refuse_foreign(pages)

    for index in tqdm(range(len(given.files))):
        with exit_on_bad_input():
            image = given.image(index)
        with record_attention(model) as record, whole_images(model):
            output = given.predictor(image)
        instances = output.get("instances")
        if given.segments:
            instances = class_regions(output["sem_seg"])
        image = image[:, :, ::-1]  # RGB
        if pages:
            page = explore_image(
                record,
                image,
                instances,
                given.class_names,
                blocks=blocks,
                title=escaped(Path(given.files[index]).name),
                model=f"{Path(args.config_file).stem}, {Path(args.weights).name}",
                threshold=args.threshold,
                budget=int(1e6 * args.budget),
            )
            with write_whole(pages[index]) as file:
                file.write(page.encode())
        points = args.points or default_points(instances, image.shape[:2])
        for name, figure in figures.items():
            figure.add(image, record[blocks[name]], record.frames[0], points)
    for path, figure in zip(figure_files, figures.values(), strict=True):
        with write_whole(path) as file:
            file.write(figure.png())
    for path in written:
        print(f"{escaped(str(path))} ({path.stat().st_size / 1e6:.1f} MB)")
    return 0


def _point(text: str) -> tuple[float, float]:
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
                    f"--points: {x:g},{y:g} is outside {file}, which is {width} x {height} "
                    "pixels; x goes right and y down"
                )


def _chosen_blocks(args: argparse.Namespace, model: nn.Module) -> Mapping[str, str]:
    """From short names of blocks to those of modules."""
    names = block_names(model)
    unknown = [name for name in args.blocks or () if name not in names]
    if unknown:
        raise ValueError(
            f"--blocks: {', '.join(unknown)} has no attention; choose from {', '.join(names)}"
        )
    return {short: name for short, name in names.items() if short in (args.blocks or names)}


def _refuse_foreign(files: Sequence[Path]) -> None:
    for file in files:
        if file.exists() and GENERATOR not in file.read_text(errors="replace")[:2000]:
            raise ValueError(
                f"--output: {file} exists and is not a page of this command; move it, or choose "
                "another folder"
            )
