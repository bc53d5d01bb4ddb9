"""List the attention blocks that MODEL.DNL.BLOCK can name, with their size and their start.

example:
  python -m dnl_det blocks --channels 1024

"change" is what a new block does to features of a unit normal distribution: the mean of |y - x|,
divided by the mean of |x|. Where it is 0, a pretrained backbone computes at first what it did
without the block; where it is not, it has to learn anew what follows.
"""

import argparse
from importlib.util import find_spec

import torch
from tabulate import tabulate
from torch import nn

from ..analysis import count_multiply_adds
from ..engine import exit_on_bad_input
from ..layers import BLOCKS
from ..modeling import TIMM_BLOCKS, build_block

_SIZE = 50, 84  # res4 of an image of 800 x 1344


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    text = "channels of the features, such as res4's 1024 (the default)"
    parser.add_argument("--channels", type=int, default=1024, metavar="C", help=text)


def run(args: argparse.Namespace) -> int:
    """Build each block, measure, print."""
    names = [*BLOCKS]
    if find_spec("timm"):
        names += [f"timm/{name}" for name in TIMM_BLOCKS]
    with exit_on_bad_input():
        if args.channels < 64 or args.channels % 64:
            raise ValueError(f"--channels: {args.channels} must be a multiple of 64")
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, args.channels, *_SIZE, generator=generator)
    rows = [_row(name, x) for name in names]
    headers = ("BLOCK", "parameters", "10^9 multiply-adds", "change", "explore, diagnose")
    print(tabulate(rows, headers, disable_numparse=True, tablefmt="github"))
    if not find_spec("timm"):
        print(f"With timm installed (pip install timm) also: {', '.join(TIMM_BLOCKS)}")
    return 0


@torch.no_grad()
def _row(name: str, x: torch.Tensor) -> tuple[str, ...]:
    torch.manual_seed(0)
    block: nn.Module = build_block(name, x.shape[1]).eval()
    change = (block(x) - x).abs().mean() / x.abs().mean()
    return (
        name,
        f"{sum(parameter.numel() for parameter in block.parameters()):,}",
        f"{count_multiply_adds(block, x) / 1e9:.2f}",
        f"{change:.2f}",
        "yes" if name in BLOCKS else "no",
    )
