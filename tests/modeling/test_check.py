"""What is said of a config before a model is built, and that nothing else goes wrong after."""

import logging

import pytest
import torch
from detectron2.config import get_cfg
from detectron2.modeling import build_backbone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dnl_det import add_dnl_config
from dnl_det.engine import load_config
from dnl_det.modeling import BLOCK_KEYS, check_dnl_config

DNL = get_cfg()
add_dnl_config(DNL)
DNL = DNL.MODEL.DNL
STAGES = ("res2", "res3", "res4", "res5")
BACKBONES = ("resnet", "resnet_fpn", "retinanet_resnet_fpn")


def config(dnl=(), backbone="resnet_fpn", **model):
    """A narrow R18-FPN; ``model`` has keys such as ``RESNETS__DEPTH``."""
    cfg = get_cfg()
    add_dnl_config(cfg)
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.BACKBONE.NAME = f"build_dnl_{backbone}_backbone"
    cfg.MODEL.RESNETS.DEPTH = 18
    cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 64
    cfg.MODEL.RESNETS.STEM_OUT_CHANNELS = 8
    cfg.MODEL.RESNETS.OUT_FEATURES = list(STAGES)
    cfg.MODEL.FPN.IN_FEATURES = list(STAGES)
    cfg.MODEL.FPN.OUT_CHANNELS = 8
    cfg.MODEL.ROI_HEADS.NAME = "StandardROIHeads"
    cfg.MODEL.ROI_BOX_HEAD.NAME = "FastRCNNConvFCHead"
    if backbone != "resnet":
        for reader in (cfg.MODEL.RPN, cfg.MODEL.ROI_HEADS):
            reader.IN_FEATURES = ["p2", "p3", "p4", "p5"]
    for key, value in model.items():
        *groups, name = key.split("__")
        node = cfg.MODEL
        for group in groups:
            node = node[group]
        node[name] = value
    for key, value in dict(dnl).items():
        cfg.MODEL.DNL[key] = value
    return cfg


@pytest.mark.parametrize(
    ("dnl", "message"),
    [
        ({"BLOCK": "dln"}, r"MODEL.DNL.BLOCK: 'dln' is not one of none, .*; did you mean dnl\?"),
        ({"MODE": "disentagled"}, r"did you mean disentangled\?"),
        ({"MODE": None}, "MODEL.DNL.MODE: None is not one of"),
        ({"BACKEND": "flash"}, "MODEL.DNL.BACKEND: 'flash' is not one of auto"),
        ({"RES4": [True]}, r"MODEL.DNL.RES4: \[True\] must be a list of block indices"),
        ({"RES4": "-2"}, "MODEL.DNL.RES4: '-2' must be a list of block indices"),
        ({"RES4": [1.0]}, r"MODEL.DNL.RES4: \[1.0\] must be a list"),
        ({"RES4": None}, "MODEL.DNL.RES4: None must be a list"),
        ({"REDUCTION": 0}, "MODEL.DNL.REDUCTION: 0 must be a whole number from 1 on"),
        ({"REDUCTION": True}, "MODEL.DNL.REDUCTION: True must be a whole number"),
        ({"TEMPERATURE": 0.0}, "MODEL.DNL.TEMPERATURE: 0.0 must be a number above 0"),
        ({"TEMPERATURE": float("nan")}, "MODEL.DNL.TEMPERATURE: nan must be a number above 0"),
        ({"INIT_STD": -1.0}, "MODEL.DNL.INIT_STD: -1.0 must be a number above 0"),
        ({"INIT_STD": 0.0}, "MODEL.DNL.INIT_STD: 0.0 must be a number above 0"),
        (
            {"RES4": [2]},
            "MODEL.DNL.RES4: no block 2 in res4, which has 2: must be between -2 and 1",
        ),
        ({"RES4": [1, -1]}, r"MODEL.DNL.RES4: \[1, -1\] names a block of res4 twice"),
        ({"INIT_GAMMA": float("inf")}, "MODEL.DNL.INIT_GAMMA: inf must be a finite number"),
        ({"WHITEN": 1}, "MODEL.DNL.WHITEN: 1 must be True or False"),
        ({"MONITOR_TIMES": 0.5}, "MODEL.DNL.MONITOR_TIMES: 0.5 must be a whole number from 0"),
        ({"MONITOR_SHARE": 0.0}, "MODEL.DNL.MONITOR_SHARE: 0.0 must be a number above 0"),
        ({"CHECKPOINT": ["res6"]}, r"MODEL.DNL.CHECKPOINT: \['res6'\] must be a list of stages"),
        ({"CHECKPOINT": "res4"}, "MODEL.DNL.CHECKPOINT: 'res4' must be a list of stages"),
        ({"GC_FUSION": []}, r"MODEL.DNL.GC_FUSION: \[\] must be a list of one or both of add, mul"),
        ({"GC_FUSION": ["add", "add"]}, "MODEL.DNL.GC_FUSION"),
    ],
)
def test_a_key_with_another_value_is_named_with_what_is_allowed(dnl, message):
    with pytest.raises(ValueError, match=message):
        check_dnl_config(config(dnl))


def test_every_key_is_checked():
    for key in DNL:
        with pytest.raises(ValueError, match=rf"MODEL.DNL.{key}: <object"):
            check_dnl_config(config({key: object()}))


RES4_ALONE = {"RESNETS__OUT_FEATURES": ["res4"]}


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            {
                "dnl": {"RES5": [-1]},
                "backbone": "resnet",
                "ROI_HEADS__NAME": "StandardROIHeads",
                **RES4_ALONE,
            },
            r"MODEL.DNL.RES5: res5 is asked for, and this ResNet ends with res4 .*RES5: \[\]\), or",
        ),
        (
            {
                "dnl": {"RES5": [-1]},
                "backbone": "resnet",
                "ROI_HEADS__NAME": "Res5ROIHeads",
                **RES4_ALONE,
            },
            "A C4 model has its res5 in MODEL.ROI_HEADS.NAME: Res5ROIHeads",
        ),
        (
            {"dnl": {"CHECKPOINT": ["res5"]}, "backbone": "resnet", **RES4_ALONE},
            "MODEL.DNL.CHECKPOINT: res5 is asked for",
        ),
        ({"RESNETS__DEPTH": 20}, "MODEL.RESNETS.DEPTH: 20 is not one of 18, 34, 50, 101, 152"),
        ({"RESNETS__OUT_FEATURES": ["res6"]}, r"MODEL.RESNETS.OUT_FEATURES: 'res6' is not one"),
        ({"RESNETS__OUT_FEATURES": []}, r"MODEL.RESNETS.OUT_FEATURES: \[\] must have some of"),
        (RES4_ALONE, "MODEL.FPN.IN_FEATURES: 'res2' is not one of res4"),
        (
            {"FPN__IN_FEATURES": ["res3", "res4"]},
            r"FPN.IN_FEATURES: \['res3', 'res4'\] lacks res5, from which .* makes p6: add it",
        ),
        ({"FPN__FUSE_TYPE": "max"}, "MODEL.FPN.FUSE_TYPE: 'max' is not one of sum, avg"),
        ({"FPN__OUT_CHANNELS": 0}, "MODEL.FPN.OUT_CHANNELS: 0 must be a whole number from 1 on"),
        ({"RESNETS__NUM_GROUPS": -1}, "MODEL.RESNETS.NUM_GROUPS: -1 must be a whole number from 1"),
        ({"FPN__IN_FEATURES": None}, "MODEL.FPN.IN_FEATURES: None must have some of res2"),
        (
            {"META_ARCHITECTURE": "GeneralisedRCNN"},
            r"MODEL.META_ARCHITECTURE: .* did you mean GeneralizedRCNN\?",
        ),
        (
            {"ROI_HEADS__NAME": "StandardRoiHeads"},
            r"MODEL.ROI_HEADS.NAME: .* did you mean StandardROIHeads\?",
        ),
        ({"ROI_BOX_HEAD__NAME": ""}, "MODEL.ROI_BOX_HEAD.NAME: '' is not one of FastRCNNConvFC"),
        (
            {"META_ARCHITECTURE": "ProposalNetwork", "RPN__IN_FEATURES": ["res4"]},
            "MODEL.RPN.IN_FEATURES: 'res4' is not one of p2",
        ),
        (
            {"ROI_HEADS__NAME": "Res5ROIHeads"},
            r"MODEL.ROI_HEADS.IN_FEATURES: \['p2', .*\] must be \['res4'\], which Res5ROIHeads",
        ),
        (
            {
                "dnl": {"RES5": [-1]},
                "backbone": "resnet",
                "ROI_HEADS__NAME": "Res5ROIHeads",
            },
            "MODEL.DNL.RES5: nothing would read it. A C4 model has its res5 in MODEL.ROI_HEADS",
        ),
        ({"FPN__IN_FEATURES": []}, r"MODEL.FPN.IN_FEATURES: \[\] must have some of res2"),
        (
            {
                "backbone": "retinanet_resnet_fpn",
                "RESNETS__OUT_FEATURES": ["res3", "res4"],
                "FPN__IN_FEATURES": ["res3", "res4"],
            },
            r"OUT_FEATURES: \['res3', 'res4'\] lacks res5, from which .* makes p6: add it",
        ),
        ({"RPN__IN_FEATURES": ["res4"]}, "MODEL.RPN.IN_FEATURES: 'res4' is not one of p2, .*p6"),
        ({"ROI_HEADS__IN_FEATURES": ["p7"]}, "MODEL.ROI_HEADS.IN_FEATURES: 'p7' is not one of"),
        (
            {"BACKBONE__NAME": "build_dnl_resnet_fnp_backbone"},
            r"MODEL.BACKBONE.NAME: .* did you mean build_dnl_resnet_fpn_backbone\?",
        ),
        (
            {"dnl": {"RES4": [-1]}, "BACKBONE__NAME": "build_resnet_fpn_backbone"},
            "has no attention, and MODEL.DNL.RES4 asks for it: set 'build_dnl_resnet_fpn_backbone'",
        ),
    ],
)  # fmt: skip
def test_a_contradiction_is_named(keys, message):
    with pytest.raises(ValueError, match=message):
        check_dnl_config(config(**keys))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"RESNETS__NUM_GROUPS": 2}, "MODEL.RESNETS does not give a ResNet: "),
        ({"RESNETS__NORM": "XN"}, "MODEL.RESNETS does not give a ResNet: 'XN'"),
        ({"FPN__IN_FEATURES": ["res2", "res5"]}, "MODEL.FPN does not fit MODEL.RESNETS: "),
        (
            {"RESNETS__DEPTH": 50, "RESNETS__DEFORM_ON_PER_STAGE": []},
            "MODEL.RESNETS does not give a ResNet: ",
        ),
        ({"dnl": {"RES4": [0], "REDUCTION": 257}}, "MODEL.DNL does not fit .*reduction=257"),
    ],
)
def test_what_only_building_shows_is_named_too(keys, message):
    cfg = config(**keys)
    with pytest.raises(ValueError, match=message):
        build_backbone(cfg)


def test_detectron2s_own_backbone_may_stand_beside_keys_without_a_stage():
    check_dnl_config(config(BACKBONE__NAME="build_resnet_fpn_backbone"))
    check_dnl_config(
        config({"BLOCK": "none", "RES4": [-1]}, BACKBONE__NAME="build_resnet_backbone")
    )


def test_keys_that_a_block_does_not_have_are_a_warning(root, caplog):
    file = str(root / "configs/Shapes/gc.yaml")
    with caplog.at_level(logging.WARNING, logger="dnl_det"):
        load_config(file)
        assert not caplog.records
        load_config(file, ["MODEL.DNL.MODE", "joint"])
    assert "MODEL.DNL.MODE: 'joint' has no effect: BLOCK gc has REDUCTION" in caplog.text


def test_every_block_is_known():
    assert set(BLOCK_KEYS) == {"none", "dnl", "nl", "snl", "gc"}
    assert {key for keys in BLOCK_KEYS.values() for key in keys} < set(DNL)


# --- any config ----------------------------------------------------------------------------------

ALLOWED = {
    "BLOCK": st.sampled_from(["none", "dnl", "dnl", "nl", "snl", "gc"]),
    "MODE": st.sampled_from(["disentangled", "joint", "pairwise", "unary", "add_shared"]),
    "POSITION": st.sampled_from(["before_relu", "after_relu", "before_add"]),
    "BACKEND": st.sampled_from(["auto", "plain", "chunked", "sdpa"]),
    "NL_KERNEL": st.sampled_from(["embedded_gaussian", "gaussian", "dot_product"]),
    "GC_POOLING": st.sampled_from(["attention", "average"]),
    "GC_FUSION": st.sampled_from([["add"], ["mul"], ["mul", "add"]]),
    "CHECKPOINT": st.sampled_from([[], ["res2"], ["res5", "res3"]]),
    "REDUCTION": st.integers(1, 16),
    "TEMPERATURE": st.sampled_from([0.05, 1.0, 1e-30, 1e30, 3]),
    "MONITOR_TIMES": st.integers(0, 100),
}
for key, default in DNL.items():
    if key in [stage.upper() for stage in STAGES]:
        ALLOWED[key] = st.sampled_from([[], [0], [-1], [0, -1], [1]])
    elif isinstance(default, bool):
        ALLOWED[key] = st.booleans()
    elif isinstance(default, float):
        ALLOWED.setdefault(key, st.floats(0, 1))
RESNET = {
    "RESNETS__DEPTH": st.sampled_from([18, 50, 50, 101]),
    "RESNETS__NORM": st.sampled_from(["BN", "GN", "FrozenBN", "SyncBN", "LN", ""]),
    "RESNETS__STRIDE_IN_1X1": st.booleans(),
    "BACKBONE__FREEZE_AT": st.integers(0, 5),
}
ODD = st.none() | st.booleans() | st.integers(-3, 10**6) | st.floats() | st.text(max_size=3)
ODD |= st.lists(st.integers(-3, 3) | st.none() | st.sampled_from(STAGES), max_size=2)
ODD |= st.sampled_from(["dln", "gausian", "res4", "middle", "max"])
ODD_RESNETS = {
    "RESNETS__DEPTH": st.sampled_from([19, 0]),
    "RESNETS__NORM": st.sampled_from(["XN", "bn"]),
    "RESNETS__RES5_DILATION": st.sampled_from([2, 3]),
    "RESNETS__NUM_GROUPS": st.sampled_from([2, 3]),
    "RESNETS__OUT_FEATURES": st.lists(st.sampled_from([*STAGES, "res6"]), max_size=4),
    "FPN__IN_FEATURES": st.lists(st.sampled_from([*STAGES, "p2", "stem"]), max_size=4),
}


@st.composite
def configs(draw):
    """Narrow ResNets: allowed values, and in two of three one that may not be allowed."""
    keys = {"RESNETS__DEPTH": 50, "RESNETS__WIDTH_PER_GROUP": 8, "RESNETS__RES2_OUT_CHANNELS": 32}
    keys |= draw(st.fixed_dictionaries({}, optional=RESNET))
    dnl = draw(st.fixed_dictionaries({}, optional=ALLOWED))
    stage = draw(st.sampled_from(STAGES)).upper()
    dnl[stage] = draw(st.sampled_from([[0], [-1], [0, -1]]))
    odd = draw(st.sampled_from(["nothing", "dnl", "resnet"]))
    if odd == "dnl":
        dnl[draw(st.sampled_from(sorted(DNL)))] = draw(ODD)
    if odd == "resnet":
        name = draw(st.sampled_from(sorted(ODD_RESNETS)))
        keys[name] = draw(ODD_RESNETS[name])
    return {"dnl": dnl, "backbone": draw(st.sampled_from(BACKBONES)), **keys}


def builds_and_runs_or_one_error_names_a_key(keys):
    cfg = config(**keys)
    try:
        check_dnl_config(cfg, cfg.MODEL.BACKBONE.NAME)
        backbone = build_backbone(cfg)
    except ValueError as error:
        assert "MODEL." in str(error)  # noqa: PT017  it may also be none
        return False
    features = backbone.train()(torch.rand(2, 3, 64, 64))
    loss = sum(feature.square().mean() for feature in features.values())
    if loss.requires_grad:
        loss.backward()
    return True


FUZZ = {
    "deadline": None,
    "derandomize": True,
    "suppress_health_check": list(HealthCheck),
    "database": None,
}


def runs_of(count):
    """Of so many configs, how many were built and run."""
    built = []

    @settings(max_examples=count, **FUZZ)
    @given(configs())
    def look(keys):
        built.append(builds_and_runs_or_one_error_names_a_key(keys))

    look()
    return sum(built), len(built)


def test_any_config_builds_and_runs_or_one_error_names_a_key():
    built, tried = runs_of(80)
    assert tried / 4 < built < tried


@pytest.mark.slow
def test_many_configs_build_and_run_or_one_error_names_a_key():
    built, tried = runs_of(1000)
    assert tried / 4 < built < tried
