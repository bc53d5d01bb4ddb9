"""Gradients equal finite differences, and every parameter gets one."""

from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call

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
