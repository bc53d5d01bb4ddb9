"""Any size, batch and memory format; the input is left as it was."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from dnl_det.layers import build_attention

Variant = tuple[str, dict[str, Any]]


def _assert_transposes(block: Any, x: Tensor) -> None:
    """Attention knows no directions: the transposed image gives the transposed output."""
    y = block(x)
    assert y.shape == x.shape
    torch.testing.assert_close(block(x.mT), y.mT, rtol=0, atol=1e-10)


@pytest.mark.parametrize("size", [(1, 1), (1, 6), (5, 1), (2, 1), (7, 5), (3, 8)])
def test_any_size(variant: Variant, size: tuple[int, int], build: Any, features: Any) -> None:
    name, kwargs = variant
    x = features(2, 8, *size).requires_grad_()
    block = build(name, **kwargs)
    _assert_transposes(block, x)
    block(x).sum().backward()
    assert torch.isfinite(x.grad).all()


@settings(max_examples=40, deadline=None)
@given(
    height=st.integers(1, 17),
    width=st.integers(1, 17),
    images=st.integers(1, 3),
    mode=st.sampled_from(["disentangled", "joint", "pairwise", "unary", "add_shared"]),
    downsample=st.booleans(),
    use_out=st.booleans(),
    seed=st.integers(0, 99),
)
def test_any_size_of_any_dnl(
    height: int, width: int, images: int, mode: str, downsample: bool, use_out: bool, seed: int
) -> None:
    torch.manual_seed(seed)
    block = build_attention("dnl", 4, mode=mode, downsample=downsample, use_out=use_out).double()
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.2)
    _assert_transposes(block, torch.randn(images, 4, height, width, dtype=torch.float64))


@pytest.mark.parametrize("create_graph", [False, True])
def test_shapes_on_the_meta_device(variant: Variant, create_graph: bool, build: Any) -> None:
    name, kwargs = variant
    block = build(name, **kwargs).to("meta")
    x = torch.empty(2, 8, 7, 5, dtype=torch.float64, device="meta", requires_grad=True)
    y = block(x)
    assert y.shape == x.shape
    assert y.is_meta
    (gradient,) = torch.autograd.grad(y.sum(), x, create_graph=create_graph)
    assert gradient.shape == x.shape
    maps = block.attention_maps(x)
    keys = 6 if kwargs.get("downsample") else 35
    assert maps.pairwise is None or maps.pairwise.shape == (2, 35, keys)
    assert maps.unary is None or maps.unary.shape == (2, keys)


def test_images_of_a_batch_do_not_meet(variant: Variant, build: Any, features: Any) -> None:
    name, kwargs = variant
    block, x = build(name, **kwargs), features(3, 8, 5, 4)
    expected = torch.cat([block(image[None]) for image in x])
    torch.testing.assert_close(block(x), expected, rtol=0, atol=1e-12)


def test_empty_batch(variant: Variant, build: Any, features: Any) -> None:
    name, kwargs = variant
    block, x = build(name, **kwargs), features(0, 8, 5, 4).requires_grad_()
    y = block(x)
    assert y.shape == (0, 8, 5, 4)
    y.sum().backward()
    assert x.grad.shape == x.shape
    # Gradients over no image are 0; a None or a NaN would stop or spoil the optimiser's step.
    for parameter in block.parameters():
        assert parameter.grad is not None
        assert parameter.grad.count_nonzero() == 0
    maps = block.attention_maps(x)
    assert {len(weights) for weights in (maps.pairwise, maps.unary) if weights is not None} == {0}


def test_channels_last(variant: Variant, build: Any, features: Any) -> None:
    name, kwargs = variant
    block = build(name, **kwargs)
    rows = features(2, 8, 5, 4).requires_grad_()
    pixels = rows.detach().to(memory_format=torch.channels_last).requires_grad_()
    grad_out = features(2, 8, 5, 4, seed=1)
    y_rows, y_pixels = block(rows), block(pixels)
    y_rows.backward(grad_out)
    y_pixels.backward(grad_out)

    torch.testing.assert_close(y_pixels, y_rows, rtol=0, atol=1e-12)
    torch.testing.assert_close(pixels.grad, rows.grad, rtol=0, atol=1e-12)
    # The layers after it would otherwise pay for a copy.
    assert y_rows.is_contiguous()
    assert y_pixels.is_contiguous(memory_format=torch.channels_last)


def test_input_that_is_a_view(variant: Variant, build: Any, features: Any) -> None:
    name, kwargs = variant
    block, wide = build(name, **kwargs), features(2, 8, 5, 9)
    torch.testing.assert_close(
        block(wide[..., ::2]), block(wide[..., ::2].clone()), rtol=0, atol=1e-12
    )


def test_input_is_not_changed(variant: Variant, build: Any, features: Any) -> None:
    name, kwargs = variant
    block, x = build(name, **kwargs), features(2, 8, 5, 4)
    before, version = x.clone(), x._version
    y = block(x)
    block.attention_maps(x)
    y.add_(1.0)  # and the output is not the input
    assert torch.equal(x, before)
    assert x._version == version


def test_input_needed_for_another_gradient(variant: Variant, build: Any, features: Any) -> None:
    # exp keeps its output for its gradient: changing it in place would raise.
    name, kwargs = variant
    block, leaf = build(name, **kwargs), features(2, 8, 5, 4).requires_grad_()
    hidden = (leaf / 2).exp()
    (block(hidden) + hidden).sum().backward()
    assert leaf.grad.abs().min() > 0
