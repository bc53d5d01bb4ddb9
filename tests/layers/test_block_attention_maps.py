"""``attention_maps(x)`` is what ``forward(x)`` attends with."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn


def _tokens(x: Tensor) -> Tensor:
    return x.flatten(2).mT  # (N, L, C)


def _map(tokens: Tensor, x: Tensor) -> Tensor:
    return tokens.mT.reshape(len(x), -1, *x.shape[2:])


def _output_from_maps(block: Any, x: Tensor, maps: Any) -> Tensor:
    """The output recomputed from the maps, the value and what comes after the attention."""
    if hasattr(block, "g"):
        return x + block.conv_out(_map(maps.pairwise @ _tokens(block.g(x)), x))
    if hasattr(block, "conv_query"):
        keys = nn.functional.max_pool2d(x, 2) if block.downsample else x
        value = _tokens(block.conv_value(keys))
        context = value.new_zeros(len(x), x[0, 0].numel(), value.shape[2])
        if maps.pairwise is not None:
            gamma = 1.0 if block.gamma is None else block.gamma
            context = context + gamma * (maps.pairwise @ value)
        if maps.unary is not None:
            context = context + maps.unary[:, None] @ value
        y = _map(context, x)
        return x + (block.conv_out(y) if block.conv_out is not None else y)
    if hasattr(block, "conv_value"):
        value = block.conv_value(x).flatten(2)
        return x + torch.einsum("nl,ncl->nc", maps.unary, value)[:, :, None, None]
    context = torch.einsum("nl,ncl->nc", maps.unary, x.flatten(2))[:, :, None, None]
    y = x
    if block.channel_mul_conv is not None:
        y = y * block.channel_mul_conv(context).sigmoid()
    if block.channel_add_conv is not None:
        y = y + block.channel_add_conv(context)
    return y


def test_output_follows_from_the_maps(
    variant: tuple[str, dict[str, Any]], build: Any, features: Any
) -> None:
    name, kwargs = variant
    block, x = build(name, **kwargs), features(2, 8, 5, 4)
    expected = _output_from_maps(block, x, block.attention_maps(x))
    torch.testing.assert_close(block(x), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "kwargs", "pairwise", "unary"),
    [
        ("dnl", {}, (2, 20, 20), (2, 20)),
        ("dnl", {"downsample": True}, (2, 20, 4), (2, 4)),
        ("dnl", {"mode": "joint"}, (2, 20, 20), None),
        ("dnl", {"mode": "pairwise"}, (2, 20, 20), None),
        ("dnl", {"mode": "unary"}, None, (2, 20)),
        ("dnl", {"mode": "add_shared"}, (2, 20, 20), (2, 20)),
        ("nl", {}, (2, 20, 20), None),
        ("nl", {"kernel": "gaussian"}, (2, 20, 20), None),
        ("snl", {}, None, (2, 20)),
        ("gc", {}, None, (2, 20)),
        ("gc", {"pooling": "average"}, None, (2, 20)),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=["float64", "bfloat16"])
def test_rows_are_distributions(
    name: str,
    kwargs: dict[str, Any],
    pairwise: tuple[int, ...] | None,
    unary: tuple[int, ...] | None,
    dtype: torch.dtype,
    build: Any,
    features: Any,
) -> None:
    maps = build(name, **kwargs).to(dtype).attention_maps(features(2, 8, 5, 4).to(dtype))
    for weights, shape in ((maps.pairwise, pairwise), (maps.unary, unary)):
        if shape is None:
            assert weights is None
            continue
        assert weights.shape == shape
        assert weights.dtype == torch.promote_types(dtype, torch.float32)
        assert weights.min() >= 0
        sums = weights.sum(dim=-1)
        atol = 1e-14 if dtype == torch.float64 else 1e-6
        torch.testing.assert_close(sums, torch.ones_like(sums), rtol=0, atol=atol)


def test_average_pooling_attends_everywhere_alike(build: Any, features: Any) -> None:
    unary = build("gc", pooling="average").attention_maps(features(2, 8, 5, 4)).unary
    torch.testing.assert_close(unary, torch.full_like(unary, 1 / 20), rtol=0, atol=1e-16)


def test_dot_product_weights_are_not_a_distribution(build: Any, features: Any) -> None:
    block, x = build("nl", kernel="dot_product"), features(2, 8, 5, 4)
    expected = torch.einsum("ndhw,ndab->nhwab", block.theta(x), block.phi(x)) / 20
    weights = block.attention_maps(x).pairwise
    torch.testing.assert_close(weights, expected.reshape(2, 20, 20), rtol=0, atol=1e-14)
    assert weights.min() < 0
