"""Outputs and gradients equal those of the authors' code, recorded in float64."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from dnl_det.layers import build_attention

TOLERANCE = 1e-10

# recording: (name, keyword arguments); its channels are the input's
RECORDINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "dnl_official": ("dnl", {}),
    "dnl_use_out": ("dnl", {"use_out": True}),
    "dnl_downsample": ("dnl", {"downsample": True}),
    "pairwise_alone": ("dnl", {"mode": "pairwise", "temperature": 1.0}),
    "joint_no_whiten": ("dnl", {"mode": "joint", "temperature": 1.0}),
    "nl_embedded_gaussian": ("nl", {}),
    "nl_embedded_gaussian_bug": ("nl", {"reduction": 2, "legacy_scale": True}),
    "nl_dot_product": ("nl", {"reduction": 2, "kernel": "dot_product"}),
    "snl": ("snl", {}),
    "gc_att_add": ("gc", {}),
    "gc_avg_add_mul": ("gc", {"pooling": "average", "fusion": ["add", "mul"]}),
}


def _group(recording: dict[str, np.ndarray], prefix: str) -> dict[str, Tensor]:
    # The authors' NL wraps each convolution in a module: "theta.conv.weight".
    return {
        key.removeprefix(prefix).replace(".conv.", "."): torch.from_numpy(value)
        for key, value in recording.items()
        if key.startswith(prefix)
    }


def test_every_recording_is_compared(shared: Path) -> None:
    index = json.loads((shared / "official" / "blocks" / "index.json").read_text())
    assert set(RECORDINGS) == set(index)


@pytest.mark.parametrize(
    ("recorded", "backend"),
    [
        (recorded, backend)
        for recorded, (name, _) in RECORDINGS.items()
        for backend in (("plain", "chunked", "sdpa") if name in ("dnl", "nl") else (None,))
    ],
)
def test_output_and_gradients_equal_the_authors(
    shared: Path, recorded: str, backend: str, device: str
) -> None:
    with np.load(shared / "official" / "blocks" / f"{recorded}.npz") as file:
        recording = dict(file)
    name, kwargs = RECORDINGS[recorded]
    if backend is not None:
        kwargs = {**kwargs, "backend": backend}
    x = torch.from_numpy(recording["x"]).requires_grad_()
    block = build_attention(name, x.shape[1], **kwargs).double()

    parameters = _group(recording, "param/")
    assert {key: value.shape for key, value in block.state_dict().items()} == {
        key: value.shape for key, value in parameters.items()
    }
    block.load_state_dict(parameters)
    y = block.to(device)(x.to(device))
    y.backward(torch.from_numpy(recording["grad_out"]).to(device))

    torch.testing.assert_close(y.cpu(), torch.from_numpy(recording["y"]), rtol=0, atol=TOLERANCE)
    torch.testing.assert_close(
        x.grad, torch.from_numpy(recording["grad_x"]), rtol=0, atol=TOLERANCE
    )
    gradients = {key: parameter.grad.cpu() for key, parameter in block.named_parameters()}
    torch.testing.assert_close(gradients, _group(recording, "grad/"), rtol=0, atol=TOLERANCE)
