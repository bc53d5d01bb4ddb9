"""Exact attention in memory linear in the number of positions, as an operator of torch.

N: images, L: query positions, S: key positions, D: channels of query and key, E: channels of the
value. Queries are taken some rows at a time, so that a few rows of the L x S map exist at once, in
one buffer that all of them share. The backward pass computes the rows again instead of keeping
them (Rabe and Staats, "Self-attention Does Not Need O(n^2) Memory", 2021). Products are matrix
products of the whole chunk, and the softmax is that of a whole row: nothing is approximated.

Being one operator, it is one node under ``torch.compile`` and ``torch.export``.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.utils.flop_counter import register_flop_formula

from .autocast import autocast_off

# Rows of the map at once. Fewer make the matrix products slower, more of res4's leave the cache.
ROWS = 800


def chunk_rows(queries: int) -> int:
    """Rows of the map that are computed at once: about :data:`ROWS`, chunks of equal size."""
    chunks = max((queries + ROWS // 2) // ROWS, 1)
    return max(-(-queries // chunks), 1)


def chunked_attention(query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
    """``sum_j softmax_j(scale * q_i . k_j) v_j``.

    The backward pass of a backward pass (``create_graph=True``) takes as much memory as ``plain``.

    Args:
        query: ``(N, L, D)``, float32 or float64.
        key: ``(N, S, D)``, of the query's dtype.
        value: ``(N, S, E)``, any floating dtype; the sum over j is taken in it.
        scale: multiplies the logits; no unit.

    Returns:
        ``(N, L, E)``, of the value's dtype; a view of ``(N, E, L)``, unless one chunk is all.

    Raises:
        NotImplementedError: see :func:`lacks_derivative`.
    """
    if lacks_derivative(query, key, value):
        raise NotImplementedError(
            "backend='chunked' has no derivative in forward mode or within torch.func.grad: "
            "use backend='plain' or 'auto' (in a config MODEL.DNL.BACKEND)"
        )
    result, _ = _chunked_attention(query, key, value, scale, _keeps_map(query, key, value))
    return result


def lacks_derivative(*tensors: Tensor) -> bool:
    """Whether a derivative is being taken that torch's custom operators cannot have.

    These are forward mode, in which they would count as constants, and the transforms of
    ``torch.func`` (``grad``, ``jvp`` and what is made of them); ``vmap`` is none of them.
    """
    if any(forward_ad.unpack_dual(tensor).tangent is not None for tensor in tensors):
        return True
    if torch.compiler.is_compiling():  # cannot ask; torch says itself what it cannot do
        return False
    kinds = torch._C._functorch.TransformType
    transforms = torch._C._functorch.get_interpreter_stack() or []
    return any(transform.key() in (kinds.Grad, kinds.Jvp) for transform in transforms)


def _keeps_map(query: Tensor, key: Tensor, value: Tensor) -> bool:
    """Whether the map is kept for the backward pass: if it is one chunk, as large as the buffer."""
    if torch.jit.is_tracing() or not torch.is_grad_enabled():
        return False
    differentiable = query.requires_grad or key.requires_grad or value.requires_grad
    return differentiable and chunk_rows(query.shape[1]) >= query.shape[1]


@torch.library.custom_op("dnl_det::chunked_attention", mutates_args=())
def _chunked_attention(
    query: Tensor, key: Tensor, value: Tensor, scale: float, keep: bool
) -> tuple[Tensor, Tensor]:
    """Also the map ``(N, L, S)`` if it is to be kept, else an empty tensor."""
    images, queries, _ = query.shape
    keys = key.shape[1]
    result = _empty_tokens(value, queries, queries, value.dtype)
    rows = chunk_rows(queries)
    maps = query.new_empty((images, queries, keys) if keep else 0)
    buffer = query.new_empty((0 if keep else rows, keys))
    for image in range(images):
        for start in range(0, queries, rows):
            stop = min(start + rows, queries)
            into = maps[image] if keep else buffer[: stop - start]
            weights = _weights(query[image, start:stop], key[image], scale, into)
            torch.mm(weights.to(value.dtype), value[image], out=result[image, start:stop])
    return result, maps


def _empty_tokens(like: Tensor, positions: int, queries: int, dtype: torch.dtype) -> Tensor:
    """``(N, positions, C)``, N and C as in ``like`` ``(N, *, C)``, laid out for speed.

    As a feature map is, channel by channel, which is what the convolutions around take; but of a
    small map position by position, where the matrix products gain more than they lose.
    """
    images, _, channels = like.shape
    if chunk_rows(queries) >= queries:
        return like.new_empty(images, positions, channels, dtype=dtype)
    return like.new_empty(images, channels, positions, dtype=dtype).transpose(1, 2)


def _weights(query: Tensor, key: Tensor, scale: float, into: Tensor) -> Tensor:
    """Rows of the map, ``(rows, S)``, written to ``into``."""
    torch.addmm(into, query, key.T, beta=0, alpha=scale, out=into)
    torch.softmax(into, dim=1, out=into)
    return _flush(into)


def _flush(x: Tensor) -> Tensor:
    """Zero what is below the smallest normal number, in place.

    Peaked attention is full of such weights, and on a CPU a matrix product with a tenth of them
    takes 20 to 150 times as long.
    """
    if x.device.type == "cpu":
        torch.ops.aten.hardshrink.out(x, torch.finfo(x.dtype).tiny, out=x)
    return x


@_chunked_attention.register_fake
def _(query: Tensor, key: Tensor, value: Tensor, scale: float, keep: bool) -> tuple[Tensor, Tensor]:
    images, queries, _ = query.shape
    maps = query.new_empty((images, queries, key.shape[1]) if keep else 0)
    return _empty_tokens(value, queries, queries, value.dtype), maps


@torch.library.custom_op("dnl_det::chunked_attention_backward", mutates_args=())
def _chunked_attention_backward(
    grad: Tensor, query: Tensor, key: Tensor, value: Tensor, scale: float, maps: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of :func:`chunked_attention` by query, key and value.

    With ``P`` the map, ``g`` the result's gradient and ``dP = g v^T``::

        dv = P^T g      dlogits = P * (dP - rowsum(P * dP))
        dq = scale * dlogits k              dk = scale * dlogits^T q

    Args:
        grad: ``(N, L, E)``, of the value's dtype.
        query, key, value, scale: as they were.
        maps: P, ``(N, L, S)``, or empty.
    """
    images, queries, _ = query.shape
    keys = key.shape[1]
    wide = query.dtype
    grad_query, grad_key, grad_value = _empty_gradients(query, key, value, wide)
    rows = chunk_rows(queries)
    kept = maps.dim() == 3
    buffer = query.new_empty((0 if kept else rows, keys))
    grad_buffer = query.new_empty(rows, keys)
    if queries == 0:
        return grad_query, grad_key.zero_(), grad_value.zero_().to(value.dtype)
    for image in range(images):
        q, k, v, g = query[image], key[image], value[image].to(wide), grad[image]
        for start in range(0, queries, rows):
            stop = min(start + rows, queries)
            if kept:
                weights = maps[image]
            else:
                weights = _weights(q[start:stop], k, scale, buffer[: stop - start])
            grad_rows = g[start:stop].to(wide)  # (rows, E)
            _accumulate(grad_value[image], weights.T, grad_rows, 1.0, start)
            grad_weights = grad_buffer[: stop - start]
            torch.mm(grad_rows, v.T, out=grad_weights)
            # The softmax's backward, in place.
            torch.ops.aten._softmax_backward_data.out(
                grad_weights, weights, 1, wide, grad_input=grad_weights
            )
            _flush(grad_weights)
            _accumulate(grad_query[image, start:stop], grad_weights, k, scale, 0)
            _accumulate(grad_key[image], grad_weights.T, q[start:stop], scale, start)
    return grad_query, grad_key, grad_value.to(value.dtype)


def _accumulate(into: Tensor, a: Tensor, b: Tensor, scale: float, start: int) -> None:
    """Add ``scale * a @ b``; the first chunk, at ``start`` 0, finds no sum yet."""
    torch.addmm(into, a, b, beta=float(start > 0), alpha=scale, out=into)


def _empty_gradients(
    query: Tensor, key: Tensor, value: Tensor, of_value: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    queries, keys = query.shape[1], key.shape[1]
    return (
        _empty_tokens(query, queries, queries, query.dtype),
        _empty_tokens(key, keys, queries, key.dtype),
        _empty_tokens(value, keys, queries, of_value),
    )


@_chunked_attention_backward.register_fake
def _(
    grad: Tensor, query: Tensor, key: Tensor, value: Tensor, scale: float, maps: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    return _empty_gradients(query, key, value, value.dtype)


def _keep_for_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    query, key, value, scale, _ = inputs
    ctx.save_for_backward(query, key, value, output[1])
    ctx.mark_non_differentiable(output[1])
    ctx.scale = scale


def _backward(ctx: Any, grad: Tensor, _: Any) -> tuple[Tensor | None, ...]:
    query, key, value, maps = ctx.saved_tensors
    if torch.is_grad_enabled():  # create_graph=True: these gradients are to have gradients
        gradients = _differentiable_gradients(grad, query, key, value, ctx.scale)
    else:
        gradients = _chunked_attention_backward(grad, query, key, value, ctx.scale, maps)
    return (*gradients, None, None)


def _differentiable_gradients(
    grad: Tensor, query: Tensor, key: Tensor, value: Tensor, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """:func:`_chunked_attention_backward` in torch's own operators, with maps of L x S."""
    with autocast_off(query.device):
        wide = grad.to(query.dtype)  # (N, L, E)
        weights = (query * scale @ key.mT).softmax(dim=2)  # (N, L, S)
        products = weights * (wide @ value.to(query.dtype).mT)
        grad_logits = scale * (products - weights * products.sum(dim=2, keepdim=True))
        return grad_logits @ key, grad_logits.mT @ query, (weights.mT @ wide).to(value.dtype)


_chunked_attention.register_autograd(_backward, setup_context=_keep_for_backward)


@register_flop_formula(torch.ops.dnl_det.chunked_attention)
def _flops(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    """Two a multiply-add, of both products; for torch's ``FlopCounterMode``, from shapes."""
    return int(2 * query[0] * query[1] * key[1] * (query[2] + value[2]))


@register_flop_formula(torch.ops.dnl_det.chunked_attention_backward)
def _backward_flops(
    grad: Any, query: Any, key: Any, value: Any, scale: Any, maps: Any, **_: Any
) -> int:
    """The gradients of both products, and the map once more if it was not kept."""
    channels = (2 if len(maps) == 3 else 3) * query[2] + 2 * value[2]
    return int(2 * query[0] * query[1] * key[1] * channels)
