"""A block with attention against the block of detectron2 that it was made from."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from detectron2.modeling.backbone import resnet as detectron2_resnet
from detectron2.modeling.backbone.resnet import (
    BasicBlock,
    BasicStem,
    BottleneckBlock,
    DeformBottleneckBlock,
)
from torch import nn
from torchvision.ops import deform_conv2d

from dnl_det.modeling import AttentionBlock


class Affine(nn.Module):
    """An attention that the test can repeat: it must see exactly the tensor it should."""

    def forward(self, x):
        return 0.5 * x - 0.1


class TorchvisionDeformConv(nn.Module):
    """Deformable convolution where detectron2 was installed without its compiled part."""

    def __init__(self, in_channels, out_channels, *, stride, padding, dilation, groups, norm, **_):
        super().__init__()
        self.conv = {"stride": stride, "padding": padding, "dilation": dilation}
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels // groups, 3, 3) * 0.1)
        self.norm, self.bias = norm, None

    def forward(self, x, offset, mask=None):
        return self.norm(deform_conv2d(x, offset, self.weight, mask=mask, **self.conv))


def make_block(kind, in_channels, out_channels, stride, norm="BN"):
    kwargs = {"stride": stride, "norm": norm}
    if kind == "basic":
        return BasicBlock(in_channels, out_channels, **kwargs)
    kwargs["bottleneck_channels"] = 8
    if kind == "bottleneck":
        return BottleneckBlock(in_channels, out_channels, **kwargs)
    if kind == "resnext":
        return BottleneckBlock(in_channels, out_channels, num_groups=4, dilation=2, **kwargs)
    modulated = kind == "modulated_deform"
    return DeformBottleneckBlock(in_channels, out_channels, deform_modulated=modulated, **kwargs)


@pytest.fixture(autouse=True)
def deform_conv(monkeypatch):
    try:
        from detectron2 import _C  # noqa: F401
    except ImportError:
        for name in ("DeformConv", "ModulatedDeformConv"):
            monkeypatch.setattr(detectron2_resnet, name, TorchvisionDeformConv)


KINDS = ("basic", "bottleneck", "resnext", "deform", "modulated_deform")
SHAPES = ((16, 16, 1), (16, 32, 2))  # with an identity and with a projected shortcut


def reference(block, x, position):
    """The block's own forward, its last convolution's output and its shortcut, observed."""
    seen = {}
    last = block.conv2 if isinstance(block, BasicBlock) else block.conv3
    hook = last.register_forward_hook(lambda _, __, out: seen.update(residual=out.clone()))
    plain = block(x.clone())
    hook.remove()
    shortcut = x if block.shortcut is None else block.shortcut(x)
    attention = Affine()
    if position == "before_add":
        return F.relu(attention(seen["residual"]) + shortcut)
    if position == "before_relu":
        return F.relu(attention(seen["residual"] + shortcut))
    return attention(plain)


@pytest.mark.parametrize(("kind", "shape"), list(itertools.product(KINDS, SHAPES)))
@pytest.mark.parametrize("position", ["before_relu", "after_relu", "before_add"])
def test_attention_is_applied_where_it_says(kind, shape, position):
    torch.manual_seed(0)
    block = make_block(kind, *shape).eval()
    if hasattr(block, "conv2_offset"):
        nn.init.normal_(block.conv2_offset.weight, std=0.1)
    x = torch.randn(2, 16, 12, 10)
    with torch.no_grad():
        expected = reference(block, x, position)
        actual = AttentionBlock(block, Affine(), position)(x)
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-6)
    assert not torch.allclose(expected, block(x))


@pytest.mark.parametrize(("kind", "shape"), list(itertools.product(KINDS, SHAPES)))
def test_with_an_identity_it_is_the_block_to_the_bit(kind, shape):
    torch.manual_seed(0)
    block = make_block(kind, *shape).eval()
    x = torch.randn(2, 16, 12, 10)
    with torch.no_grad():
        for position in ("before_relu", "after_relu", "before_add"):
            wrapped = AttentionBlock(block, nn.Identity(), position)
            assert torch.equal(wrapped(x), block(x))
            assert wrapped.state_dict().keys() == block.state_dict().keys()
            assert wrapped.stride == block.stride
            assert wrapped.out_channels == block.out_channels


@pytest.mark.parametrize("norm", ["BN", "FrozenBN", "GN", "LN", ""])
def test_gradients_reach_input_and_parameters_with_any_norm(norm):
    block = BottleneckBlock(32, 64, bottleneck_channels=32, norm=norm)
    wrapped = AttentionBlock(block, nn.Conv2d(64, 64, 1))
    x = torch.randn(2, 32, 5, 5, requires_grad=True)
    wrapped(x).square().sum().backward()
    assert x.grad.abs().sum() > 0
    assert all(parameter.grad.abs().sum() > 0 for parameter in wrapped.parameters())


def test_unknown_position_and_block_are_named():
    with pytest.raises(ValueError, match=r"position='last'.*before_relu, after_relu, before_add"):
        AttentionBlock(BasicBlock(8, 8), nn.Identity(), "last")
    with pytest.raises(ValueError, match=r"BasicStem.*BasicBlock, BottleneckBlock"):
        AttentionBlock(BasicStem(), nn.Identity())
