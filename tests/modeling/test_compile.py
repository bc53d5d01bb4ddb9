"""A backbone with attention compiles in one graph, and computes under autocast what it should."""

import pytest
import torch

from dnl_det.modeling import insert_attention

from .test_recompute import build

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(autouse=True)
def fresh_compiler(monkeypatch):
    monkeypatch.setattr("dnl_det.layers.chunked_attention.ROWS", 7)
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.mark.parametrize("stages", [[], ["res4"]], ids=["kept", "recomputed"])
def test_the_whole_backbone_is_one_graph(stages):
    model = build(stages, norm="FrozenBN").train()
    for name in ("res4", "res5"):
        for block in getattr(model, name):
            if hasattr(block, "attention"):
                torch.nn.init.constant_(block.attention.gamma, 0.5)
    x = torch.randn(1, 3, 96, 128, dtype=torch.float64)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    parameters = [p for p in model.parameters() if p.requires_grad]

    def gradients(function):
        return torch.autograd.grad(function(x)["res5"].square().mean(), parameters)

    with torch.no_grad():
        torch.testing.assert_close(compiled(x), model(x), rtol=0, atol=1e-10)
    torch.testing.assert_close(gradients(compiled), gradients(model), rtol=0, atol=1e-10)


def test_bfloat16_on_a_cpu_is_float32_to_its_rounding():
    """Forward and backward of the ResNet under autocast, attention in chunks."""
    torch.manual_seed(0)
    model = build([], norm="FrozenBN").float().train()
    insert_attention(model, {"res5": [-1]}, "nl")
    for module in model.modules():
        if hasattr(module, "gamma") and module.gamma is not None:
            torch.nn.init.constant_(module.gamma, 0.5)
    x = torch.randn(1, 3, 96, 128)
    parameters = [p for p in model.parameters() if p.requires_grad]

    def run(enabled):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            y = model(x)["res5"].float()
        grads = torch.autograd.grad(y.square().mean(), parameters)
        return y.detach(), torch.cat([g.flatten() for g in grads])

    (expected, expected_gradient), (found, gradient) = run(False), run(True)
    assert torch.isfinite(gradient).all()
    # 20 layers, each rounded to 8 bits.
    assert (found - expected).norm() < 0.05 * expected.norm()
    assert (gradient - expected_gradient).norm() < 0.15 * expected_gradient.norm()
