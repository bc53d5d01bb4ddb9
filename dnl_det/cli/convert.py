"""Convert the authors' released checkpoints, or torchvision's ResNets, for detectron2.

example:
  python -m dnl_det convert authors_dnl_c4c5all.pth dnl_c4_c5all.pth

OUT is a .pth, or a .safetensors where its name ends so. The layout is recognised by itself, every
tensor is accounted for, and a file that does not fit is refused. Nothing in the file can run code.
The commands to evaluate the model are printed.
"""

import argparse
import shlex
from pathlib import Path

import torch

from ..checkpoint import Conversion, convert
from ..checkpoint.tensor_files import SUFFIX, require, tensor_bytes
from ..engine import exit_on_bad_input
from ..files import refuse_to_overwrite, write_whole
from ..model_zoo import get_config_file


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    parser.add_argument("input", metavar="IN", type=Path, help="the original checkpoint")
    parser.add_argument("output", metavar="OUT", type=Path, help="the file to write")
    text = "of OUT: pth or safetensors (default: by its name's end)"
    parser.add_argument("--format", choices=("pth", "safetensors"), help=text)
    parser.add_argument("--overwrite", action="store_true", help="replace OUT if it is there")


def run(args: argparse.Namespace) -> int:
    """Convert, write, and print what went where."""
    with exit_on_bad_input():
        kind = _check_output(args.output, args.format, args.overwrite)
        refuse_to_overwrite([args.output], [args.input])
        conversion = convert(args.input)
        with write_whole(args.output) as file:
            if kind == SUFFIX:
                file.write(tensor_bytes(conversion.checkpoint))
            else:
                torch.save(conversion.checkpoint, file)
    print(_report(conversion, args.output))
    return 0


def _check_output(output: Path, wanted: str | None, overwrite: bool) -> str:
    """The file's ending, ``.pth`` or ``.safetensors``."""
    allowed = (f".{wanted}",) if wanted else (".pth", SUFFIX)
    if output.suffix not in allowed:
        raise ValueError(
            f"OUT: {output} must end with {' or '.join(allowed)}; detectron2 alone reads .pth"
        )
    if output.suffix == SUFFIX:
        require("safetensors", output)
    if output.exists() and not overwrite:
        raise FileExistsError(
            f"OUT: {output} is there already: give another name, or --overwrite to replace it"
        )
    if not output.parent.is_dir():
        raise FileNotFoundError(f"OUT: there is no folder {output.parent}: make it first")
    return output.suffix


def _report(conversion: Conversion, output: Path) -> str:
    model = conversion.checkpoint["model"]
    lines = [
        f"{'found':<10}{conversion.description}",
        f"{'mapped':<10}{len(model)} tensors, {sum(v.numel() for v in model.values()):,} numbers",
    ]
    for what, keys in conversion.changed.items():
        lines.append(f"{'  changed':<10}{_name(keys)}: {what}")
    for why, keys in conversion.left_out.items():
        lines.append(f"{'left out':<10}{_name(keys)}: {why}")
    lines.append(f"{'written':<10}{output}")
    lines.append("")
    if not conversion.config:
        lines += [
            "Start a training with it: MODEL.WEIGHTS " + shlex.quote(str(output)),
            "It wants RGB images and torchvision's stride, as the paper's configs have them:",
            "INPUT.FORMAT RGB, MODEL.PIXEL_MEAN [123.675,116.28,103.53],",
            "MODEL.PIXEL_STD [58.395,57.12,57.375], MODEL.RESNETS.STRIDE_IN_1X1 False.",
        ]
        return "\n".join(lines)
    config = conversion.config
    if not Path(config).is_file():  # not in the checkout
        config = shlex.quote(get_config_file(config.removeprefix("configs/")))
    weights = shlex.join(["MODEL.WEIGHTS", str(output), *conversion.overrides])
    lines += [
        "Evaluate it, and detect with it:",
        f"  python -m dnl_det train --config-file {config} \\",
        f"      --eval-only {weights}",
        f"  python -m dnl_det predict --config-file {config} \\",
        f"      --weights {shlex.quote(str(output))} --output detections IMAGE.jpg"
        + (f" --opts {shlex.join(conversion.overrides)}" if conversion.overrides else ""),
    ]
    return "\n".join(lines)


def _name(keys: list[str]) -> str:
    """Up to two keys by name, more by their number and common end."""
    if len(keys) <= 2:
        return ", ".join(keys)
    ends = {key.rsplit(".", 1)[-1] for key in keys}
    return f"{len(keys)} x {'/'.join(sorted(ends))}" if len(ends) == 1 else f"{len(keys)} tensors"
