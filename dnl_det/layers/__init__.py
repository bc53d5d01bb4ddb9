"""Attention blocks as plain torch modules: ``(N, C, H, W)`` to ``(N, C, H, W)``."""

from typing import Any

from torch import nn

from .attention import BACKENDS, AttentionMaps, attend, attention_weights
from .disentangled_non_local import DisentangledNonLocal2d
from .global_context import GlobalContext2d, SimplifiedNonLocal2d
from .non_local import NonLocal2d

__all__ = [
    "BACKENDS",
    "BLOCKS",
    "AttentionMaps",
    "DisentangledNonLocal2d",
    "GlobalContext2d",
    "NonLocal2d",
    "SimplifiedNonLocal2d",
    "attend",
    "attention_weights",
    "build_attention",
]

BLOCKS: dict[str, type[nn.Module]] = {
    "nl": NonLocal2d,
    "snl": SimplifiedNonLocal2d,
    "gc": GlobalContext2d,
    "dnl": DisentangledNonLocal2d,
}
"""The classes of the blocks by their names in a config."""


def build_attention(name: str, in_channels: int, **kwargs: Any) -> nn.Module:
    """A block by its name.

    Args:
        name: ``nl``, ``snl``, ``gc`` or ``dnl``.
        in_channels: C of its input and output.
        kwargs: the keyword arguments of that block's constructor.

    Returns:
        A module ``(N, C, H, W) -> (N, C, H, W)`` with a method ``attention_maps(x)``.

    Raises:
        ValueError: an unknown name, or an argument out of its range.
        TypeError: an argument that this block does not have.
    """
    if name not in BLOCKS:
        raise ValueError(f"unknown attention block {name!r}: must be one of {', '.join(BLOCKS)}")
    return BLOCKS[name](in_channels, **kwargs)
