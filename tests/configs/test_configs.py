"""Every file in configs: loads, is short, says only what differs, and gives the intended model."""

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.layers import FrozenBatchNorm2d
from detectron2.structures import Boxes, Instances, PolygonMasks
from detectron2.utils.events import EventStorage
from torch import nn

from dnl_det.layers import (
    DisentangledNonLocal2d,
    GlobalContext2d,
    NonLocal2d,
    SimplifiedNonLocal2d,
)

MASK_RCNN = "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_"
CONFIGS = Path(__file__).resolve().parents[2] / "configs"
NAMES = sorted(str(path.relative_to(CONFIGS).with_suffix("")) for path in CONFIGS.rglob("*.yaml"))
CHILDREN = [name for name in NAMES if "Base-" not in name]
ON_A_BASE = [name for name in NAMES if "_BASE_:" in (CONFIGS / f"{name}.yaml").read_text()]

C4 = ("res4.4",)
C4_C5 = ("res4.4", "res5.0", "res5.1", "res5.2")
C4_C5_R101 = ("res4.21", "res5.0", "res5.1", "res5.2")
SHAPES = ("res3.3", "res4.5")
HEAD = ("sem_seg_head",)

# config: (class of its blocks, their mode if any, where they are)
BLOCKS: dict[str, tuple[type | None, str | None, tuple[str, ...]]] = {
    MASK_RCNN + "1x": (None, None, ()),
    MASK_RCNN + "nl_c4_1x": (NonLocal2d, None, C4),
    MASK_RCNN + "nl_c4_c5all_1x": (NonLocal2d, None, C4_C5),
    MASK_RCNN + "snl_c4_1x": (SimplifiedNonLocal2d, None, C4),
    MASK_RCNN + "gc_c4_1x": (GlobalContext2d, None, C4),
    MASK_RCNN + "dnl_c4_1x": (DisentangledNonLocal2d, "disentangled", C4),
    MASK_RCNN + "dnl_c4_c5all_1x": (DisentangledNonLocal2d, "disentangled", C4_C5),
    MASK_RCNN + "dnl_c4_c5all_joint_1x": (DisentangledNonLocal2d, "joint", C4_C5),
    MASK_RCNN + "dnl_c4_c5all_pairwise_1x": (DisentangledNonLocal2d, "pairwise", C4_C5),
    MASK_RCNN + "dnl_c4_c5all_unary_1x": (DisentangledNonLocal2d, "unary", C4_C5),
    MASK_RCNN + "dnl_c4_c5all_add_shared_1x": (DisentangledNonLocal2d, "add_shared", C4_C5),
    MASK_RCNN + "dnl_c4_c5all_modern_1x": (DisentangledNonLocal2d, "disentangled", C4_C5),
    MASK_RCNN + "dnl_c4_c5all_modern_3x": (DisentangledNonLocal2d, "disentangled", C4_C5),
    "COCO-InstanceSegmentation/mask_rcnn_R_101_FPN_dnl_c4_c5all_1x": (
        DisentangledNonLocal2d,
        "disentangled",
        C4_C5_R101,
    ),
    "COCO-InstanceSegmentation/cascade_mask_rcnn_R_50_FPN_dnl_c4_c5all_1x": (
        DisentangledNonLocal2d,
        "disentangled",
        C4_C5,
    ),
    "COCO-Detection/faster_rcnn_R_50_FPN_dnl_c4_c5all_1x": (
        DisentangledNonLocal2d,
        "disentangled",
        C4_C5,
    ),
    "COCO-Detection/retinanet_R_50_FPN_dnl_c4_c5all_1x": (
        DisentangledNonLocal2d,
        "disentangled",
        C4_C5,
    ),
    "COCO-PanopticSegmentation/panoptic_fpn_R_50_dnl_c4_c5all_1x": (
        DisentangledNonLocal2d,
        "disentangled",
        C4_C5,
    ),
    "COCO-PanopticSegmentation/panoptic_fpn_R_50_dnl_c4_c5all_dnl_head_1x": (
        DisentangledNonLocal2d,
        "disentangled",
        (*C4_C5, *HEAD),
    ),
    "Shapes/baseline": (None, None, ()),
    "Shapes/nl": (NonLocal2d, None, SHAPES),
    "Shapes/snl": (SimplifiedNonLocal2d, None, SHAPES),
    "Shapes/gc": (GlobalContext2d, None, SHAPES),
    "Shapes/joint": (DisentangledNonLocal2d, "joint", SHAPES),
    "Shapes/pairwise": (DisentangledNonLocal2d, "pairwise", SHAPES),
    "Shapes/unary": (DisentangledNonLocal2d, "unary", SHAPES),
    "Shapes/add_shared": (DisentangledNonLocal2d, "add_shared", SHAPES),
    "Shapes/disentangled": (DisentangledNonLocal2d, "disentangled", SHAPES),
    "Shapes/sem_seg_none": (None, None, ()),
    "Shapes/sem_seg_joint": (DisentangledNonLocal2d, "joint", HEAD),
    "Shapes/sem_seg_disentangled": (DisentangledNonLocal2d, "disentangled", HEAD),
}
# Of semantic segmentation: the folder, and the lengths of training.
LENGTHS = {"Cityscapes": ("40k", "80k"), "ADE20K": ("80k", "160k")}
HEADS: dict[str, tuple[type | None, str | None, tuple[str, ...]]] = {
    "fcn": (None, None, ()),
    "nl": (NonLocal2d, None, HEAD),
    "gc": (GlobalContext2d, None, HEAD),
    "dnl": (DisentangledNonLocal2d, "disentangled", HEAD),
}
SEGMENTATION = {
    f"{data}-SemanticSegmentation/{block}_R_{depth}_d8_{length}": found
    for data, lengths in LENGTHS.items()
    for block, found in HEADS.items()
    for depth in (50, 101)
    for length in (*lengths, *(["769_80k"] * (data == "Cityscapes" and block == "dnl")))
}
AUTHORS = "Cityscapes-SemanticSegmentation/authors_{}_R_101_d8_769_60k"
SEGMENTATION |= {
    AUTHORS.format("none"): (None, None, ()),
    AUTHORS.format("unary"): (SimplifiedNonLocal2d, None, HEAD),
    AUTHORS.format("dnl"): (DisentangledNonLocal2d, "disentangled", HEAD),
    **{
        AUTHORS.format(mode): (DisentangledNonLocal2d, mode, HEAD)
        for mode in ("joint", "pairwise", "add_shared")
    },
}
BLOCKS |= SEGMENTATION
# The authors' models, less the background's rows of fc_reg and conv_logits, which detectron2
# does not have: 4 * (1024 + 1) + (256 + 1) = 4357.
PARAMETERS = {
    MASK_RCNN + "1x": ("layout_baseline", 45_711_152),
    MASK_RCNN + "nl_c4_1x": ("layout_nl_c4", 46_761_520),
    MASK_RCNN + "snl_c4_1x": ("layout_snl_c4", 46_760_753),
    MASK_RCNN + "gc_c4_1x": ("layout_gc_c4", 46_238_257),
    MASK_RCNN + "dnl_c4_1x": ("layout_dnl_c4", 47_285_554),
    MASK_RCNN + "dnl_c4_c5all_1x": ("layout_dnl_c4c5all", 66_169_144),
}


def test_each_config_is_in_the_table_of_this_test():
    assert set(CHILDREN) == set(BLOCKS)
    assert set(CHILDREN) < set(ON_A_BASE)


@pytest.mark.parametrize("name", NAMES)
def test_loads_without_unknown_keys(name, load):
    cfg = load(name)
    assert cfg.VERSION == 2
    assert cfg.MODEL.BACKBONE.NAME.startswith("build_dnl_")


@pytest.mark.parametrize("name", CHILDREN)
def test_child_is_short_and_begins_with_what_it_is(name):
    lines = (CONFIGS / f"{name}.yaml").read_text().splitlines()
    assert 5 <= len(lines) <= 15
    assert re.match(r"# \w", lines[0])
    assert max(map(len, lines)) <= 100


@pytest.mark.parametrize("name", ON_A_BASE)
def test_says_nothing_that_its_base_says(name, flatten):
    path = CONFIGS / f"{name}.yaml"
    own = CfgNode.load_cfg(path.read_text())
    base = path.parent / own.pop("_BASE_")
    inherited = flatten(CfgNode.load_yaml_with_base(str(base)))
    own = flatten(own)
    # It says for how many processes the schedule beside it is, not only the base's.
    own.pop("SOLVER.REFERENCE_WORLD_SIZE", None)
    assert own
    assert [key for key, value in own.items() if inherited.get(key, ...) == value] == []


@pytest.mark.parametrize("name", sorted(BLOCKS))
def test_model_has_attention_exactly_where_it_should(name, build, load):
    kind, mode, places = BLOCKS[name]
    model = build(name, device="meta" if name in SEGMENTATION else "cpu")
    found = {
        key.removeprefix("backbone.bottom_up."): module
        for key, module in model.named_modules()
        if key.endswith(".attention")
    }
    assert sorted(found) == sorted(f"{place}.attention" for place in places)
    assert {type(block) for block in found.values()} == ({kind} if kind else set())
    assert {getattr(block, "mode", None) for block in found.values()} == ({mode} if kind else set())
    for key, block in found.items():
        assert all(parameter.requires_grad for parameter in block.parameters()), key
    assert type(model).__name__ == load(name).MODEL.META_ARCHITECTURE


@pytest.mark.parametrize("name", sorted(PARAMETERS))
def test_parameters_are_as_many_as_the_authors(name, build):
    model = build(name, device="meta")
    count = sum(parameter.numel() for parameter in model.parameters())
    frozen = [module for module in model.modules() if isinstance(module, FrozenBatchNorm2d)]
    count += sum(norm.weight.numel() + norm.bias.numel() for norm in frozen)
    assert count == PARAMETERS[name][1]


@pytest.mark.parametrize(("layout", "expected"), sorted(PARAMETERS.values()))
def test_parameter_counts_are_those_of_the_official_layouts(layout, expected, shared):
    sizes = json.loads((shared / "official" / f"{layout}.json").read_text())
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    total = sum(math.prod(size) for key, size in sizes.items() if not key.endswith(statistics))
    assert total - 4357 == expected


@pytest.mark.parametrize("name", [name for name in CHILDREN if name.startswith("Shapes/sem_seg")])
def test_shapes_segmentation_model_trains_and_segments(name, build, load):
    cfg = load(name)
    data = ("shapes_sem_seg_train",), ("shapes_sem_seg_val",)
    assert (cfg.DATASETS.TRAIN, cfg.DATASETS.TEST) == data
    assert (cfg.MODEL.WEIGHTS, cfg.MODEL.BACKBONE.FREEZE_AT) == ("", 0)
    classes = MetadataCatalog.get("shapes_sem_seg_val").stuff_classes
    assert cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES == len(classes) == 11

    torch.manual_seed(0)
    model = build(name)
    image = torch.randint(0, 256, (3, 128, 128), dtype=torch.uint8)
    sample = {"image": image, "sem_seg": torch.randint(0, 11, (128, 128))}
    losses = model([sample, sample])
    assert set(losses) == {"loss_sem_seg", "loss_sem_seg_aux"}
    sum(losses.values()).backward()
    _check_gradients(model)
    model.eval()
    with torch.no_grad():
        assert model([sample])[0]["sem_seg"].shape == (11, 128, 128)


@pytest.mark.parametrize(
    "name",
    [n for n in CHILDREN if n.startswith("Shapes/") and not n.startswith("Shapes/sem_seg")],
)
def test_shapes_model_trains_and_detects(name, build, load):
    cfg = load(name)
    assert (cfg.DATASETS.TRAIN, cfg.DATASETS.TEST) == (("shapes_train",), ("shapes_val",))
    assert (cfg.MODEL.WEIGHTS, cfg.MODEL.BACKBONE.FREEZE_AT) == ("", 0)

    torch.manual_seed(0)
    model = build(name)
    images = [_shapes_input(), _shapes_input()]
    with EventStorage():
        losses = model(images)
    sum(losses.values()).backward()
    assert set(losses) >= {"loss_rpn_cls", "loss_rpn_loc", "loss_cls", "loss_box_reg", "loss_mask"}
    _check_gradients(model)
    model.eval()
    with torch.no_grad():
        instances = model(images[:1])[0]["instances"]
    assert instances.image_size == (128, 128)
    assert instances.pred_masks.shape[1:] == (128, 128)


def test_shapes_has_as_many_classes_as_its_data(load):
    from dnl_det.data import THING_CLASSES

    assert load("Shapes/Base-Shapes").MODEL.ROI_HEADS.NUM_CLASSES == len(THING_CLASSES) == 10


def _check_gradients(model: nn.Module) -> None:
    gradients = {key: parameter.grad for key, parameter in model.named_parameters()}
    # DistributedDataParallel waits forever for a parameter that takes no part in the loss.
    assert [key for key, gradient in gradients.items() if gradient is None] == []
    assert [key for key, gradient in gradients.items() if not gradient.isfinite().all()] == []
    assert all(gradient.any() for key, gradient in gradients.items() if ".stem." in key)


def _shapes_input() -> dict:
    instances = Instances((128, 128))
    instances.gt_boxes = Boxes(torch.tensor([[10.0, 20, 40, 50], [60, 60, 95, 90]]))
    instances.gt_classes = torch.tensor([0, 9])
    outlines = [[10, 20, 40, 20, 25, 50], [60, 60, 95, 60, 95, 90, 60, 90]]
    instances.gt_masks = PolygonMasks([[np.array(outline, float)] for outline in outlines])
    image = torch.randint(0, 256, (3, 128, 128), dtype=torch.uint8)
    return {"image": image, "instances": instances, "height": 128, "width": 128}
