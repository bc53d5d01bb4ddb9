"""Statistics of attention against constructed attention, brute force and known values."""

from itertools import combinations
from math import log

import numpy as np
import pytest
import torch
from torch import nn

from dnl_det.analysis import Frame, block_statistics, record_attention
from dnl_det.analysis.statistics.block_statistics import (
    choose_positions,
    cosine_distance,
    entropy,
    jensen_shannon,
    normalise,
)
from dnl_det.layers import build_attention


def distributions(count, size, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return (2 * torch.randn(count, size, generator=generator).double()).softmax(dim=1)


def record_of(block, x, stride=1):
    model = nn.Sequential(block)
    with torch.no_grad(), record_attention(model, strides={"0": stride}) as record:
        model(x)
    return record["0"]


def own_features(side):
    """``(1, L, side, side)``: every position has a channel of its own."""
    return torch.eye(side * side).reshape(1, side * side, side, side)


def identity_(conv, scale):
    nn.init.zeros_(conv.bias)
    conv.weight.data.copy_(scale * torch.eye(conv.in_channels)[:, :, None, None])


# --- cosine distance


@pytest.mark.parametrize("count", [2, 3, 20])
def test_the_distance_without_pairs_is_that_of_all_pairs(count):
    vectors = torch.randn(count, 7, generator=torch.Generator().manual_seed(count)) + 0.5
    v = vectors.double().numpy()
    pairs = [
        (1 - v[i] @ v[j] / np.linalg.norm(v[i]) / np.linalg.norm(v[j])) / 2
        for i, j in combinations(range(count), 2)
    ]
    assert cosine_distance(vectors) == pytest.approx(np.mean(pairs), rel=1e-12)


def test_distances_that_are_known():
    assert cosine_distance(torch.tensor([[1.0, 2.0]]).repeat(5, 1)) == pytest.approx(0, abs=1e-12)
    assert cosine_distance(torch.tensor([[1.0, 2.0], [-3.0, -6.0]])) == pytest.approx(1)
    assert cosine_distance(torch.eye(9)) == pytest.approx(0.5)
    # 3 and 5 vectors in orthogonal directions: 15 of 28 pairs differ, by 0.5.
    clusters = torch.tensor([[2.0, 0.0]] * 3 + [[0.0, 1.0]] * 5)
    assert cosine_distance(clusters) == pytest.approx(0.5 * 15 / 28)


def test_vectors_without_a_direction_are_left_out():
    vectors = torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]])
    assert cosine_distance(vectors) == pytest.approx(0.5)
    assert cosine_distance(vectors[:2]) is None


# --- Jensen-Shannon divergence


def brute_force_divergence(rows):
    def kl(p, q):
        return np.sum(p * np.log2(p / q))

    p = rows.numpy()
    return np.mean(
        [
            kl(p[i], (p[i] + p[j]) / 2) / 2 + kl(p[j], (p[i] + p[j]) / 2) / 2
            for i, j in combinations(range(len(p)), 2)
        ]
    )


@pytest.mark.parametrize("count", [2, 3, 4, 5, 20, 63, 64])
def test_the_divergence_is_that_of_all_pairs_of_up_to_64_rows(count):
    rows = distributions(count, 6, seed=count)
    assert jensen_shannon(rows) == pytest.approx(brute_force_divergence(rows), rel=1e-9)


@pytest.mark.parametrize("count", [65, 200])
def test_more_rows_are_paired_evenly(count):
    rows = distributions(count, 6)
    assert jensen_shannon(rows) == pytest.approx(brute_force_divergence(rows), rel=0.03)
    assert jensen_shannon(rows) != pytest.approx(brute_force_divergence(rows), rel=1e-9)


def test_divergences_that_are_known():
    assert jensen_shannon(torch.full((7, 4), 0.25).double()) == pytest.approx(0, abs=1e-12)
    assert jensen_shannon(torch.eye(9).double()) == pytest.approx(1)
    clusters = torch.tensor([[0.5, 0.5, 0, 0]] * 3 + [[0, 0, 0.1, 0.9]] * 5).double()
    assert jensen_shannon(clusters) == pytest.approx(15 / 28, rel=1e-6)
    # Half of the weight in common: H = 1.5 bits of the mixture less 1 bit of each.
    half = torch.tensor([[0.5, 0.5, 0], [0.5, 0, 0.5]]).double()
    assert jensen_shannon(half) == pytest.approx(0.5)
    assert jensen_shannon(half[:1]) is None


# --- entropy


def test_entropies_that_are_known():
    assert entropy(torch.full((3, 8), 1 / 8).double()) == pytest.approx(1)
    assert entropy(torch.eye(8).double()) == 0
    quarter = torch.tensor([[0.5, 0.5, 0, 0]]).double()
    assert entropy(quarter) == pytest.approx(0.5)
    rows = distributions(5, 6)
    p = rows.numpy()
    assert entropy(rows) == pytest.approx(-(p * np.log(p)).sum(1).mean() / log(6), rel=1e-12)
    assert entropy(torch.ones(3, 1)) is None


def test_rows_are_brought_to_a_sum_of_1_or_left_out():
    rows = normalise(torch.tensor([[1.0, 3.0], [0.0, 0.0], [0.5, 0.5]]))
    assert rows.tolist() == [[0.25, 0.75], [0.5, 0.5]]


# --- the statistics of a block


def test_a_degenerate_block():
    """Queries of 0: every query attends to all positions alike."""
    block = build_attention("dnl", 8)
    nn.init.zeros_(block.conv_query.weight)
    nn.init.constant_(block.gamma, 0.25)
    nn.init.zeros_(block.conv_mask.weight)
    x = torch.randn(1, 8, 4, 5)
    found = block_statistics(record_of(block, x), 0)
    assert found.queries == 20
    assert found.gamma == 0.25
    assert found.pairwise_distance == pytest.approx(0, abs=1e-6)
    assert found.pairwise_divergence == pytest.approx(0, abs=1e-6)
    assert found.combined_distance == pytest.approx(0, abs=1e-6)
    assert found.pairwise_entropy == pytest.approx(1)
    assert found.unary_entropy == pytest.approx(1)
    assert found.context_distance == pytest.approx(0, abs=1e-6)
    # Both terms are the mean of the values, one times gamma.
    assert found.pairwise_share == pytest.approx(0.25 / 1.25, rel=1e-5)
    assert found.input_distance == pytest.approx(cosine_distance(x[0].flatten(1).T))


def test_a_block_in_which_every_query_attends_to_itself():
    block = build_attention("dnl", 16, reduction=1, temperature=1.0)
    for conv in (block.conv_query, block.conv_key):
        identity_(conv, 20.0)
    block.conv_value.weight.data.copy_(torch.eye(16)[:, :, None, None])
    nn.init.constant_(block.gamma, 1.0)
    block.conv_mask.weight.data.zero_()
    block.conv_mask.weight.data[0, 3] = 100.0  # position 3 has channel 3
    found = block_statistics(record_of(block, own_features(4)), 0)
    assert found.pairwise_distance == pytest.approx(0.5)
    assert found.pairwise_divergence == pytest.approx(1)
    assert found.pairwise_entropy == pytest.approx(0, abs=1e-6)
    assert found.unary_entropy == pytest.approx(0, abs=1e-6)
    # Rows e_i + e_3, where query 3 has 2 e_3. Of 120 pairs, 105 have cosine 1 / 2 and the 15 with
    # query 3 have 1 / sqrt(2); a context is the same, since v_j = e_j.
    expected = (1 - (105 / 2 + 15 / np.sqrt(2)) / 120) / 2
    assert found.combined_distance == pytest.approx(expected, rel=1e-6)
    assert found.context_distance == pytest.approx(expected, rel=1e-6)
    assert found.input_distance == pytest.approx(0.5)
    assert found.pairwise_share == pytest.approx(0.5)
    # |e_i + e_3| is sqrt(2), and 2 for query 3, of an input of norm 1.
    assert found.context_share == pytest.approx((15 * np.sqrt(2) + 2) / 16)


def test_padding_counts_neither_as_query_nor_as_key():
    """Self-attention without the padded keys is that of the image alone."""
    torch.manual_seed(0)
    block = build_attention("dnl", 8, mode="joint")
    nn.init.constant_(block.gamma, 1.0)
    nn.init.normal_(block.conv_query.weight)
    image = torch.randn(1, 8, 3, 4)
    padded = nn.functional.pad(image, (0, 2, 0, 3), value=0.7)
    alone = block_statistics(record_of(block, image), 0)
    within = block_statistics(record_of(block, padded), 0, Frame(3, 4, 30, 40))
    without_frame = block_statistics(record_of(block, padded), 0)
    assert within.queries == alone.queries == 12
    for name in ("input_distance", "pairwise_distance", "pairwise_divergence", "pairwise_entropy"):
        assert getattr(within, name) == pytest.approx(getattr(alone, name), rel=1e-5)
        assert getattr(without_frame, name) != pytest.approx(getattr(alone, name), rel=1e-2)


def test_padding_with_pooled_keys():
    block = build_attention("dnl", 8, downsample=True)
    nn.init.zeros_(block.conv_query.weight)
    nn.init.constant_(block.gamma, 0.5)
    nn.init.zeros_(block.conv_mask.weight)
    x = torch.randn(1, 8, 8, 8)
    found = block_statistics(record_of(block, x, stride=4), 0, Frame(16, 32, 16, 32))
    assert found.queries == 32
    assert found.pairwise_entropy == pytest.approx(1)  # of the 2 x 4 keys in the image
    assert found.unary_entropy == pytest.approx(1)
    assert found.pairwise_share == pytest.approx(0.5 / 1.5, rel=1e-5)


@pytest.mark.parametrize("name", ["snl", "gc"])
def test_blocks_with_the_unary_term_alone_add_the_same_everywhere(name):
    torch.manual_seed(0)
    block = build_attention(name, 8)
    for parameter in block.parameters():
        nn.init.normal_(parameter)
    found = block_statistics(record_of(block, torch.randn(1, 8, 4, 4)), 0)
    assert found.context_distance == pytest.approx(0, abs=1e-6)
    assert found.combined_distance == pytest.approx(0, abs=1e-6)
    assert 0 < found.unary_entropy < 1
    assert {found.pairwise_distance, found.pairwise_divergence, found.pairwise_entropy} == {None}
    assert found.gamma is found.pairwise_share is None


def test_what_is_not_defined_is_none():
    torch.manual_seed(0)
    block = build_attention("nl", 8, kernel="dot_product")
    found = block_statistics(record_of(block, torch.randn(1, 8, 4, 4)), 0)
    assert found.pairwise_divergence is found.pairwise_entropy is None  # its weights can be < 0
    assert 0.1 < found.pairwise_distance < 0.9
    # Its output convolution starts at 0, so that it adds nothing.
    assert found.context_share == 0
    assert found.context_distance is None
    assert found.unary_entropy is None


def test_queries_are_chosen_by_chance_and_the_same_every_time():
    torch.manual_seed(0)
    record = record_of(build_attention("dnl", 8), torch.randn(1, 8, 20, 20))
    first = block_statistics(record, 0)
    assert first == block_statistics(record, 0)
    assert first.queries == 256
    other = block_statistics(record, 0, generator=torch.Generator().manual_seed(1))
    assert first.pairwise_divergence != other.pairwise_divergence
    assert first.pairwise_divergence == pytest.approx(other.pairwise_divergence, rel=0.2)
    assert block_statistics(record, 0, queries=[3, 5]).queries == 2


def test_chosen_positions_are_allowed_and_differ():
    allowed = torch.zeros(50, dtype=torch.bool)
    allowed[10:30] = True
    chosen = choose_positions(allowed, 8)
    assert len(set(chosen.tolist())) == 8
    assert allowed[chosen].all()
    assert sorted(choose_positions(allowed, 100).tolist()) == list(range(10, 30))
