"""The kernel: every backend, shape and dtype against float64 and a loop over queries."""

import importlib.util
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from dnl_det.analysis import time_together
from dnl_det.layers import attend
from dnl_det.layers.attention import BACKENDS
from dnl_det.layers.chunked_attention import chunk_rows

ROUNDING = {torch.float32: 2.0**-24, torch.bfloat16: 2.0**-8, torch.float16: 2.0**-11}


def loop(query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
    """One query after the other, by the definition."""
    result = value.new_zeros(*query.shape[:2], value.shape[2])
    for n in range(query.shape[0]):
        for i in range(query.shape[1]):
            weights = (scale * (key[n] * query[n, i]).sum(dim=1)).exp()
            result[n, i] = (weights[:, None] * value[n]).sum(dim=0) / weights.sum()
    return result


def tokens(n: int, length: int, channels: int, seed: int, channels_first: bool) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    shape = (n, channels, length) if channels_first else (n, length, channels)
    x = torch.randn(*shape, generator=generator, dtype=torch.float64)
    return x.transpose(1, 2) if channels_first else x


sizes = st.integers(1, 20)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    backend=st.sampled_from(BACKENDS),
    images=st.integers(0, 3),
    queries=sizes,
    keys=sizes,
    channels=st.integers(1, 6),
    value_channels=st.integers(1, 6),
    first=st.tuples(st.booleans(), st.booleans(), st.booleans()),
    scale=st.floats(0.01, 3),
    seed=st.integers(0, 99),
)
def test_output_and_gradients_in_float64(
    backend, images, queries, keys, channels, value_channels, first, scale, seed
):
    assume(images > 0 or backend != "sdpa")  # torch's has no gradient there
    inputs = [
        tokens(images, queries, channels, seed, first[0]),
        tokens(images, keys, channels, seed + 1, first[1]),
        tokens(images, keys, value_channels, seed + 2, first[2]),
    ]
    inputs = [x.requires_grad_() for x in inputs]
    grad = tokens(images, queries, value_channels, seed + 3, not first[2])
    expected, result = loop(*inputs, scale), attend(*inputs, scale=scale, backend=backend)
    assert result.shape == (images, queries, value_channels)
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-12)
    if images:
        theirs = torch.autograd.grad(expected, inputs, grad)
        ours = torch.autograd.grad(result, inputs, grad)
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-11)


@pytest.mark.parametrize("backend", BACKENDS)
def test_gradcheck(backend: str) -> None:
    inputs = [
        tokens(2, *shape, seed=i, channels_first=i != 1)
        for i, shape in enumerate(((9, 3), (8, 3), (8, 4)))
    ]
    inputs = [x.requires_grad_() for x in inputs]
    assert torch.autograd.gradcheck(lambda *x: attend(*x, scale=0.7, backend=backend), inputs)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", list(ROUNDING))
def test_other_dtypes_to_their_rounding(backend: str, dtype: torch.dtype, device: str) -> None:
    query, key, value = (tokens(2, 40, c, c, True).to(device, dtype) for c in (8, 8, 16))
    inputs = [x.requires_grad_() for x in (query, key, value)]
    wide = [x.detach().cpu().double().requires_grad_() for x in inputs]
    result = attend(*inputs, scale=0.3, backend=backend)
    expected = attend(*wide, scale=0.3, backend="plain")
    assert result.dtype == dtype
    # A weight, a product and the sum are rounded; a logit of about 5 by its own roundings.
    tolerance = 20 * ROUNDING[dtype]
    torch.testing.assert_close(result.double().cpu(), expected, rtol=0, atol=tolerance)
    grad = tokens(2, 40, 16, 9, True)
    ours = torch.autograd.grad(result, inputs, grad.to(device, dtype))
    theirs = torch.autograd.grad(expected, wide, grad.to(dtype).double())
    for one, other in zip(ours, theirs, strict=True):
        assert (one.double().cpu() - other).norm() < tolerance * other.norm()


def test_logits_far_apart_do_not_overflow() -> None:
    query = torch.tensor([[[1e4], [-1e4]]]).expand(1, 2, 1).repeat(1, 10, 1)
    value = torch.tensor([[[1.0], [2.0]]])
    key = torch.tensor([[[1.0], [-1.0]]])
    for backend in BACKENDS:
        result = attend(query, key, value, scale=1.0, backend=backend)
        assert result.flatten().tolist() == [1.0, 2.0] * 10


@pytest.mark.parametrize(("needed", "kept"), [(0, "query"), (1, "key"), (2, "value")])
def test_one_gradient_alone(needed: int, kept: str) -> None:
    inputs = [tokens(1, 20, 4, i, True) for i in range(3)]
    inputs[needed].requires_grad_()
    ours = torch.autograd.grad(attend(*inputs, scale=1.0, backend="chunked").sum(), inputs[needed])
    theirs = torch.autograd.grad(attend(*inputs, scale=1.0, backend="plain").sum(), inputs[needed])
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-11)


@pytest.mark.parametrize("queries", [5, 20])
def test_the_operator_is_declared_rightly(queries: int) -> None:
    """Its schema, shapes without values, and autograd agree with what it does."""
    inputs = [tokens(2, n, c, c, True).requires_grad_() for n, c in ((queries, 3), (9, 3), (9, 5))]
    arguments = (*inputs, 0.5, queries == 5)
    result = torch.library.opcheck(torch.ops.dnl_det.chunked_attention.default, arguments)
    assert set(result.values()) == {"SUCCESS"}


def test_chunks_are_of_one_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dnl_det.layers.chunked_attention.ROWS", 1024)
    assert [chunk_rows(n) for n in (0, 1, 1024, 1050, 1535)] == [1, 1, 1024, 1050, 1535]
    assert [chunk_rows(n) for n in (1537, 4200, 16800)] == [769, 1050, 1050]


def test_auto_s_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    called = []

    def note(*args: Any) -> Tensor:
        called.append(args[0].shape[1])
        return args[2]

    monkeypatch.setattr("dnl_det.layers.attention.chunked_attention", note)
    for length in (5, 30):
        x = tokens(1, length, 4, 0, True)
        attend(x, x, x, scale=1.0)
    assert called == [5, 30]
    torch.jit.trace(lambda x: attend(x, x, x, scale=1.0), x, check_trace=False)
    assert called == [5, 30]


@pytest.mark.parametrize("queries", [5, 30])
def test_a_map_of_one_chunk_is_kept_and_others_are_not(queries: int) -> None:
    inputs = [tokens(1, n, 4, 0, True).requires_grad_() for n in (queries, 8, 8)]
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda x: saved.append(x.numel()) or x, lambda x: x
    ):
        result = attend(*inputs, scale=1.0, backend="chunked")
    assert (queries * 8 in saved) is (queries == 5)
    with torch.no_grad():
        assert torch.equal(attend(*inputs, scale=1.0, backend="chunked"), result)


@pytest.mark.parametrize("training", [False, True])
def test_numbers_too_small_for_a_normal_one_cost_no_time(
    training: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tenth of denormal numbers made the products 10 to 150 times slower before they were cut."""
    monkeypatch.setattr("dnl_det.layers.chunked_attention.ROWS", 500)
    shapes = ((1, 1000, 64), (1, 1000, 64), (1, 1000, 256))
    generator = torch.Generator().manual_seed(0)
    inputs = [torch.randn(shape, generator=generator, requires_grad=training) for shape in shapes]
    query, key, value = (x.detach() for x in inputs)
    peaked = 20 * 64**-0.5
    weights = (peaked * query @ key.transpose(1, 2)).softmax(dim=2)
    tiny = torch.finfo(torch.float32).tiny
    assert ((weights > 0) & (weights < tiny)).float().mean() > 0.02

    def run(scale: float) -> Tensor:
        result = attend(*inputs, scale=scale, backend="chunked")
        if training:
            torch.autograd.grad(result, inputs, torch.full_like(result, 1e-7))
        return result.detach()

    seconds = time_together({"even": lambda: run(0.01), "peaked": lambda: run(peaked)}, repeats=5)
    assert seconds["peaked"].shortest < 4 * seconds["even"].shortest

    # Logits of 100 are rounded: no further from float64 than the definition in float32 is.
    wide = (peaked * query.double() @ key.double().transpose(1, 2)).softmax(dim=2) @ value.double()
    assert (run(peaked) - wide).abs().max() <= 2 * (weights @ value - wide).abs().max()


def test_an_unknown_backend_is_named() -> None:
    x = tokens(1, 4, 4, 0, True)
    with pytest.raises(ValueError, match="backend='flash': must be one of auto, plain, chunked"):
        attend(x, x, x, scale=1.0, backend="flash")


@pytest.mark.parametrize("queries", [5, 20])
def test_chunked_has_second_derivatives(queries: int) -> None:
    inputs = [tokens(1, n, c, c, True).requires_grad_() for n, c in ((queries, 3), (9, 3), (9, 5))]
    assert torch.autograd.gradgradcheck(
        lambda *x: attend(*x, scale=0.7, backend="chunked"), inputs, atol=1e-7
    )


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="needs torch's compiler")
def test_compiles_in_one_graph_with_its_gradient() -> None:
    inputs = [tokens(1, 30, c, c, True).requires_grad_() for c in (3, 3, 5)]

    def function(*x: Tensor) -> Tensor:
        return attend(*x, scale=0.5, backend="chunked")

    compiled = torch.compile(function, backend="aot_eager", fullgraph=True)
    expected = torch.autograd.grad(function(*inputs).square().sum(), inputs)
    actual = torch.autograd.grad(compiled(*inputs).square().sum(), inputs)
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-11)
