"""The blocks compile in one graph, trace and export, for other sizes than the example's too."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from gpu import NEEDS_GPU

from dnl_det.layers import build_attention

Variant = tuple[str, dict[str, Any]]

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(autouse=True)
def _fresh_compiler() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.mark.parametrize(
    ("name", "kwargs"),
    [
        ("dnl", {"mode": "joint"}),
        ("dnl", {"mode": "unary"}),
        ("dnl", {"mode": "add_shared", "downsample": True, "use_out": True}),
        ("nl", {}),
        ("nl", {"kernel": "dot_product"}),
        ("snl", {}),
        ("gc", {"fusion": ["add", "mul"]}),
        ("gc", {"pooling": "average"}),
    ],
)
def test_compiles_in_one_graph(
    name: str, kwargs: dict[str, Any], build: Any, features: Any
) -> None:
    block, x = build(name, **kwargs), features(2, 8, 6, 5)
    compiled = torch.compile(block, backend="eager", fullgraph=True)
    assert torch.equal(compiled(x), block(x))


def test_compiled_gradients(build: Any, features: Any) -> None:
    block, x = build("dnl"), features(2, 8, 6, 5).requires_grad_()
    compiled = torch.compile(block, backend="aot_eager", fullgraph=True)
    inputs = (x, *block.parameters())
    expected = torch.autograd.grad(block(x).square().sum(), inputs)
    actual = torch.autograd.grad(compiled(x).square().sum(), inputs)
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("device", [pytest.param("cuda", marks=NEEDS_GPU)])
def test_compiled_by_inductor(variant: Variant, build: Any, features: Any, device: str) -> None:
    name, kwargs = variant
    block = build(name, **kwargs).to(device)
    x = features(2, 8, 6, 5).to(device).requires_grad_()
    compiled = torch.compile(block, fullgraph=True)
    torch.testing.assert_close(compiled(x), block(x), rtol=0, atol=1e-10)
    inputs = (x, *block.parameters())
    actual = torch.autograd.grad(compiled(x).square().sum(), inputs)
    expected = torch.autograd.grad(block(x).square().sum(), inputs)
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-9)


def test_compiled_for_any_size(build: Any, features: Any) -> None:
    block = build("dnl")
    compiled = torch.compile(block, backend="eager", fullgraph=True, dynamic=True)
    for size in ((6, 5), (4, 9), (7, 7)):
        x = features(2, 8, *size)
        torch.testing.assert_close(compiled(x), block(x), rtol=0, atol=1e-12)


@pytest.mark.parametrize("example", [(2, 8, 6, 5), (1, 8, 1, 1), (2, 8, 6, 1)], ids=str)
def test_trace_holds_for_another_size(
    example: tuple[int, ...], variant: Variant, build: Any, features: Any
) -> None:
    name, kwargs = variant
    block = build(name, **kwargs)
    traced = torch.jit.trace(block, features(*example))
    for shape in (
        (2, 8, 6, 5),
        (1, 8, 9, 4),
        (3, 8, 2, 7),
        (2, 8, 1, 5),
        (2, 8, 4, 1),
        (1, 8, 1, 1),
    ):
        x = features(*shape, seed=1)
        torch.testing.assert_close(traced(x), block(x), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    # torch takes no size for free that a layer with stride 2 makes 1.
    ("kwargs", "least"),
    [({}, 2), ({"downsample": True}, 4), ({"downsample": True, "use_out": True}, 4)],
    ids=["dnl", "downsample", "downsample-use-out"],
)
def test_exports_with_free_sizes(
    kwargs: dict[str, Any], least: int, build: Any, features: Any
) -> None:
    block = build("dnl", **kwargs)
    sizes = {0: torch.export.Dim("images"), 2: torch.export.Dim("height", min=least)}
    sizes[3] = torch.export.Dim("width", min=least)
    exported = torch.export.export(block, (features(2, 8, 6, 5),), dynamic_shapes=(sizes,)).module()
    for shape in ((3, 8, 9, 4), (1, 8, least, least), (2, 8, 5, 12)):
        x = features(*shape, seed=1)
        torch.testing.assert_close(exported(x), block(x), rtol=0, atol=1e-12)


def test_traces_under_autocast(features: Any) -> None:
    torch.manual_seed(0)
    block, x = build_attention("dnl", 8), features(2, 8, 6, 5).float()
    with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
        traced = torch.jit.trace(block, x)
        assert torch.equal(traced(x), block(x))
