"""The blocks of segmentation networks: mmsegmentation's and the authors', value and gradients."""

import json
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from dnl_det.layers import build_attention

FLOAT32_TEMPERATURE = float(np.float32(0.05))
batch_norm = nn.BatchNorm2d
MMSEG = {"reduction": 2, "use_out": True, "use_gamma": False, "temperature": FLOAT32_TEMPERATURE}
NOWD = {"reduction": 2, "whitening": "ln_nostd", "scale": False, "temperature": 1.0}
# By the name of the recording: the block, its arguments.
RECORDED = {
    "mmseg_dnl": ("dnl", {**MMSEG, "out_norm": batch_norm}),
    "mmseg_dnl_train": ("dnl", {**MMSEG, "out_norm": batch_norm}),
    "mmseg_dnl_no_scale": (
        "dnl",
        {**MMSEG, "out_norm": batch_norm, "scale": False, "temperature": 1.0},
    ),
    "mmseg_dnl_dot_product": (
        "dnl",
        {**MMSEG, "out_norm": batch_norm, "kernel": "dot_product"},
    ),
    "mmseg_dnl_no_norm": ("dnl", MMSEG),
    "mmseg_nl": ("nl", {"reduction": 2, "out_norm": batch_norm}),
    "mmseg_gc": ("gc", {}),
    "authors_dnl": ("dnl", NOWD),
    "authors_dnl_temperature": ("dnl", {"reduction": 2}),
    "authors_dnl_in_nostd": ("dnl", {**NOWD, "whitening": "in_nostd"}),
    "authors_dnl_in": ("dnl", {**NOWD, "whitening": "in"}),
    "authors_dnl_ln": ("dnl", {**NOWD, "whitening": "ln"}),
    "authors_dnl_unknown_whiten": ("dnl", {**NOWD, "whiten": False}),
    "authors_dnl_scaled": ("dnl", {**NOWD, "scale": True}),
    "authors_dnl_down": ("dnl", {**NOWD, "downsample": True}),
    "authors_dnl_use_out": ("dnl", {**NOWD, "use_out": True, "out_norm": batch_norm}),
    "authors_self_attention": ("dnl", {"reduction": 2, "mode": "joint", "temperature": 1.0}),
    "authors_nl_use_out": (
        "dnl",
        {
            **{"reduction": 2, "mode": "joint", "temperature": 1.0},
            **{"use_out": True, "out_norm": batch_norm},
        },
    ),
    "authors_pairwise": ("dnl", {"reduction": 2, "mode": "pairwise"}),
    "authors_pairwise_nowd": ("dnl", {**NOWD, "mode": "pairwise"}),
    "authors_unary": ("snl", {}),
    "authors_unary_nowd": ("snl", {}),
    "authors_shared_key": (
        "dnl",
        {"reduction": 2, "mode": "add_shared", "temperature": 0.06, "unary_scale": False},
    ),
    "authors_spatial": ("dnl", {"reduction": 2, "whitening": "spatial"}),
    "authors_gc": ("gc", {}),
}
NAMES = {"theta": "conv_query", "phi": "conv_key", "g": "conv_value"}


def our_name(key, block):
    key = (
        key.replace(".conv.", ".").replace("conv_out.bn", "out_norm").replace("out_bn", "out_norm")
    )
    first, rest = key.split(".", 1) if "." in key else (key, "")
    first = NAMES.get(first, first) if block == "dnl" else first
    return f"{first}.{rest}" if rest else first


@pytest.mark.parametrize("backend", ["plain", "chunked"])
@pytest.mark.parametrize("name", RECORDED)
def test_a_block_equals_the_recording(shared, name, backend):
    block, arguments = RECORDED[name]
    if block in ("dnl", "nl"):
        arguments = {**arguments, "backend": backend}
    elif backend == "chunked":
        pytest.skip(f"{block} has no backend")
    data = dict(np.load(shared / "official_segmentation/blocks" / f"{name}.npz"))
    data = {key: torch.from_numpy(value) for key, value in data.items()}
    module = build_attention(block, data["x"].shape[1], **arguments).double()
    theirs = {our_name(k.split("/", 1)[1], block): v for k, v in data.items() if k[:6] == "param/"}
    state = {k: v for k, v in theirs.items() if not (name == "authors_unary_nowd" and "gamma" in k)}
    if name == "authors_unary_nowd":  # parameters that nothing computes with
        state = {k: v for k, v in state.items() if "query" not in k and "key" not in k}
    buffers = {
        our_name(k.split("/", 1)[1], block): v for k, v in data.items() if k[:7] == "buffer/"
    }
    missing, unexpected = module.load_state_dict({**state, **buffers}, strict=False)
    assert not unexpected
    assert all(key.endswith("num_batches_tracked") for key in missing)
    module.train(name.endswith("_train"))

    x = data["x"].requires_grad_()
    y = module(x)
    y.backward(data["grad_out"])
    close = partial(torch.testing.assert_close, rtol=1e-10, atol=1e-10)
    close(y, data["y"])
    close(x.grad, data["grad_x"])
    parameters = dict(module.named_parameters())
    assert set(parameters) == set(state)
    recorded = 0
    for key, value in data.items():
        if key.startswith("grad/") and (ours := our_name(key[5:], block)) in parameters:
            close(parameters[ours].grad, value)
            recorded += 1
    assert recorded == len(parameters)


def test_every_recorded_block_is_compared(shared):
    index = json.loads((shared / "official_segmentation/blocks/index.json").read_text())
    blocks = {name for name in index if not name.endswith(("_head", "_head_train"))}
    assert blocks == set(RECORDED)
