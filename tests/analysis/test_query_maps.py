"""Maps of many queries, encoded: what the page reads is what the block attends with."""

import base64
import zlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dnl_det.analysis import Frame, Grid, record_attention
from dnl_det.analysis.page.query_maps import crop, dequantise, quantise, query_maps, subgrid
from dnl_det.layers import build_attention

# 37 x 50 pixels, padded to 40 x 56: 10 x 14 positions of stride 4, 10 x 13 of them in the image.
FRAME = Frame(37, 50, 74, 100)


def recorded(kind="dnl", size=(40, 56), **options):
    """A block behind a convolution of stride 4."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 16, 4, 4), build_attention(kind, 16, **options)
    ).eval()
    for parameter in model[1].parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    with torch.no_grad(), record_attention(model, strides={"1": 4}) as record:
        model(torch.randn(1, 3, *size))
    return record["1"]


@given(st.integers(0, 2**32 - 1), st.booleans(), st.integers(-30, 30))
def test_quantising_loses_less_than_it_says(seed, signed, exponent):
    rows = np.random.default_rng(seed).normal(size=(3, 50)) ** 3 * 10.0**exponent
    rows[1] = 0
    rows = (rows if signed else np.abs(rows)).astype(np.float32)
    codes, maxima = quantise(rows, signed)
    back = dequantise(codes, maxima, signed)
    # A step of the root at the top is two of the weight, and half of it is what rounding loses.
    bound = maxima[:, None] / (127 if signed else 255) * 1.01
    assert (np.abs(back - rows) <= bound).all()
    small = np.abs(rows) < 0.01 * maxima[:, None]
    assert (np.abs(back - rows)[small] <= (0.11 * bound * np.ones_like(rows))[small]).all()
    highest = np.argmax(np.abs(rows[0]))
    assert back[0, highest] == rows[0, highest]


@pytest.mark.parametrize("step", [(1, 1), (1, 2), (2, 2), (3, 5), (20, 20)])
def test_a_subgrid_lies_where_its_positions_do(step):
    grid = Grid(10, 13, (4, 8), (0.5, 2.5))
    part, (rows, columns) = subgrid(grid, step)
    index = (rows[:, None] * grid.width + columns).flatten()
    torch.testing.assert_close(part.centres(), grid.centres()[index])
    # Centred: what is left out before the first and after the last differs by one at most.
    assert 0 <= (grid.height - 1 - rows[-1]) - rows[0] <= 1
    assert 0 <= (grid.width - 1 - columns[-1]) - columns[0] <= 1


def test_the_crop_is_what_lies_inside():
    grid = Grid(10, 14, (4, 4))
    inside = grid.inside(FRAME).reshape(10, 14)
    part = crop(grid, FRAME)
    assert (part.height, part.width) == (10, 13)
    assert inside[:10, :13].all()
    assert inside.sum() == 130
    tiny = crop(Grid(2, 2, (32, 32), (16.5, 16.5)), Frame(8, 8, 8, 8))
    assert (tiny.height, tiny.width) == (1, 1)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("dnl", {}),
        ("dnl", {"downsample": True}),
        ("dnl", {"mode": "joint"}),
        ("nl", {"kernel": "dot_product"}),
    ],
)
def test_rows_are_the_attention_of_their_queries(kind, options):
    block = recorded(kind, **options)
    maps = query_maps(block, 0, FRAME, 10**6)
    assert (maps.step, maps.pool) == ((1, 1), 1)
    assert maps.signed == (options == {"kernel": "dot_product"})
    stored = np.frombuffer(zlib.decompress(base64.b64decode(maps.encoded)), np.uint8)
    values = dequantise(stored.reshape(maps.codes.shape), maps.maxima, maps.signed)

    queries = block.grid.inside(FRAME).nonzero().squeeze(1)
    keys = block.key_grid.inside(FRAME)
    expected = block.attention(0, queries)
    rows = expected.pairwise[:, keys].numpy()
    bound = np.abs(rows).max(1, keepdims=True) / (127 if maps.signed else 255)
    assert (np.abs(values - rows) <= 1.01 * bound).all()
    torch.testing.assert_close(block.key_grid.centres()[keys], maps.keys.centres())
    if expected.unary is None:
        assert maps.unary is None
    else:
        np.testing.assert_array_equal(maps.unary, expected.unary[keys].numpy())
        np.testing.assert_allclose(maps.unary_inside, maps.unary.sum(), rtol=1e-5)
    if not maps.signed:
        np.testing.assert_allclose(maps.inside, rows.sum(1), rtol=1e-5)
        entropies = -(expected.pairwise * expected.pairwise.clamp(min=1e-38).log()).sum(1)
        np.testing.assert_allclose(maps.spread, entropies.exp().numpy(), rtol=1e-4)


def test_without_a_pairwise_term_there_is_one_map():
    for kind, options in (("gc", {}), ("snl", {}), ("dnl", {"mode": "unary"})):
        block = recorded(kind, **options)
        maps = query_maps(block, 0, FRAME, 10**6)
        assert maps.codes is None
        assert maps.encoded == ""
        expected = block.attention(0, [0]).unary[block.grid.inside(FRAME)]
        np.testing.assert_array_equal(maps.unary, expected.numpy())


def test_queries_fit_the_budget():
    block = recorded()
    whole = query_maps(block, 0, FRAME, 10**6)
    assert len(whole.maxima) == 130
    budget = len(whole.encoded) // 3
    maps = query_maps(block, 0, FRAME, budget)
    assert maps.step == (2, 2)  # every second across alone leaves a half
    assert len(maps.encoded) <= budget
    index = block.grid.nearest(maps.queries.centres())
    rows = block.attention(0, index).pairwise[:, block.grid.inside(FRAME)].numpy()
    np.testing.assert_allclose(maps.maxima, rows.max(1), rtol=1e-5)


def test_many_keys_are_averaged_over_squares(monkeypatch):
    monkeypatch.setattr("dnl_det.analysis.page.query_maps.MOST_KEYS", 40)
    block = recorded()
    maps = query_maps(block, 0, FRAME, 10**6)
    assert (maps.pool, maps.keys.height, maps.keys.width) == (2, 5, 7)
    weights = block.attention(0, [0]).unary.reshape(10, 14)[:, :13].numpy()
    cells = maps.unary.reshape(5, 7)
    np.testing.assert_allclose(cells[1, 2], weights[2:4, 4:6].mean(), rtol=1e-6)
    np.testing.assert_allclose(cells[4, 6], weights[8:10, 12].mean(), rtol=1e-6)  # half a square
    centres = block.grid.centres().reshape(10, 14, 2)[2:4, 4:6].reshape(4, 2).mean(0)
    torch.testing.assert_close(maps.keys.centres()[1 * 7 + 2], centres)


def test_broken_weights_are_named():
    block = recorded()
    block = replace(block, input=torch.full_like(block.input, torch.nan))
    with pytest.raises(ValueError, match="attention of 1 is not finite"):
        query_maps(block, 0, FRAME, 10**6)
