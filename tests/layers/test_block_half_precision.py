"""Half precision, mixed or plain: no inf, no NaN, and the numbers of float32."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from gpu import NEEDS_GPU
from torch import Tensor, nn

from dnl_det.layers import DisentangledNonLocal2d, NonLocal2d

Variant = tuple[str, dict[str, Any]]
Result = tuple[Tensor, list[Tensor]]  # the output; the gradients of the input and parameters
Run = Callable[[nn.Module, Tensor], Result]

# The largest relative error of one rounding.
ROUNDING = {torch.float16: 2.0**-11, torch.bfloat16: 2.0**-8}


@pytest.fixture(params=list(ROUNDING), ids=["float16", "bfloat16"])
def half(request: pytest.FixtureRequest) -> torch.dtype:
    return request.param


@pytest.fixture(
    params=[
        "autocast",
        "half-input",
        "half-module",
        pytest.param("autocast-cuda", marks=NEEDS_GPU),
    ]
)
def run(request: pytest.FixtureRequest, half: torch.dtype) -> Run:
    """``run(block, x) -> output, gradients``, in one of the ways to use half precision.

    autocast: float32 input; half-input: what a half-precision convolution before the block hands
    over under autocast; half-module: parameters and input converted, no autocast.
    """
    device = "cuda" if request.param == "autocast-cuda" else "cpu"
    weights = half if request.param == "half-module" else torch.float32
    inputs = half if request.param.startswith("half") else torch.float32
    autocast = None if request.param == "half-module" else half

    def forward_and_backward(block: Any, x: Tensor) -> Result:
        block = copy.deepcopy(block).to(device, weights)
        return _forward_and_backward(block, x.to(device, inputs), autocast)

    return forward_and_backward


def _forward_and_backward(block: Any, x: Tensor, autocast: torch.dtype | None = None) -> Result:
    x = x.clone().requires_grad_()
    with torch.autocast(x.device.type, autocast, enabled=autocast is not None):
        y = block(x)
    assert y.dtype == x.dtype
    y.float().square().mean().div(float(x.detach().abs().max()) ** 2).backward()
    gradients = [x.grad, *(parameter.grad for parameter in block.parameters())]
    return y.detach().float().cpu(), [gradient.float().cpu() for gradient in gradients]


def test_equals_float32(
    variant: Variant, half: torch.dtype, run: Run, build: Any, features: Any
) -> None:
    """The inputs, the weights, query, key, value, the context and the output are rounded once each.

    Rounding query and key moves a logit of 10 by 20 roundings and so a weight by that share; but
    the context is a tenth of the output. Together less than 4 roundings of the largest output
    (measured: 2). A gradient passes twice as many products, and through the logits: 40 roundings
    of its length (measured: 12), all parameters taken together.
    """
    name, kwargs = variant
    block, x = build(name, **kwargs).float(), features(2, 8, 12, 13).float()
    expected, expected_gradients = _forward_and_backward(block, x)
    y, gradients = run(block, x)

    error = (y - expected).abs().max() / expected.abs().max()
    assert error < 4 * ROUNDING[half]
    vector = torch.cat([gradient.flatten() for gradient in gradients])
    expected_vector = torch.cat([gradient.flatten() for gradient in expected_gradients])
    error = (vector - expected_vector).norm() / expected_vector.norm()
    assert error < 40 * ROUNDING[half]


def test_large_features_give_finite_numbers(
    variant: Variant, run: Run, build: Any, features: Any
) -> None:
    name, kwargs = variant
    block, x = build(name, channels=32, **kwargs), 100 * features(2, 32, 12, 13)
    if kwargs.get("kernel") == "dot_product":
        # Its output is cubic in x, without a softmax to bound it: half could not hold the result.
        with torch.no_grad():
            for parameter in block.parameters():
                parameter.mul_(0.1)
    y, gradients = run(block, x)
    for tensor in (y, *gradients):
        assert torch.isfinite(tensor).all()


@pytest.mark.parametrize("mode", ["disentangled", "joint", "pairwise", "unary", "add_shared"])
def test_product_of_query_and_key_beyond_the_range_of_half(
    mode: str, half: torch.dtype, run: Run
) -> None:
    """Positions of two kinds, 300 and -300 in the channel that is query, key and mask.

    300 * 300 is more than float16 holds, and all logits differ by thousands or not at all: a
    position attends evenly to its own kind, the unary term evenly to the first kind, of which
    there are more.
    """
    x = torch.randint(-8, 9, (1, 8, 4, 5), generator=torch.Generator().manual_seed(0)).double()
    first = torch.arange(20).reshape(4, 5) % 5 < 3
    x[0, 0] = torch.where(first, 300.0, -300.0)
    assert half == torch.bfloat16 or torch.tensor(300.0, dtype=half).square().isinf()

    block = DisentangledNonLocal2d(8, mode=mode)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.zero_()
        for name in ("conv_query", "conv_key", "conv_mask"):
            if getattr(block, name) is not None:
                getattr(block, name).weight[0, 0] = 1.0
        block.conv_value.weight[:, :, 0, 0] = torch.eye(8)
        if block.gamma is not None:
            block.gamma.fill_(1.0)

    expected = x.clone()
    if mode != "unary":
        for kind in (first, ~first):
            expected[:, :, kind] += x[:, :, kind].mean(dim=2, keepdim=True)
    if mode in ("disentangled", "unary", "add_shared"):
        expected += x[:, :, first].mean(dim=2)[:, :, None, None]

    y, gradients = run(block, x)
    # The weights, the context and the output are rounded once each.
    atol = 3 * ROUNDING[half] * expected.abs().max().item()
    torch.testing.assert_close(y.double(), expected, rtol=0, atol=atol)
    for gradient in gradients:
        assert torch.isfinite(gradient).all()


def test_mean_query_is_not_rounded_to_half(half: torch.dtype) -> None:
    """Queries of the form n and n + 1, where n is so large that half holds nothing in between."""
    n = 0.5 / ROUNDING[half]
    x = torch.zeros(1, 4, 2, 5)
    x[0, 0] = n + torch.tensor([[0.0, 1.0, 0.0, 0.0, 1.0], [0.0, 1.0, 1.0, 0.0, 0.0]])
    x[0, 1] = torch.arange(10.0).reshape(2, 5) / 2
    assert torch.equal(x.to(half).float(), x)
    block = DisentangledNonLocal2d(4, reduction=4, mode="pairwise", temperature=1.0)
    with torch.no_grad():
        block.conv_query.weight.copy_(torch.eye(4)[0].reshape(1, 4, 1, 1))
        block.conv_key.weight.copy_(torch.eye(4)[1].reshape(1, 4, 1, 1))

    query, key = x[0, 0].flatten(), x[0, 1].flatten()
    expected = torch.outer(query - query.mean(), key).softmax(dim=1)
    pairwise: Any = block.to(half).attention_maps(x.to(half)).pairwise
    torch.testing.assert_close(pairwise[0], expected, rtol=0, atol=1e-5)


def test_dot_product_sums_positions_beyond_the_range_of_half(half: torch.dtype, run: Run) -> None:
    # Key and value are 20 at all 256 positions: 256 * 20 * 20 is more than float16 holds, their
    # mean, 400, is not. The output is 20 + 2**-7 * (20 * 400).
    x = torch.zeros(1, 4, 16, 16)
    x[:, 0] = 20.0
    block: Any = NonLocal2d(4, reduction=4, kernel="dot_product")
    with torch.no_grad():
        for conv in (block.theta, block.phi, block.g):
            conv.weight.copy_(torch.eye(4)[0].reshape(1, 4, 1, 1))
        block.conv_out.weight.copy_(torch.eye(4)[0].reshape(4, 1, 1, 1) / 128)
    y, gradients = run(block, x)
    torch.testing.assert_close(y[:, 0], torch.full((1, 16, 16), 82.5), rtol=0, atol=0.5)
    for gradient in gradients:
        assert torch.isfinite(gradient).all()


def test_output_keeps_the_dtype_of_another_half_precision(
    variant: Variant, half: torch.dtype, build: Any, features: Any
) -> None:
    name, kwargs = variant
    other = torch.float16 if half == torch.bfloat16 else torch.bfloat16
    with torch.autocast("cpu", half):
        assert build(name, **kwargs).float()(features(2, 8, 5, 4).to(other)).dtype == other


def test_maps_are_float32(variant: Variant, half: torch.dtype, build: Any, features: Any) -> None:
    name, kwargs = variant
    block, x = build(name, channels=32, **kwargs).float(), 100 * features(2, 32, 6, 7).float()
    with torch.autocast("cpu", half):
        maps = block.attention_maps(x)
    for weights in (maps.pairwise, maps.unary):
        if weights is not None:
            assert weights.dtype == torch.float32
            assert torch.isfinite(weights).all()
