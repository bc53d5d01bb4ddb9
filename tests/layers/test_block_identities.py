"""What the paper proves about the terms holds to rounding."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dnl_det.layers import DisentangledNonLocal2d

TOLERANCE = 1e-12


def _mode(block: Any, mode: str) -> Any:
    """The same parameters in another mode with a shared key."""
    other = DisentangledNonLocal2d(8, mode=mode).double()
    wanted = other.state_dict()
    other.load_state_dict({k: v for k, v in block.state_dict().items() if k in wanted})
    return other


def _shift_to_zero_mean(conv: nn.Conv2d, x: Tensor) -> None:
    with torch.no_grad():
        conv.bias -= conv(x).mean(dim=(0, 2, 3))


def test_centring_the_keys_changes_nothing(build: Any, features: Any) -> None:
    block, x = build("dnl", mode="pairwise"), features(1, 8, 5, 6)
    before = block.attention_maps(x).pairwise
    query, key = block.conv_query(x).flatten(2), block.conv_key(x).flatten(2)  # (1, D, L)
    assert key.mean(2).abs().max() > 0.05

    _shift_to_zero_mean(block.conv_key, x)
    assert block.conv_key(x).mean((2, 3)).abs().max() < TOLERANCE
    torch.testing.assert_close(block.attention_maps(x).pairwise, before, rtol=0, atol=TOLERANCE)

    centred = [t - t.mean(dim=2, keepdim=True) for t in (query, key)]
    logits = torch.einsum("ndi,ndj->nij", *centred) / (2**0.5 * 0.05)
    torch.testing.assert_close(before, logits.softmax(2), rtol=0, atol=TOLERANCE)


def test_joint_is_the_normalised_product_of_pairwise_and_unary(build: Any, features: Any) -> None:
    block, x = build("dnl", mode="joint"), features(2, 8, 5, 6)
    joint = block.attention_maps(x).pairwise
    pairwise = _mode(block, "pairwise").attention_maps(x).pairwise
    unary = _mode(block, "unary").attention_maps(x).unary
    assert (joint - pairwise).abs().max() > 0.05

    product = pairwise * unary[:, None]
    product = product / product.sum(dim=2, keepdim=True)
    torch.testing.assert_close(joint, product, rtol=0, atol=TOLERANCE)


def test_add_shared_holds_both_terms(build: Any, features: Any) -> None:
    block, x = build("dnl", mode="add_shared"), features(2, 8, 5, 6)
    maps = block.attention_maps(x)
    assert torch.equal(maps.pairwise, _mode(block, "pairwise").attention_maps(x).pairwise)
    assert torch.equal(maps.unary, _mode(block, "unary").attention_maps(x).unary)


@pytest.mark.parametrize(("mode", "change"), [("pairwise", 0.0), ("joint", 0.05)])
def test_only_the_whitened_term_ignores_the_mean_query(
    mode: str, change: float, build: Any, features: Any
) -> None:
    block, x = build("dnl", mode=mode), features(1, 8, 5, 6)
    before = block.attention_maps(x).pairwise
    _shift_to_zero_mean(block.conv_query, x)
    difference = (block.attention_maps(x).pairwise - before).abs().max()
    assert difference < TOLERANCE if change == 0 else difference > change


def test_without_whitening_the_pairwise_term_is_joint(build: Any, features: Any) -> None:
    block, x = build("dnl", whiten=False), features(2, 8, 5, 6)
    joint = _mode(block, "joint").attention_maps(x).pairwise
    assert torch.equal(block.attention_maps(x).pairwise, joint)
