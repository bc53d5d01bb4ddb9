"""Softmax attention, exact: the kernel that every block with a pairwise term calls.

N: images, L: query positions, S: key positions (S = L unless keys are pooled),
D: channels of query and key, E: channels of the value.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .autocast import autocast_off
from .chunked_attention import chunk_rows, chunked_attention, lacks_derivative

BACKENDS = ("auto", "plain", "chunked", "sdpa")
"""What can compute an attention, see :func:`attend`."""
# Of the 1x1 convolutions' weights at the start, in the authors' code.
INIT_STD = 0.01


@dataclass
class AttentionMaps:
    """What a block attends to; each row sums to 1, except under NL's dot-product kernel.

    Attributes:
        pairwise: ``(N, L, S)``, a distribution over keys for every query (or for those that were
            asked for), or None.
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
    dtype = torch.promote_types(query.dtype, torch.float32)
    return product(query.to(dtype) * scale, key.to(dtype).transpose(1, 2)).softmax(dim=2)


def attend(
    query: Tensor, key: Tensor, value: Tensor, scale: float, backend: str = "auto"
) -> Tensor:
    """``sum_j softmax_j(scale * q_i . k_j) v_j``.

    All backends are exact; they differ in time and memory. Under ``torch.jit.script``, and for
    ONNX by the exporter that traces, it is ``plain`` whatever was asked for, so that the file runs
    where this package is not.

    - ``plain``: two matrix products around a softmax. Keeps maps of L x S. Has every derivative.
    - ``chunked``: see :func:`~dnl_det.layers.chunked_attention.chunked_attention`. Keeps
      about 800 x S numbers at a time, two of these in the backward pass, nothing between calls.
      No derivative in forward mode or by ``torch.func``.
    - ``sdpa``: torch's ``scaled_dot_product_attention``, in the value's dtype. No derivative in
      forward mode, and no second one.
    - ``auto``: ``chunked``, but ``plain`` in traced and exported graphs, for the derivatives that
      ``chunked`` lacks, and on a GPU where ``chunked`` would take all queries at once.

    Args:
        query: ``(N, L, D)``.
        key: ``(N, S, D)``.
        value: ``(N, S, E)``.
        scale: multiplies the logits; no unit.
        backend: one of :data:`BACKENDS`.

    Returns:
        ``(N, L, E)``, of the value's dtype.

    Raises:
        ValueError: an unknown backend.
        NotImplementedError: a derivative that the backend does not have.
    """
    if not torch.jit.is_scripting():
        check_choice("backend", backend, BACKENDS)
        if backend == "auto" or _traced_for_onnx():
            backend = _choose(query, key, value)
        if backend == "chunked":
            wide = torch.promote_types(query.dtype, torch.float32)
            with autocast_off(query.device):
                return chunked_attention(query.to(wide), key.to(wide), value, scale)
        if backend == "sdpa":
            q, k, v = (tensor.to(value.dtype).unsqueeze(1) for tensor in (query, key, value))
            with autocast_off(query.device):
                return F.scaled_dot_product_attention(q, k, v, scale=scale).squeeze(1)
    return weighted_sum(attention_weights(query, key, scale=scale), value)


def dot_product(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """``sum_j q_i . k_j v_j / S``: attention without a softmax, and without a map of L x S.

    Args, Returns: as :func:`attend`.
    """
    # (q k^T) v = q (k^T v). In float32, since it runs over S.
    dtype = torch.promote_types(query.dtype, torch.float32)
    summary = product(key.to(dtype).transpose(1, 2), value.to(dtype)) / key.shape[1]  # (N, D, E)
    return product(query.to(dtype), summary).to(value.dtype)  # (N, L, E)


def dot_product_weights(query: Tensor, key: Tensor) -> Tensor:
    """The map of :func:`dot_product`, ``(N, L, S)``."""
    dtype = torch.promote_types(query.dtype, torch.float32)
    return product(query.to(dtype), key.to(dtype).transpose(1, 2)) / key.shape[1]


def check_choice(name: str, value: str, allowed: Sequence[str]) -> None:
    """Raise a ValueError unless the argument ``name`` is one of those allowed."""
    if value not in allowed:
        raise ValueError(f"{name}={value!r}: must be one of {', '.join(allowed)}")


def check_positive(name: str, value: float) -> None:
    """Raise a ValueError unless the argument ``name`` is above 0."""
    if not value > 0:
        raise ValueError(f"{name}={value}: must be above 0")


@torch.jit.unused
def _traced_for_onnx() -> bool:
    return torch.jit.is_tracing() and torch.onnx.is_in_onnx_export()


def _choose(query: Tensor, key: Tensor, value: Tensor) -> str:
    # A graph that is written down is for any size, and runs where this package is not.
    if torch.compiler.is_exporting() or torch.jit.is_tracing():
        return "plain"
    if lacks_derivative(query, key, value):
        return "plain"
    # On a GPU, all images at once; on a CPU the other is as fast, and robust: see its _flush.
    one_chunk = chunk_rows(query.shape[1]) >= query.shape[1]
    return "plain" if query.is_cuda and one_chunk else "chunked"


def weighted_sum(weights: Tensor, value: Tensor) -> Tensor:
    """``sum_j w_ij v_j``, accumulated as wide as a matrix product of the value's dtype is.

    Args:
        weights: ``(N, L, S)``.
        value: ``(N, S, E)``.

    Returns:
        ``(N, L, E)``, of the value's dtype.
    """
    return product(weights.to(value.dtype), value)


def product(a: Tensor, b: Tensor) -> Tensor:
    """``a @ b`` in their own dtype, under autocast too."""
    if torch.jit.is_scripting():  # which takes no device but a constant one
        with torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
            return a @ b
    else:
        with autocast_off(a.device):
            return a @ b


def softmax32(logits: Tensor) -> Tensor:
    """Softmax over the last dimension, in float32 or wider. Any shape."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32)).softmax(dim=-1)


def choose(tokens: Tensor, queries: Tensor | None) -> Tensor:
    """``(N, L, C)`` to ``(N, Q, C)``: the tokens at Q positions, or all if None."""
    return tokens if queries is None else tokens[:, queries]


def to_tokens(x: Tensor) -> Tensor:
    """``(N, C, H, W)`` to ``(N, L, C)``, row by row. A view where ``x`` is contiguous."""
    return x.flatten(2).transpose(1, 2)


def to_map(tokens: Tensor, height: int, width: int) -> Tensor:
    """The inverse of :func:`to_tokens`: ``(N, L, C)`` to ``(N, C, H, W)``."""
    return tokens.transpose(1, 2).unflatten(2, (height, width))


class PointwiseConv2d(nn.Conv2d):
    """A 1x1 convolution, as the matrix product it is: faster than ``conv2d`` on a CPU.

    Args:
        in_channels, out_channels, bias: as of ``nn.Conv2d``.
    """

    def __init__(self, in_channels: int, out_channels: int, bias: bool = True):
        super().__init__(in_channels, out_channels, 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """``(N, C, H, W)`` to ``(N, out_channels, H, W)``."""
        # The sizes below would be the example's.
        if not torch.jit.is_scripting() and _traced_for_onnx():
            return super().forward(x)
        # One product an image, all with the same weight: torch.matmul would copy x first.
        weight = self.weight.flatten(1).expand(x.shape[0], -1, -1)  # (N, out_channels, C)
        flat = x.flatten(2)  # (N, C, L)
        bias = self.bias
        if bias is None:
            y = torch.bmm(weight, flat)
        else:
            y = torch.baddbmm(bias.unsqueeze(1), weight, flat)
        return y.unflatten(2, x.shape[2:])


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
