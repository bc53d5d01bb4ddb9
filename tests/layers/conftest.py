"""Every block in every mode, with weights as large as training makes them."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dnl_det.layers import build_attention

# id: (name, keyword arguments)
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "dnl": ("dnl", {}),
    "dnl-no-whitening": ("dnl", {"whiten": False}),
    "dnl-downsample": ("dnl", {"downsample": True}),
    "dnl-use-out": ("dnl", {"use_out": True}),
    "dnl-no-gamma": ("dnl", {"use_out": True, "use_gamma": False}),
    "dnl-ln": ("dnl", {"whitening": "ln", "scale": False, "temperature": 1.0}),
    "dnl-chunked": ("dnl", {"backend": "chunked"}),
    "dnl-dot-product": ("dnl", {"kernel": "dot_product"}),
    "joint": ("dnl", {"mode": "joint"}),
    "pairwise": ("dnl", {"mode": "pairwise"}),
    "unary": ("dnl", {"mode": "unary"}),
    "unary-use-out": ("dnl", {"mode": "unary", "use_out": True}),
    "add-shared-downsample": ("dnl", {"mode": "add_shared", "downsample": True}),
    "nl": ("nl", {}),
    "nl-chunked": ("nl", {"backend": "chunked"}),
    "nl-legacy-scale": ("nl", {"legacy_scale": True}),
    "nl-dot-product": ("nl", {"kernel": "dot_product"}),
    "nl-gaussian": ("nl", {"kernel": "gaussian"}),
    "snl": ("snl", {}),
    "gc": ("gc", {}),
    "gc-mul": ("gc", {"fusion": ["mul"]}),
    "gc-average-add-mul": ("gc", {"pooling": "average", "fusion": ["add", "mul"]}),
}

Build = Callable[..., nn.Module]


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """So few rows in a chunk that the small maps of tests are several."""
    monkeypatch.setattr("dnl_det.layers.chunked_attention.ROWS", 7)


@pytest.fixture(params=list(VARIANTS))
def variant(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """A block's name and keyword arguments; a test that takes it runs for all of them."""
    return VARIANTS[request.param]


@pytest.fixture
def build() -> Build:
    """``build(name, channels=8, seed=0, **kwargs)``: a float64 block, no parameter at its start.

    At their start most blocks are close to an identity, which would hide what they compute. With
    a standard deviation of 0.2 the logits of unit-normal features reach about 10 at temperature
    0.05: attention is peaked and not saturated.
    """

    def build_block(name: str, channels: int = 8, seed: int = 0, **kwargs: Any) -> Any:
        block = build_attention(name, channels, **kwargs).double()
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in block.parameters():
                parameter.normal_(std=0.2, generator=generator)
        return block

    return build_block


@pytest.fixture
def features() -> Callable[..., Tensor]:
    """``features(*shape, seed=0)``: unit-normal float64 features."""

    def make(*shape: int, seed: int = 0) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    return make
