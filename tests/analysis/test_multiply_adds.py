"""Multiply-adds are those by hand, forward and backward."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from dnl_det.analysis import count_multiply_adds
from dnl_det.layers import attend, build_attention
from dnl_det.layers.attention import BACKENDS

H, W, C = 6, 5, 8
L, D = H * W, C // 4


def projections(channels):
    return L * C * sum(channels)


BY_HAND = {
    # name, arguments: products of convolutions, of attention, of pooling
    ("dnl", ()): projections([D, D, C, 1]) + L * L * (D + C) + L * C,
    ("dnl", (("mode", "joint"),)): projections([D, D, C]) + L * L * (D + C),
    ("dnl", (("use_out", True),)): projections([D, D, D, 1, D]) + L * L * 2 * D + L * D,
    ("nl", ()): projections([D, D, D, D]) + L * L * 2 * D,
    ("snl", ()): projections([1]) + L * C + C * C,
    ("gc", ()): projections([1]) + L * C + 2 * C * D,
}


CASES = [
    (case, backend)
    for case in BY_HAND
    for backend in (BACKENDS if case[0] in ("dnl", "nl") else (None,))
]


@pytest.mark.parametrize(("case", "backend"), CASES, ids=str)
def test_a_block_s_are_those_by_hand_with_every_backend(case, backend):
    name, kwargs = case[0], dict(case[1])
    if backend is not None:
        kwargs["backend"] = backend
    block, x = build_attention(name, C, **kwargs).eval(), torch.randn(1, C, H, W)
    assert count_multiply_adds(block, x) == BY_HAND[case]
    assert count_multiply_adds(block, x.repeat(3, 1, 1, 1)) == 3 * BY_HAND[case]


class Attention(nn.Module):
    def __init__(self, backend):
        super().__init__()
        self.backend = backend

    def forward(self, query, key, value):
        return attend(query, key, value, scale=1.0, backend=self.backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_keys_of_another_number(backend):
    inputs = [torch.randn(2, 30, 4), torch.randn(2, 7, 4), torch.randn(2, 7, 16)]
    assert count_multiply_adds(Attention(backend), inputs) == 2 * 30 * 7 * (4 + 16)


@pytest.mark.parametrize("backend", ["plain", "chunked"])
@pytest.mark.parametrize("rows", [7, 1024])
def test_torch_s_counter_agrees(backend, rows, monkeypatch):
    monkeypatch.setattr("dnl_det.layers.chunked_attention.ROWS", rows)
    inputs = [torch.randn(2, n, c, requires_grad=True) for n, c in ((30, 4), (7, 4), (7, 16))]
    with FlopCounterMode(display=False) as counter:
        result = Attention(backend)(*inputs)
    assert counter.get_total_flops() == 2 * 2 * 30 * 7 * (4 + 16)
    with FlopCounterMode(display=False) as counter:
        result.sum().backward()
    again = 4 if backend == "chunked" and rows == 7 else 0  # query and key once more
    assert counter.get_total_flops() == 2 * 2 * 30 * 7 * (2 * (4 + 16) + again)


def test_norms_and_resizing_are_not_counted():
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Upsample(scale_factor=2)
    )
    assert count_multiply_adds(model.eval(), torch.randn(1, 3, 8, 8)) == 64 * 27 * 4
