"""Correlations with masks: numpy's, and attention made of the masks themselves."""

import numpy as np
import pytest
import torch
from torch import nn

from dnl_det.analysis import Frame, region_correlations
from dnl_det.analysis.statistics.correlation import pearson
from dnl_det.analysis.statistics.regions import BACKGROUND, IGNORED
from dnl_det.layers import build_attention

from .test_statistics import identity_, record_of

SIDE = 12
FRAME = Frame(SIDE, SIDE, SIDE, SIDE)


def test_pearson_is_numpy_s():
    generator = np.random.default_rng(0)
    a, b = generator.normal(size=(2, 5, 30))
    expected = [np.corrcoef(x, y)[0, 1] for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(pearson(torch.tensor(a), torch.tensor(b)), expected, rtol=1e-12)
    shared = [np.corrcoef(x, b[0])[0, 1] for x in a]
    np.testing.assert_allclose(pearson(torch.tensor(a), torch.tensor(b[:1])), shared, rtol=1e-12)


def test_pearson_of_what_is_constant_is_not_defined():
    rows = torch.tensor([[1.0, 2, 3], [0.1, 0.1, 0.1 + 1e-8]])
    assert pearson(rows, rows[:1]).isnan().tolist() == [False, True]
    assert pearson(rows[:1], torch.ones(1, 3, dtype=torch.bool)).isnan().all()


def scene():
    """Two squares of a category, a stripe of another, and a crowd, at stride 1."""
    labels = np.full((SIDE, SIDE), BACKGROUND)
    labels[1:4, 1:4] = labels[8:11, 8:11] = 1
    labels[1:11, 6] = 2
    labels[8:11, 1:4] = IGNORED
    return labels


def one_hot(labels):
    """``(1, 4, SIDE, SIDE)``: background, both categories, and the crowd."""
    return nn.functional.one_hot(torch.tensor(labels) % 4, 4).permute(2, 0, 1)[None].float()


def mask_block(sign=1.0):
    """A query attends alike to all keys of its category (or, reversed, of the others)."""
    block = build_attention("dnl", 4, reduction=1, temperature=1.0, whiten=False)
    identity_(block.conv_query, sign * 30.0)
    identity_(block.conv_key, 30.0)
    nn.init.zeros_(block.conv_mask.weight)
    return block


def test_attention_that_is_the_mask_correlates_by_1():
    labels = scene()
    found = region_correlations(record_of(mask_block(), one_hot(labels)), 0, FRAME, labels)
    assert found.region_queries == 9 + 9 + 10
    assert found.pairwise_category == pytest.approx(1)
    assert found.unary_category is None  # uniform: no correlation is defined
    assert found.unary_boundary is None
    # Reversed, it is uniform over the other keys: the crowd takes its share and is left out.
    reverse = region_correlations(record_of(mask_block(-1.0), one_hot(labels)), 0, FRAME, labels)
    assert reverse.pairwise_category == pytest.approx(-1)


def test_unary_attention_that_is_the_boundary_correlates_by_1():
    labels = scene()
    # A cell of 3 strides has the 3 x 3 pixels around: a boundary is where they differ.
    padded = np.pad(np.where(labels == IGNORED, -9, labels), 1, constant_values=-9)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3)).reshape(SIDE, SIDE, 9)
    boundary = np.array([[len(set(w) - {-9}) > 1 for w in row] for row in windows])
    block = mask_block()
    x = one_hot(labels)
    x[:, 3] = torch.tensor(boundary)  # in place of the crowd's channel
    block.conv_query.weight.data[3] = 0
    block.conv_mask.weight.data[0, 3] = 9.0
    found = region_correlations(record_of(block, x), 0, FRAME, labels, band=3.0)
    assert found.unary_boundary == pytest.approx(1)
    assert found.pairwise_category == pytest.approx(1)
    # The contrast, by numpy: masks with the boundary, and the other way round.
    keys = labels != IGNORED
    per_category = {c: np.corrcoef(labels[keys] == c, boundary[keys])[0, 1] for c in (1, 2)}
    expected = (18 * per_category[1] + 10 * per_category[2]) / 28
    assert found.pairwise_boundary == pytest.approx(expected)
    assert found.unary_category == pytest.approx(expected)


def test_independent_attention_does_not_correlate():
    labels = scene()
    torch.manual_seed(0)
    found = []
    for _ in range(100):
        block = build_attention("dnl", 4, reduction=1, temperature=1.0)
        nn.init.normal_(block.conv_mask.weight)
        for conv in (block.conv_query, block.conv_key):
            nn.init.normal_(conv.weight, std=0.5)
        record = record_of(block, torch.randn(1, 4, SIDE, SIDE))
        found.append(region_correlations(record, 0, FRAME, labels, band=3.0))
    # One correlation of 135 keys has a standard error of 1 / sqrt(135), the mean of 100 a tenth.
    assert abs(np.mean([f.unary_boundary for f in found])) < 4 / np.sqrt(135 * 100)
    assert abs(np.mean([f.pairwise_boundary for f in found])) < 4 / np.sqrt(135 * 100)
    assert np.std([f.unary_boundary for f in found]) == pytest.approx(1 / np.sqrt(135), rel=0.25)


def test_images_without_a_position_in_a_category_have_none():
    labels = scene()
    x = one_hot(labels)
    assert region_correlations(record_of(mask_block(), x), 0, FRAME, labels * 0) is None
    found = region_correlations(record_of(mask_block(), x), 0, FRAME, labels * 0 + 1)
    assert found.pairwise_category is found.pairwise_boundary is None  # all keys are the category
    assert found.region_queries == SIDE * SIDE


def test_padding_is_left_out():
    labels = scene()
    x = nn.functional.pad(one_hot(labels), (0, 4, 0, 2))
    x[:, 1, SIDE:] = 1.0  # would take the first category's attention
    record = record_of(mask_block(), one_hot(labels))
    alone = region_correlations(record, 0, FRAME, labels, band=3.0)
    within = region_correlations(record_of(mask_block(), x), 0, FRAME, labels, band=3.0)
    assert alone.pairwise_boundary is not None
    assert within.region_queries == alone.region_queries
    assert within.pairwise_category == pytest.approx(1)
    assert within.pairwise_boundary == pytest.approx(alone.pairwise_boundary)


@pytest.mark.parametrize("name", ["snl", "nl"])
def test_blocks_with_one_term(name):
    labels = scene()
    torch.manual_seed(0)
    record = record_of(build_attention(name, 4), torch.randn(1, 4, SIDE, SIDE))
    found = region_correlations(record, 0, FRAME, labels, band=3.0)
    assert (found.pairwise_category is None) == (name == "snl")
    assert (found.unary_boundary is None) == (name == "nl")
    few = region_correlations(record, 0, FRAME, labels, queries=3)
    assert few.region_queries == 3
