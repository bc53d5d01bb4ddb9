"""Any config, from the file to a step of the whole detector: it runs, or one error names a key."""

import pytest
import torch
import yaml
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dnl_det.engine import load_config

STAGES = ["res2", "res3", "res4", "res5"]
LEVELS = ["p2", "p3", "p4", "p5"]
BOX_HEAD = {
    "NAME": "FastRCNNConvFCHead",
    "NUM_FC": 1,
    "FC_DIM": 8,
    "POOLER_RESOLUTION": 2,
}
# By detector: its keys, each as small as it may be.
DETECTORS = {
    "fpn": {
        "MODEL.BACKBONE.NAME": "build_dnl_resnet_fpn_backbone",
        "MODEL.RESNETS.OUT_FEATURES": STAGES,
        "MODEL.FPN.IN_FEATURES": STAGES,
        "MODEL.RPN.IN_FEATURES": LEVELS,
        "MODEL.ROI_HEADS.NAME": "StandardROIHeads",
        "MODEL.ROI_HEADS.IN_FEATURES": LEVELS,
        "MODEL.ROI_BOX_HEAD": BOX_HEAD,
    },
    "retinanet": {
        "MODEL.META_ARCHITECTURE": "RetinaNet",
        "MODEL.BACKBONE.NAME": "build_dnl_retinanet_resnet_fpn_backbone",
        "MODEL.RESNETS.OUT_FEATURES": STAGES[1:],
        "MODEL.FPN.IN_FEATURES": STAGES[1:],
        "MODEL.ANCHOR_GENERATOR.SIZES": [[16, 32]],
        "MODEL.RETINANET.NUM_CONVS": 1,
    },
    "c4": {
        "MODEL.BACKBONE.NAME": "build_dnl_resnet_backbone",
        "MODEL.RESNETS.OUT_FEATURES": ["res4"],
        "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION": 4,
    },
    "dc5": {
        "MODEL.BACKBONE.NAME": "build_dnl_resnet_backbone",
        "MODEL.RESNETS.OUT_FEATURES": ["res5"],
        "MODEL.RPN.IN_FEATURES": ["res5"],
        "MODEL.ROI_HEADS.NAME": "StandardROIHeads",
        "MODEL.ROI_HEADS.IN_FEATURES": ["res5"],
        "MODEL.ROI_BOX_HEAD": BOX_HEAD,
    },
}
ALL = {
    "MODEL.DEVICE": "cpu",
    "MODEL.WEIGHTS": "",
    "MODEL.RESNETS.DEPTH": 50,
    "MODEL.RESNETS.STEM_OUT_CHANNELS": 8,
    "MODEL.RESNETS.RES2_OUT_CHANNELS": 8,
    "MODEL.RESNETS.WIDTH_PER_GROUP": 4,
    "MODEL.RESNETS.NORM": "BN",
    "MODEL.FPN.OUT_CHANNELS": 8,
    "MODEL.ANCHOR_GENERATOR.SIZES": [[16, 32, 64]],
    "MODEL.RPN.PRE_NMS_TOPK_TRAIN": 50,
    "MODEL.RPN.POST_NMS_TOPK_TRAIN": 20,
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 8,
    "VERSION": 2,
}
INDICES = st.lists(st.integers(-3, 2), max_size=2)
NAMES = st.sampled_from([*STAGES, *LEVELS, "p6", "p7", "stem", "res6"])
NEAR = ["dnl_resnet", "dnl_resnet_fpn", "dnl_retinanet_resnet_fpn", "resnet", "resnet_fpn", "dnl"]
# What some of these detectors take, and all the rest.
CHANGES = {
    **{f"MODEL.DNL.{stage.upper()}": INDICES for stage in STAGES},
    "MODEL.DNL.BLOCK": st.sampled_from(["dnl", "nl", "snl", "gc", "none", "dln", "GC"]),
    "MODEL.DNL.MODE": st.sampled_from(["joint", "unary", "pairwise", "add_shared", "both"]),
    "MODEL.DNL.NL_KERNEL": st.sampled_from(["gaussian", "dot_product", "gausian"]),
    "MODEL.DNL.GC_POOLING": st.sampled_from(["average", "max"]),
    "MODEL.DNL.GC_FUSION": st.lists(st.sampled_from(["add", "mul", "sub"]), max_size=2),
    "MODEL.DNL.POSITION": st.sampled_from(["after_relu", "before_add", "after"]),
    "MODEL.DNL.BACKEND": st.sampled_from(["plain", "chunked", "sdpa", "flash"]),
    "MODEL.DNL.CHECKPOINT": st.lists(NAMES, max_size=2),
    "MODEL.DNL.REDUCTION": st.sampled_from([1, 2, 8, 64, 0, 2.0]),
    "MODEL.DNL.TEMPERATURE": st.sampled_from([0.05, 1.0, 100.0, 1, 0.0, float("nan")]),
    "MODEL.DNL.INIT_STD": st.sampled_from([0.01, 0.5, 0.0, "0.1"]),
    "MODEL.DNL.INIT_GAMMA": st.sampled_from([0.0, 1.0, -1.0, float("inf")]),
    "MODEL.DNL.MOOD": st.just("joint"),
    **{f"MODEL.DNL.{key}": st.booleans() for key in ("WHITEN", "DOWNSAMPLE", "USE_OUT")},
    "MODEL.DNL.NL_LEGACY_SCALE": st.booleans(),
    "MODEL.DNL.TRAIN_IN_FROZEN": st.booleans() | st.just(1),
    "MODEL.BACKBONE.NAME": st.sampled_from([f"build_{name}_backbone" for name in NEAR]),
    "MODEL.BACKBONE.FREEZE_AT": st.integers(-1, 6),
    "MODEL.META_ARCHITECTURE": st.sampled_from(["RetinaNet", "MMDet1RCNN", "ProposalNetwork", "R"]),
    "MODEL.RESNETS.DEPTH": st.sampled_from([18, 34, 50, 51]),
    "MODEL.RESNETS.RES2_OUT_CHANNELS": st.sampled_from([64, 8, 0]),
    "MODEL.RESNETS.NUM_GROUPS": st.sampled_from([1, 2, 3, 0, -1]),
    "MODEL.RESNETS.NORM": st.sampled_from(["FrozenBN", "SyncBN", "", "GN", "XN"]),
    "MODEL.RESNETS.RES5_DILATION": st.sampled_from([1, 2, 3]),
    "MODEL.RESNETS.OUT_FEATURES": st.lists(NAMES, max_size=4),
    "MODEL.FPN.IN_FEATURES": st.lists(NAMES, max_size=4),
    "MODEL.FPN.NORM": st.sampled_from(["BN", "LN", "XN"]),
    "MODEL.RPN.IN_FEATURES": st.lists(NAMES, max_size=4),
    "MODEL.ROI_HEADS.IN_FEATURES": st.lists(NAMES, max_size=1),
    "MODEL.ROI_HEADS.NAME": st.sampled_from(["Res5ROIHeads", "StandardROIHeads", "Standard"]),
}


@st.composite
def contents(draw):
    """A detector's keys with attention in one stage of it, and up to three others."""
    kind = draw(st.sampled_from(sorted(DETECTORS)))
    stage = draw(st.sampled_from(["RES4", "RES2" if kind == "fpn" else "RES4"]))
    keys = draw(st.lists(st.sampled_from(sorted(CHANGES)), max_size=3, unique=True))
    return {
        **ALL,
        **DETECTORS[kind],
        f"MODEL.DNL.{stage}": [-1],
        **{key: draw(CHANGES[key]) for key in keys},
    }


def nested(flat):
    tree = {}
    for dotted, value in flat.items():
        *groups, key = dotted.split(".")
        node = tree
        for group in groups:
            node = node.setdefault(group, {})
        node[key] = {**value} if isinstance(value, dict) else value
    return tree


def image(side=64):
    instances = Instances((side, side))
    instances.gt_boxes = Boxes(torch.tensor([[5.0, 5.0, 45.0, 40.0]]))
    instances.gt_classes = torch.tensor([1])
    pixels = torch.randint(0, 256, (3, side, side), dtype=torch.uint8)
    return {"image": pixels, "instances": instances}


def runs(file):
    """Whether the config runs; if not, an error has named a key."""
    try:
        model = build_model(load_config(str(file)))
    except ValueError as error:
        assert any(key in str(error) for key in ("MODEL.", "config.yaml"))  # noqa: PT017
        return False
    with EventStorage():
        loss = sum(model.train()([image(), image()]).values())
    assert torch.isfinite(loss)
    loss.backward()
    return True


def ran(count, folder):
    """Of so many configs, how many ran."""
    results = []

    @settings(
        max_examples=count,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(contents())
    def look(content):
        torch.manual_seed(0)
        (folder / "config.yaml").write_text(yaml.safe_dump(nested(content)))
        results.append(runs(folder / "config.yaml"))

    look()
    return sum(results), len(results)


def test_any_detector_trains_or_one_error_names_a_key(tmp_path):
    built, tried = ran(60, tmp_path)
    assert tried / 5 < built < tried


@pytest.mark.slow
def test_many_detectors_train_or_one_error_names_a_key(tmp_path):
    built, tried = ran(1000, tmp_path)
    assert tried / 5 < built < tried
