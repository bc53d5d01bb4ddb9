"""Derivatives of each kind equal finite differences, and every parameter gets one."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import functional_call, grad, hessian, jvp, vmap

from dnl_det.layers import build_attention


def test_gradients_equal_finite_differences(
    variant: tuple[str, dict[str, Any]], build: Any, features: Any
) -> None:
    name, kwargs = variant
    block = build(name, channels=4, **{"reduction": 2, **kwargs} if name != "snl" else kwargs)
    names = [key for key, _ in block.named_parameters()]
    x = features(1, 4, 4, 2).requires_grad_()

    def function(x: Tensor, *parameters: Tensor) -> Tensor:
        return functional_call(block, dict(zip(names, parameters, strict=True)), (x,))

    assert torch.autograd.gradcheck(function, (x, *block.parameters()), atol=1e-7, rtol=1e-6)


def test_every_parameter_of_a_new_block_gets_a_gradient(
    variant: tuple[str, dict[str, Any]], features: Any
) -> None:
    # Data-parallel training stops at a parameter that takes no part.
    name, kwargs = variant
    block = build_attention(name, 8, **kwargs).double()
    block(features(2, 8, 4, 4)).square().sum().backward()
    assert [key for key, value in block.named_parameters() if value.grad is None] == []


def test_forward_mode_and_second_derivatives_equal_finite_differences(
    variant: tuple[str, dict[str, Any]], build: Any, features: Any
) -> None:
    name, kwargs = variant
    block = build(name, channels=4, **{"reduction": 2, **kwargs} if name != "snl" else kwargs)
    x = features(1, 4, 4, 2).requires_grad_()
    gammas = [value for key, value in block.named_parameters() if key == "gamma"]

    def function(x: Tensor, *gamma: Tensor) -> Tensor:
        return functional_call(block, {"gamma": gamma[0]} if gamma else {}, (x,))

    assert torch.autograd.gradgradcheck(function, (x, *gammas), atol=1e-6, rtol=1e-6)
    if hasattr(block, "backend"):
        block.backend = "auto"  # "chunked" refuses
    assert torch.autograd.gradcheck(
        function, (x, *gammas), atol=1e-7, rtol=1e-6, check_forward_ad=True
    )


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@pytest.mark.parametrize(
    ("name", "kwargs"), [("nl", {}), ("dnl", {}), ("dnl", {"use_out": True, "mode": "add_shared"})]
)
def test_the_transforms_of_torch_func_give_what_plain_gives(
    name: str, kwargs: dict[str, Any], build: Any, features: Any
) -> None:
    x, tangent = features(2, 8, 3, 3), features(2, 8, 3, 3, seed=1)
    block, plain = build(name, **kwargs), build(name, backend="plain", **kwargs)

    def derivatives(block: Any) -> list[Tensor]:
        def loss(x: Tensor) -> Tensor:
            return block(x[None]).square().sum()

        forward = jvp(block, (x,), (tangent,))[1]
        return [forward, vmap(grad(loss))(x), hessian(loss)(x[0]), vmap(loss)(x)]

    torch.testing.assert_close(derivatives(block), derivatives(plain), rtol=0, atol=1e-9)
    assert derivatives(plain)[0].abs().sum() > 0


@pytest.mark.filterwarnings("ignore:There is a performance drop")
def test_chunked_under_vmap_is_one_after_the_other(build: Any, features: Any) -> None:
    block, x = build("dnl", backend="chunked"), features(3, 2, 8, 4, 5)
    expected = torch.stack([block(each) for each in x])
    torch.testing.assert_close(vmap(block)(x), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "derivative",
    [
        lambda function, x: jvp(function, (x,), (x,)),
        lambda function, x: grad(function)(x),
        lambda function, x: hessian(function)(x),
    ],
    ids=["jvp", "grad", "hessian"],
)
def test_chunked_refuses_the_derivatives_it_lacks_in_one_line(
    derivative: Any, build: Any, features: Any
) -> None:
    block = build("nl", backend="chunked")
    with pytest.raises(NotImplementedError, match="use backend='plain'.*BACKEND") as caught:
        derivative(lambda x: block(x).sum(), features(1, 8, 3, 3))
    assert "\n" not in str(caught.value)
