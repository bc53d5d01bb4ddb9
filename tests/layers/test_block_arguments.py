"""Blocks are built by name, have the authors' parameter names, and refuse what they cannot do."""

import re
from typing import Any

import pytest
import torch

from dnl_det.layers import BLOCKS, build_attention


@pytest.mark.parametrize("name", BLOCKS)
def test_builds_the_block_of_that_name(name: str) -> None:
    assert type(build_attention(name, 8)) is BLOCKS[name]
    assert set(BLOCKS) == {"nl", "snl", "gc", "dnl"}


@pytest.mark.parametrize(
    ("name", "kwargs", "shapes"),
    [
        (
            "dnl",
            {},
            {
                "gamma": (1,),
                "conv_query.weight": (2, 8, 1, 1),
                "conv_query.bias": (2,),
                "conv_key.weight": (2, 8, 1, 1),
                "conv_key.bias": (2,),
                "conv_value.weight": (8, 8, 1, 1),
                "conv_mask.weight": (1, 8, 1, 1),
                "conv_mask.bias": (1,),
            },
        ),
        (
            "dnl",
            {"mode": "unary", "use_out": True, "reduction": 8},
            {
                "conv_query.weight": (1, 8, 1, 1),
                "conv_query.bias": (1,),
                "conv_key.weight": (1, 8, 1, 1),
                "conv_key.bias": (1,),
                "conv_value.weight": (1, 8, 1, 1),
                "conv_value.bias": (1,),
                "conv_out.weight": (8, 1, 1, 1),
            },
        ),
        (
            "nl",
            {"kernel": "gaussian"},
            {
                "g.weight": (2, 8, 1, 1),
                "g.bias": (2,),
                "conv_out.weight": (8, 2, 1, 1),
                "conv_out.bias": (8,),
            },
        ),
        (
            "snl",
            {},
            {
                "conv_mask.weight": (1, 8, 1, 1),
                "conv_mask.bias": (1,),
                "conv_value.weight": (8, 8, 1, 1),
            },
        ),
        (
            "gc",
            {"pooling": "average", "reduction": 3},
            {
                "channel_add_conv.0.weight": (2, 8, 1, 1),
                "channel_add_conv.0.bias": (2,),
                "channel_add_conv.1.weight": (2, 1, 1),
                "channel_add_conv.1.bias": (2, 1, 1),
                "channel_add_conv.3.weight": (8, 2, 1, 1),
                "channel_add_conv.3.bias": (8,),
            },
        ),
    ],
)
def test_parameters_are_named_as_in_the_authors_checkpoints(
    name: str, kwargs: dict[str, Any], shapes: dict[str, tuple[int, ...]]
) -> None:
    block = build_attention(name, 8, **kwargs)
    assert {key: tuple(value.shape) for key, value in block.state_dict().items()} == shapes


# A message names the argument, its value and what is allowed.
BAD_ARGUMENTS: list[tuple[str, dict[str, Any], list[str]]] = [
    ("dln", {}, ["'dln'", "nl, snl, gc, dnl"]),
    ("dnl", {"mode": "both"}, ["mode", "'both'", "joint", "pairwise", "add_shared"]),
    ("dnl", {"temperature": 0.0}, ["temperature", "0.0", "above 0"]),
    ("dnl", {"temperature": -1.0}, ["temperature", "-1.0", "above 0"]),
    ("dnl", {"temperature": float("nan")}, ["temperature", "nan", "above 0"]),
    ("dnl", {"mode": "pairwise", "whiten": False}, ["whiten=False", "'pairwise'", "'joint'"]),
    ("dnl", {"mode": "add_shared", "whiten": False}, ["whiten=False", "'add_shared'", "'joint'"]),
    ("dnl", {"reduction": 0}, ["reduction", "=0", "8 channels", "between 1"]),
    ("dnl", {"reduction": 9}, ["reduction", "=9", "8 channels", "between 1"]),
    ("dnl", {"init_std": 0.0}, ["init_std", "0.0", "above 0"]),
    ("snl", {"init_std": -1.0}, ["init_std", "-1.0", "above 0"]),
    ("nl", {"init_std": float("nan")}, ["init_std", "nan", "above 0"]),
    ("nl", {"reduction": 0}, ["reduction", "=0", "8 channels", "between 1"]),
    ("nl", {"reduction": 9}, ["reduction", "=9", "8 channels", "between 1"]),
    ("nl", {"kernel": "cosine"}, ["kernel", "'cosine'", "dot_product", "gaussian"]),
    (
        "nl",
        {"kernel": "gaussian", "legacy_scale": True},
        ["legacy_scale=True", "'gaussian'", "'embedded_gaussian'"],
    ),
    ("gc", {"reduction": -4}, ["reduction", "=-4", "8 channels", "between 1"]),
    ("gc", {"reduction": 9}, ["reduction", "=9", "8 channels", "between 1"]),
    ("gc", {"pooling": "max"}, ["pooling", "'max'", "attention, average"]),
    ("gc", {"fusion": []}, ["fusion", "[]", "add, mul"]),
    ("gc", {"fusion": ["add", "div"]}, ["fusion", "'div'", "add, mul"]),
    ("gc", {"fusion": "add"}, ["fusion", "'add'", "a list"]),
]


@pytest.mark.parametrize(("name", "kwargs", "parts"), BAD_ARGUMENTS)
def test_bad_argument_is_named(name: str, kwargs: dict[str, Any], parts: list[str]) -> None:
    with pytest.raises(ValueError) as error:
        build_attention(name, 8, **kwargs)
    for part in parts:
        assert part in str(error.value)


@pytest.mark.parametrize("name", BLOCKS)
def test_argument_of_another_block_is_refused(name: str) -> None:
    with pytest.raises(TypeError, match=re.escape("'tau'")):
        build_attention(name, 8, tau=0.05)


@pytest.mark.parametrize("std", [0.01, 0.2])
@pytest.mark.parametrize("name", ["nl", "snl", "dnl"])
def test_weights_start_with_the_deviation_asked_for(name: str, std: float) -> None:
    torch.manual_seed(0)
    kwargs = {} if std == 0.01 else {"init_std": std}  # 0.01 is the authors', and the default
    state = build_attention(name, 128, **kwargs).state_dict()
    for key in {"nl": ("theta", "phi", "g"), "snl": ("conv_value",)}.get(
        name, ("conv_query", "conv_key", "conv_value")
    ):
        # Of n samples, the deviation is known to std / sqrt(2 n); n is at least 4,096.
        assert state[f"{key}.weight"].std().item() == pytest.approx(std, rel=0.05)


def test_gamma_starts_where_asked() -> None:
    assert build_attention("dnl", 8).state_dict()["gamma"].item() == 0
    assert build_attention("dnl", 8, init_gamma=0.25).state_dict()["gamma"].item() == 0.25


def test_largest_reduction_leaves_one_channel() -> None:
    assert build_attention("dnl", 8, reduction=8).state_dict()["conv_query.bias"].shape == (1,)
