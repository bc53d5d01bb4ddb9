"""The attention of timm beside this project's blocks, under names such as ``timm/eca``."""

from importlib.util import find_spec
from typing import Any

from torch import nn

from ..layers import build_attention

PREFIX = "timm/"
TIMM_BLOCKS = (
    *("se", "ese", "eca", "ecam", "ceca", "gc", "gca", "cbam", "lcbam", "coord", "scoord", "ela"),
    *("strip", "sk", "splat", "lambda", "nl"),
)
"""Of timm's factory, the names of those that take maps of any size and keep it."""
# The others of timm 1.0, and why they cannot be put behind a convolution of any size.
_REFUSED = {
    "ge": "timm 1.0 cannot build it",
    "bottleneck": "it is built for one size of the feature map",
    "halo": "it takes feature maps whose sides are multiples of 8 alone",
    "bat": "it takes feature maps whose sides are multiples of 7 alone",
}


def check_timm_block(key: str, name: object) -> None:
    """Raise a ValueError if ``name`` is a block of timm that cannot be used, and say why."""
    if not isinstance(name, str) or not name.startswith(PREFIX):
        return
    if (kind := name.removeprefix(PREFIX)) not in TIMM_BLOCKS:
        reason = f" ({_REFUSED[kind]})" if kind in _REFUSED else ""
        raise ValueError(f"{key}: {name!r}{reason} is not one of timm/{', '.join(TIMM_BLOCKS)}")
    if find_spec("timm") is None:
        raise ValueError(f"{key}: {name!r} needs the package timm: pip install timm")


def build_block(name: str, in_channels: int, **kwargs: Any) -> nn.Module:
    """A block of :func:`dnl_det.layers.build_attention`, or one of timm.

    timm's have no ``attention_maps``, and most are no identity at their start: they multiply the
    features by a gate of about a half.

    Args:
        name: such as ``dnl`` or ``timm/eca``, see :data:`TIMM_BLOCKS`.
        in_channels: C of its input and output.
        kwargs: the keyword arguments of that block's constructor.

    Raises:
        ValueError: an unknown name, an argument out of its range, or timm is not installed.
    """
    if not name.startswith(PREFIX):
        return build_attention(name, in_channels, **kwargs)
    check_timm_block("block", name)
    from timm.layers import create_attn

    block: nn.Module = create_attn(name.removeprefix(PREFIX), in_channels, **kwargs)
    return block
