"""Softmax attention, exact: the kernel that every block with a pairwise term calls.

N: images, L: query positions, S: key positions (S = L unless keys are pooled),
D: channels of query and key, E: channels of the value.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class AttentionMaps:
    """What a block attends to; each row sums to 1, except under NL's dot-product kernel.

    Attributes:
        pairwise: ``(N, L, S)``, a distribution over keys for every query, or None.
        unary: ``(N, S)``, one distribution over keys for all queries, or None.
    """

    pairwise: Tensor | None
    unary: Tensor | None


def attention_weights(query: Tensor, key: Tensor, *, scale: float) -> Tensor:
    """``softmax_j(scale * q_i . k_j)``, in float32 or wider whatever the inputs are.

    Half-precision products overflow or round away whole units of a logit once they are divided
    by a small temperature, so the query is scaled first and the product is not taken in half.

    Args:
        query: ``(N, L, D)``.
        key: ``(N, S, D)``.
        scale: multiplies the logits; no unit.

    Returns:
        ``(N, L, S)``, rows sum to 1.
    """
    with torch.autocast(query.device.type, enabled=False):
        dtype = torch.promote_types(query.dtype, torch.float32)
        logits = (query.to(dtype) * scale) @ key.to(dtype).transpose(1, 2)  # (N, L, S)
        return logits.softmax(dim=2)


def attend(query: Tensor, key: Tensor, value: Tensor, *, scale: float) -> Tensor:
    """``sum_j softmax_j(scale * q_i . k_j) v_j``.

    Args:
        query: ``(N, L, D)``.
        key: ``(N, S, D)``.
        value: ``(N, S, E)``.
        scale: multiplies the logits; no unit.

    Returns:
        ``(N, L, E)``, of the value's dtype.
    """
    return weighted_sum(attention_weights(query, key, scale=scale), value)


def weighted_sum(weights: Tensor, value: Tensor) -> Tensor:
    """``sum_j w_ij v_j``, accumulated as wide as a matrix product of the value's dtype is.

    Args:
        weights: ``(N, L, S)``.
        value: ``(N, S, E)``.

    Returns:
        ``(N, L, E)``, of the value's dtype.
    """
    with torch.autocast(value.device.type, enabled=False):
        return weights.to(value.dtype) @ value


def softmax32(logits: Tensor) -> Tensor:
    """Softmax over the last dimension, in float32 or wider. Any shape."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32)).softmax(dim=-1)


def to_tokens(x: Tensor) -> Tensor:
    """``(N, C, H, W)`` to ``(N, L, C)``, row by row. A view where ``x`` is contiguous."""
    return x.flatten(2).transpose(1, 2)


def to_map(tokens: Tensor, height: int, width: int) -> Tensor:
    """The inverse of :func:`to_tokens`: ``(N, L, C)`` to ``(N, C, H, W)``."""
    return tokens.transpose(1, 2).unflatten(2, (height, width))


def reduced_channels(in_channels: int, reduction: int) -> int:
    """``in_channels // reduction``.

    Raises:
        ValueError: nothing would be left, or ``reduction`` is below 1.
    """
    if not 1 <= reduction <= in_channels:
        raise ValueError(
            f"reduction={reduction} with {in_channels} channels: must be between 1 and the number "
            "of channels, so that at least one is left"
        )
    return in_channels // reduction
