"""The dilated ResNet: strides, dilations and attention."""

import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_backbone
from detectron2.modeling.backbone import ResNet

from dnl_det.modeling import AttentionBlock, build_dnl_resnet_deeplab_backbone


def dilations(resnet: ResNet, stage: str) -> list[int]:
    return [block.conv2.dilation[0] for block in getattr(resnet, stage)]


@pytest.mark.parametrize(
    ("keys", "stride", "res4", "res5"),
    [
        ({}, 8, [1, 2, 2, 2, 2, 2], [2, 4, 4]),  # mmsegmentation
        ({"RESNETS__CONTRACT_DILATION": False}, 8, [2] * 6, [4, 4, 4]),  # DeepLab
        (
            {"RESNETS__RES4_DILATION": 1, "RESNETS__RES5_DILATION": 2},
            16,
            [1] * 6,
            [1, 2, 2],
        ),
        ({"RESNETS__RES4_DILATION": 1, "RESNETS__RES5_DILATION": 1}, 32, [1] * 6, [1, 1, 1]),
        ({"RESNETS__RES5_MULTI_GRID": [1, 2, 4]}, 8, [1, 2, 2, 2, 2, 2], [2, 8, 16]),
    ],
)
def test_strides_and_dilations(small_cfg, keys, stride, res4, res5):
    resnet = build_backbone(small_cfg(**keys))
    assert resnet.output_shape()["res5"].stride == stride
    assert dilations(resnet, "res4") == res4
    assert dilations(resnet, "res5") == res5
    features = resnet(torch.randn(1, 3, 65, 97))
    assert features["res5"].shape[-2:] == (-(-65 // stride), -(-97 // stride))


def test_without_contraction_it_is_detectron2_s(small_cfg):
    cfg = small_cfg(RESNETS__CONTRACT_DILATION=False)
    ours = build_backbone(cfg).eval()
    cfg.MODEL.BACKBONE.NAME = "build_resnet_deeplab_backbone"
    theirs = build_backbone(cfg).eval()
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(1, 3, 64, 96)
    torch.testing.assert_close(ours(x), theirs(x), rtol=0, atol=0)


def test_blocks_are_in_any_stage_and_contraction_stays(small_cfg):
    cfg = small_cfg(DNL__RES4=[0, -2], DNL__RES5=[0], DNL__OUT_NORM=True, DNL__BLOCK="nl")
    resnet = build_dnl_resnet_deeplab_backbone(cfg, ShapeSpec(channels=3))
    where = [name for name, m in resnet.named_modules() if isinstance(m, AttentionBlock)]
    assert where == ["res4.0", "res4.4", "res5.0"]
    assert dilations(resnet, "res5") == [2, 4, 4]
    assert isinstance(resnet.res4[0].attention.out_norm, torch.nn.BatchNorm2d)


def test_it_trains_from_scratch_with_nothing_frozen(small_cfg):
    resnet = build_backbone(small_cfg())
    resnet(torch.randn(2, 3, 32, 32))["res5"].sum().backward()
    assert all(p.grad is not None for p in resnet.parameters())
