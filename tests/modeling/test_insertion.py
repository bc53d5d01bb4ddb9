"""Attention in a whole ResNet: places, keys, strides, freezing, errors."""

import pytest
import torch
from detectron2.config import get_cfg
from detectron2.layers import FrozenBatchNorm2d, ShapeSpec
from detectron2.modeling import build_backbone, build_model, build_resnet_backbone
from detectron2.modeling.backbone.resnet import BasicBlock
from omegaconf import OmegaConf

from dnl_det import add_dnl_config
from dnl_det.layers import BLOCKS
from dnl_det.modeling import AttentionBlock, build_dnl_resnet_backbone, insert_attention
from dnl_det.modeling.recompute import recompute_stages

BLOCKS_PER_STAGE = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}
STAGES = ("res2", "res3", "res4", "res5")
RGB = ShapeSpec(channels=3)


def config(depth=50, **dnl):
    cfg = get_cfg()
    add_dnl_config(cfg)
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.RESNETS.DEPTH = depth
    cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 64  # narrow: a quarter of the usual for 50 and deeper
    cfg.MODEL.RESNETS.WIDTH_PER_GROUP = 64 if depth < 50 else 16
    cfg.MODEL.RESNETS.OUT_FEATURES = list(STAGES)
    cfg.MODEL.RESNETS.NORM = "BN"
    for key, value in dnl.items():
        cfg.MODEL.DNL[key] = value
    return cfg


def places(resnet):
    return {
        f"{name}.{index}"
        for name in resnet.stage_names
        for index, block in enumerate(getattr(resnet, name))
        if isinstance(block, AttentionBlock)
    }


@pytest.mark.parametrize("depth", BLOCKS_PER_STAGE)
def test_every_depth_takes_attention_in_several_stages_at_once(depth):
    cfg = config(depth, BLOCK="dnl", RES2=[0], RES3=[-1], RES4=[-2], RES5=[0, -1])
    resnet = build_dnl_resnet_backbone(cfg, RGB)
    res2, res3, res4, res5 = BLOCKS_PER_STAGE[depth]
    expected = {"res2.0", f"res3.{res3 - 1}", f"res4.{res4 - 2}", "res5.0", f"res5.{res5 - 1}"}
    assert places(resnet) == expected

    plain = build_resnet_backbone(cfg, RGB)
    assert resnet.output_shape() == plain.output_shape()
    added = resnet.state_dict().keys() - plain.state_dict().keys()
    assert plain.state_dict().keys() <= resnet.state_dict().keys()
    assert {key.split(".attention.")[0] for key in added} == expected

    features = resnet.eval()(torch.randn(1, 3, 64, 64))
    assert [tuple(features[name].shape[2:]) for name in STAGES] == [
        (16, 16),
        (8, 8),
        (4, 4),
        (2, 2),
    ]


def test_with_closed_attention_features_are_the_plain_resnet_s():
    cfg = config(50, BLOCK="dnl", MODE="joint", RES3=[1], RES4=[-2], RES5=[-3, -2, -1])
    resnet = build_dnl_resnet_backbone(cfg, RGB).eval()
    plain = build_resnet_backbone(cfg, RGB).eval()
    result = plain.load_state_dict(resnet.state_dict(), strict=False)
    assert not result.missing_keys
    x = torch.randn(1, 3, 96, 64)
    with torch.no_grad():  # gamma is 0, so every joint block is an identity
        ours, theirs = resnet(x), plain(x)
    assert all(torch.equal(ours[name], theirs[name]) for name in STAGES)

    torch.nn.init.ones_(resnet.res4[-2].attention.gamma)
    with torch.no_grad():
        opened = resnet(x)
    assert torch.equal(opened["res3"], theirs["res3"])
    assert not torch.equal(opened["res4"], theirs["res4"])


@pytest.mark.parametrize("block", [*BLOCKS, "none"])
def test_every_block_by_name_through_the_config(block):
    resnet = build_dnl_resnet_backbone(config(18, BLOCK=block, RES3=[0]), RGB)
    assert places(resnet) == (set() if block == "none" else {"res3.0"})


def test_block_arguments_reach_the_block():
    dnl = build_dnl_resnet_backbone(
        config(18, RES4=[0], MODE="pairwise", TEMPERATURE=0.5, REDUCTION=8, USE_OUT=True), RGB
    ).res4[0]
    assert dnl.attention.mode == "pairwise"
    assert dnl.attention.scale == pytest.approx(1 / (32**0.5 * 0.5))
    assert dnl.attention.conv_out.weight.shape == (256, 32, 1, 1)
    nl = build_dnl_resnet_backbone(
        config(18, BLOCK="nl", RES4=[0], REDUCTION=2, NL_LEGACY_SCALE=True), RGB
    ).res4[0]
    assert nl.attention.scale == pytest.approx(128**0.5)
    gc = build_dnl_resnet_backbone(
        config(18, BLOCK="gc", RES4=[0], GC_POOLING="average", GC_FUSION=["add", "mul"]), RGB
    ).res4[0]
    assert gc.attention.conv_mask is None
    assert gc.attention.channel_mul_conv is not None


def test_frozen_stages_freeze_their_attention_and_say_so(caplog):
    cfg = config(18, RES2=[0], RES3=[-1], RES4=[-1])
    cfg.MODEL.BACKBONE.FREEZE_AT = 3
    with caplog.at_level("WARNING"):
        resnet = build_dnl_resnet_backbone(cfg, RGB)
    trained = {name for name, p in resnet.named_parameters() if p.requires_grad}
    assert not any(name.startswith(("stem", "res2", "res3")) for name in trained)
    assert "res4.1.attention.gamma" in trained
    assert sum("stays at its random start" in record.message for record in caplog.records) == 2

    resnet.freeze(5)
    assert not any(p.requires_grad for p in resnet.parameters())
    assert isinstance(resnet.res4[1].conv1.norm, FrozenBatchNorm2d)


def test_attention_in_a_frozen_stage_learns_where_asked_to(caplog):
    cfg = config(18, RES3=[-1], TRAIN_IN_FROZEN=True, INIT_GAMMA=0.5)
    cfg.MODEL.BACKBONE.FREEZE_AT = 3
    with caplog.at_level("WARNING"):
        resnet = build_dnl_resnet_backbone(cfg, RGB)
    assert not any("frozen" in record.message for record in caplog.records)

    resnet(torch.rand(2, 3, 32, 32))["res3"].sum().backward()
    below = ("stem", "res2", "res3")
    learning = {name for name, p in resnet.named_parameters() if p.grad is not None}
    learning = {name for name in learning if name.startswith(below)}
    attention = {f"res3.1.attention.{n}" for n, _ in resnet.res3[1].attention.named_parameters()}
    assert learning == attention
    assert isinstance(resnet.res3[1].conv1.norm, FrozenBatchNorm2d)


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ({"res4": [2]}, r"MODEL.DNL.RES4: no block 2 in res4, which has 2.*between -2 and 1"),
        ({"res4": [-3]}, r"no block -3 in res4"),
        ({"res4": [1, -1]}, r"MODEL.DNL.RES4: \[1, -1\] names a block of res4 twice"),
        ({"res6": [0]}, r"attention in res6 asked for.*res2, res3, res4, res5"),
    ],
)
def test_places_that_do_not_exist_are_named(stages, message):
    resnet = build_resnet_backbone(config(18), RGB)
    with pytest.raises(ValueError, match=message):
        insert_attention(resnet, stages)


def test_a_block_carries_one_attention():
    resnet = insert_attention(build_resnet_backbone(config(18), RGB), {"res4": [0]})
    with pytest.raises(ValueError, match=r"res4\[0\] carries attention already"):
        insert_attention(resnet, {"res4": [0]}, "gc")


def test_a_stage_that_the_model_does_not_build_is_named():
    cfg = config(18, RES5=[-1])
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res4"]
    with pytest.raises(
        ValueError,
        match=r"MODEL.DNL.RES5: res5 is asked for, and this ResNet ends with res4.*RES5: \[\]",
    ):
        build_dnl_resnet_backbone(cfg, RGB)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("BLOCK", "dnn", r"MODEL.DNL.BLOCK: 'dnn' is not one of none, nl, snl, gc, dnl"),
        ("MODE", "both", r"MODEL.DNL.MODE: 'both' is not one of disentangled, joint"),
        ("POSITION", "end", r"MODEL.DNL.POSITION: 'end' is not one of before_relu"),
        ("NL_KERNEL", "rbf", r"MODEL.DNL.NL_KERNEL: 'rbf'"),
        ("GC_POOLING", "max", r"MODEL.DNL.GC_POOLING: 'max'"),
        ("REDUCTION", 257, r"reduction=257 with 256 channels"),
        ("RES4", ["last"], r"MODEL.DNL.RES4: \['last'\] must be a list of block indices"),
    ],
)
def test_bad_keys_are_named_with_what_is_allowed(key, value, message):
    with pytest.raises(ValueError, match=message):
        build_dnl_resnet_backbone(config(18, **{"RES4": [0], key: value}), RGB)


def test_no_place_at_all_is_a_warning(caplog):
    with caplog.at_level("WARNING"):
        build_dnl_resnet_backbone(config(18), RGB)
    assert "this backbone has no attention" in caplog.text


def test_without_the_keys_the_remedy_is_named():
    with pytest.raises(ValueError, match=r"call dnl_det.add_dnl_config\(cfg\) first"):
        build_dnl_resnet_backbone(get_cfg(), RGB)


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize(
    ("device", "dtype"),
    [("cpu", torch.bfloat16), ("cpu", torch.float64), ("meta", torch.float16)],
)
def test_attention_has_the_device_and_type_of_its_block(block, device, dtype):
    resnet = build_resnet_backbone(config(18), RGB).to(device, dtype)
    insert_attention(resnet, {"res4": [-1]}, block)
    assert {(p.device.type, p.dtype) for p in resnet.parameters()} == {(device, dtype)}
    if device == "cpu":
        assert resnet(torch.zeros(1, 3, 64, 64, dtype=dtype))["res5"].dtype == dtype


@pytest.mark.parametrize("training", [True, False])
def test_attention_is_in_the_mode_of_its_block(training):
    resnet = build_resnet_backbone(config(18), RGB).train(training)
    resnet.res4[1].conv1.norm.eval()  # one that its owner keeps as it is
    insert_attention(resnet, {"res4": [-1]}, "gc")
    assert resnet.res4[1].training is training
    assert all(module.training is training for module in resnet.res4[1].attention.modules())
    assert not resnet.res4[1].conv1.norm.training


def test_attention_in_a_recomputed_block_is_recomputed_too():
    calls = []
    resnet = build_resnet_backbone(config(18), RGB)
    recompute_stages(resnet, ["res4"])
    insert_attention(resnet, {"res3": [-1], "res4": [-1]}, "dnl", init_gamma=1.0)
    for name in ("res3", "res4"):
        attention = getattr(resnet, name)[-1].attention
        attention.register_forward_hook(lambda *_, name=name: calls.append(name))
    resnet(torch.randn(1, 3, 64, 64))["res5"].sum().backward()
    assert calls == ["res3", "res4", "res4"]  # the last in the backward pass


class KeepsForward(BasicBlock):
    """A user's own block."""


class OwnForward(BasicBlock):
    """Another, with a forward pass of its own."""

    def forward(self, x):
        return x


def test_a_subclass_that_keeps_its_parent_s_forward_takes_attention():
    attention = torch.nn.Identity()
    block = KeepsForward(8, 8, norm="BN").eval()
    x = torch.randn(2, 8, 9, 9)
    assert torch.equal(AttentionBlock(block, attention).eval()(x), block(x))
    with pytest.raises(ValueError, match="into a OwnForward: must be one of BasicBlock, .*keeps"):
        AttentionBlock(OwnForward(8, 8), attention)


@pytest.mark.parametrize("name", ["resnet", "resnet_fpn", "retinanet_resnet_fpn"])
def test_an_omegaconf_config_builds_the_same(name):
    cfg = config(18, RES4=[-1], RES5=[0], CHECKPOINT=["res5"])
    cfg.MODEL.RESNETS.NORM = "SyncBN"
    cfg.MODEL.BACKBONE.NAME = f"build_dnl_{name}_backbone"
    cfg.MODEL.FPN.IN_FEATURES = list(STAGES)
    torch.manual_seed(0)
    expected = build_backbone(cfg)
    torch.manual_seed(0)
    found = build_backbone(OmegaConf.create(cfg.dump()))
    torch.testing.assert_close(found.state_dict(), expected.state_dict(), rtol=0, atol=0)


def test_a_detector_from_an_omegaconf_config():
    cfg = config(50, RES4=[-2])
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res4"]
    cfg.MODEL.BACKBONE.NAME = "build_dnl_resnet_backbone"
    model = build_model(OmegaConf.create(cfg.dump())).eval()
    assert places(model.backbone) == {"res4.4"}
    (result,) = model([{"image": torch.zeros(3, 64, 64)}])
    assert result["instances"].image_size == (64, 64)
