"""A new block starts as the authors' does."""

import math
from typing import Any

import pytest
import torch
from torch import nn

from dnl_det.layers import build_attention

CHANNELS = 128


def _new(name: str, **kwargs: Any) -> Any:
    torch.manual_seed(0)
    return build_attention(name, CHANNELS, **kwargs)


def _assert_normal(weight: torch.Tensor, std: float) -> None:
    # Over n samples the mean has a standard error of std / sqrt(n) and the standard deviation one
    # of std / sqrt(2 n); 4.5 of them are exceeded once in 100,000 draws.
    n = weight.numel()
    assert abs(weight.mean().item()) < 4.5 * std / math.sqrt(n)
    assert abs(weight.std().item() - std) < 4.5 * std / math.sqrt(2 * n)
    # A uniform distribution of this deviation ends at 1.73 of it.
    assert weight.abs().max().item() > 1.8 * std


@pytest.mark.parametrize("mode", ["disentangled", "joint", "pairwise", "unary", "add_shared"])
@pytest.mark.parametrize("use_out", [False, True])
def test_dnl_starts_from_small_weights_and_zero_gamma(mode: str, use_out: bool) -> None:
    block = _new("dnl", mode=mode, use_out=use_out)
    for key, parameter in block.named_parameters():
        if key.endswith("weight"):
            _assert_normal(parameter, 0.01)
        else:
            assert key == "gamma" or key.endswith("bias")
            assert parameter.count_nonzero() == 0
    assert ("gamma" in block.state_dict()) == (mode != "unary")


def test_nl_starts_from_small_weights_and_zero_output() -> None:
    block = _new("nl")
    for name in ("theta", "phi", "g"):
        _assert_normal(getattr(block, name).weight, 0.01)
        assert getattr(block, name).bias.count_nonzero() == 0
    assert block.conv_out.weight.count_nonzero() == block.conv_out.bias.count_nonzero() == 0


@pytest.mark.parametrize("name", ["snl", "gc"])
def test_mask_starts_from_he_initialisation(name: str) -> None:
    block = _new(name)
    _assert_normal(block.conv_mask.weight, math.sqrt(2 / CHANNELS))
    assert block.conv_mask.bias.count_nonzero() == 0


def test_snl_value_starts_small() -> None:
    _assert_normal(_new("snl").conv_value.weight, 0.01)


@pytest.mark.parametrize(
    ("name", "kwargs"),
    [
        ("nl", {}),
        ("nl", {"legacy_scale": True}),
        ("nl", {"kernel": "dot_product"}),
        ("nl", {"kernel": "gaussian"}),
        ("dnl", {"mode": "joint"}),
        ("dnl", {"mode": "pairwise", "use_out": True}),
        ("gc", {}),
        ("gc", {"pooling": "average"}),
    ],
)
def test_starts_as_an_exact_identity(name: str, kwargs: dict[str, Any]) -> None:
    x = torch.randn(2, CHANNELS, 7, 9)
    assert torch.equal(_new(name, **kwargs)(x), x)


@pytest.mark.parametrize("fusion", [["mul"], ["add", "mul"]])
def test_gc_gate_starts_at_sigmoid_of_zero(fusion: list[str]) -> None:
    x = torch.randn(2, CHANNELS, 7, 9)
    assert torch.equal(_new("gc", fusion=fusion)(x), x * 0.5)


@pytest.mark.parametrize("mode", ["disentangled", "unary", "add_shared"])
def test_dnl_starts_close_to_an_identity(mode: str) -> None:
    # What is added is a weighted mean of values. A value is a sum of 128 products of an N(0, 1)
    # and an N(0, 0.01), so its deviation is 0.01 * sqrt(128) = 0.11, and a mean's is at most that.
    x = torch.randn(2, CHANNELS, 7, 9)
    added = _new("dnl", mode=mode)(x) - x
    assert 0 < added.std() < 0.11
    # gamma is 0, so only the unary term acts, which is the same at all positions.
    torch.testing.assert_close(added, added[:, :, :1, :1].expand_as(added), rtol=0, atol=1e-6)


def test_reset_parameters_starts_again(variant: tuple[str, dict[str, Any]]) -> None:
    name, kwargs = variant
    block = _new(name, **kwargs)
    start = {key: value.clone() for key, value in block.state_dict().items()}
    for parameter in block.parameters():
        nn.init.constant_(parameter, 7.0)
    block.reset_parameters()
    for key, value in block.state_dict().items():
        assert not (value == 7.0).any(), key
        if start[key].unique().numel() == 1:  # what starts as a constant starts as that again
            assert torch.equal(value, start[key]), key
