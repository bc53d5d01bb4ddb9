"""The paper's recipe row by row, the reported AP, and detectron2's own recipe."""

import math

import pytest
from detectron2 import model_zoo
from detectron2.config import CfgNode, get_cfg
from detectron2.engine import DefaultTrainer

from dnl_det import add_dnl_config

MASK_RCNN = "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_"
TRAIN_IMAGES = 117_266  # of COCO train2017, with at least one object

# config of the paper: (box AP, mask AP, images in a batch, learning rate)
REPORTED = {
    MASK_RCNN + "1x": (38.8, 35.1, 64, 0.08),
    MASK_RCNN + "nl_c4_1x": (39.6, 35.8, 64, 0.08),
    MASK_RCNN + "gc_c4_1x": (40.1, 36.2, 64, 0.08),
    MASK_RCNN + "dnl_c4_1x": (40.3, 36.4, 64, 0.08),
    MASK_RCNN + "snl_c4_1x": (40.1, 36.2, 16, 0.02),
    MASK_RCNN + "dnl_c4_c5all_1x": (41.2, 37.2, 16, 0.02),
    # Its batch is not stated.
    MASK_RCNN + "nl_c4_c5all_1x": (40.1, 36.0, 16, 0.02),
}
RECIPE = {
    # start
    "MODEL.WEIGHTS": "detectron2://ImageNetPretrained/torchvision/R-50.pkl",
    "MODEL.PIXEL_MEAN": [123.675, 116.28, 103.53],
    "MODEL.PIXEL_STD": [58.395, 57.12, 57.375],
    "MODEL.RESNETS.DEPTH": 50,
    "MODEL.RESNETS.STRIDE_IN_1X1": False,
    "INPUT.FORMAT": "RGB",
    # frozen, norm
    "MODEL.BACKBONE.FREEZE_AT": 2,
    "MODEL.RESNETS.NORM": "SyncBN",
    "MODEL.FPN.NORM": "SyncBN",
    "MODEL.ROI_BOX_HEAD.NORM": "SyncBN",
    "MODEL.ROI_MASK_HEAD.NORM": "SyncBN",
    # box head
    "MODEL.ROI_BOX_HEAD.NAME": "FastRCNNConvFCHead",
    "MODEL.ROI_BOX_HEAD.NUM_CONV": 4,
    "MODEL.ROI_BOX_HEAD.NUM_FC": 1,
    "MODEL.ROI_BOX_HEAD.FC_DIM": 1024,
    # RoIAlign
    "MODEL.ROI_BOX_HEAD.POOLER_TYPE": "ROIAlign",
    "MODEL.ROI_MASK_HEAD.POOLER_TYPE": "ROIAlign",
    "MODEL.ROI_BOX_HEAD.POOLER_SAMPLING_RATIO": 2,
    "MODEL.ROI_MASK_HEAD.POOLER_SAMPLING_RATIO": 2,
    # RPN
    "MODEL.RPN.PRE_NMS_TOPK_TRAIN": 2000,
    "MODEL.RPN.POST_NMS_TOPK_TRAIN": 2000,
    "MODEL.RPN.PRE_NMS_TOPK_TEST": 1000,
    "MODEL.RPN.POST_NMS_TOPK_TEST": 1000,
    "MODEL.RPN.SMOOTH_L1_BETA": pytest.approx(1 / 9, abs=1e-9),
    "MODEL.RPN.BOUNDARY_THRESH": 0,
    # box loss
    "MODEL.ROI_BOX_HEAD.SMOOTH_L1_BETA": 1.0,
    "MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS": (10.0, 10.0, 5.0, 5.0),
    # images
    "INPUT.MIN_SIZE_TRAIN": (800,),
    "INPUT.MAX_SIZE_TRAIN": 1333,
    "INPUT.MIN_SIZE_TEST": 800,
    "INPUT.MAX_SIZE_TEST": 1333,
    "INPUT.RANDOM_FLIP": "horizontal",
    "INPUT.IMAGE_LIBRARY": "opencv",
    # boxes, anchors and masks of mmdetection 1.x
    "MODEL.META_ARCHITECTURE": "MMDet1RCNN",
    "MODEL.ANCHOR_GENERATOR.NAME": "MMDet1AnchorGenerator",
    # optimiser
    "SOLVER.MOMENTUM": 0.9,
    "SOLVER.WEIGHT_DECAY": 0.0001,
    "SOLVER.WEIGHT_DECAY_NORM": 0.0001,
    "SOLVER.CLIP_GRADIENTS.ENABLED": True,
    "SOLVER.CLIP_GRADIENTS.CLIP_TYPE": "full_model",
    "SOLVER.CLIP_GRADIENTS.CLIP_VALUE": 35.0,
    "SOLVER.CLIP_GRADIENTS.NORM_TYPE": 2.0,
    # batch, schedule
    "SOLVER.REFERENCE_WORLD_SIZE": 8,
    "SOLVER.WARMUP_METHOD": "linear",
    "SOLVER.WARMUP_ITERS": 500,
    "SOLVER.WARMUP_FACTOR": pytest.approx(1 / 3, abs=1e-9),
    # test
    "MODEL.ROI_HEADS.SCORE_THRESH_TEST": 0.05,
    "MODEL.ROI_HEADS.NMS_THRESH_TEST": 0.5,
    "TEST.DETECTIONS_PER_IMAGE": 100,
    # data and what the recipe takes for granted
    "DATASETS.TRAIN": ("coco_2017_train",),
    "DATASETS.TEST": ("coco_2017_val",),
    "MODEL.MASK_ON": True,
    "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION": 7,
    "MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION": 14,
    "MODEL.ROI_MASK_HEAD.NUM_CONV": 4,
    "MODEL.ANCHOR_GENERATOR.SIZES": [[32], [64], [128], [256], [512]],
    "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS": [[0.5, 1.0, 2.0]],
}
# ours: detectron2's own config of the same recipe
MODERN = {
    MASK_RCNN + "dnl_c4_c5all_modern_1x": MASK_RCNN + "1x",
    MASK_RCNN + "dnl_c4_c5all_modern_3x": MASK_RCNN + "3x",
    "COCO-InstanceSegmentation/cascade_mask_rcnn_R_50_FPN_dnl_c4_c5all_1x": (
        "Misc/cascade_mask_rcnn_R_50_FPN_1x"
    ),
    "COCO-Detection/faster_rcnn_R_50_FPN_dnl_c4_c5all_1x": (
        "COCO-Detection/faster_rcnn_R_50_FPN_1x"
    ),
    "COCO-Detection/retinanet_R_50_FPN_dnl_c4_c5all_1x": "COCO-Detection/retinanet_R_50_FPN_1x",
    "COCO-PanopticSegmentation/panoptic_fpn_R_50_dnl_c4_c5all_1x": (
        "COCO-PanopticSegmentation/panoptic_fpn_R_50_1x"
    ),
}


@pytest.fixture(scope="module")
def base_file(root, flatten) -> dict:
    file = root / "configs" / "Base-RCNN-FPN-Paper.yaml"
    return flatten(CfgNode.load_yaml_with_base(str(file)))


@pytest.fixture(scope="module")
def children(load, flatten) -> dict[str, dict]:
    return {name: flatten(load(name)) for name in REPORTED}


@pytest.mark.parametrize("key", sorted(RECIPE))
def test_recipe_row_is_in_the_base_file_and_in_each_child(key, base_file, children):
    assert key in base_file
    for name, child in children.items():
        assert child[key] == RECIPE[key], name


@pytest.mark.parametrize("name", sorted(REPORTED))
def test_batch_rate_and_schedule(name, load):
    solver = load(name).SOLVER
    _, _, batch, rate = REPORTED[name]
    epoch = math.ceil(TRAIN_IMAGES / batch)
    schedule = (solver.IMS_PER_BATCH, solver.BASE_LR, solver.STEPS, solver.MAX_ITER)
    assert schedule == (batch, rate, (8 * epoch, 11 * epoch), 12 * epoch)
    assert epoch == solver.CHECKPOINT_PERIOD
    # "On everything": biases follow the weights where nothing else is said.
    assert solver.WEIGHT_DECAY_BIAS is None
    assert solver.GAMMA == 0.1


def test_one_process_trains_as_long_with_an_eighth_of_the_batch(load):
    solver = DefaultTrainer.auto_scale_workers(load(MASK_RCNN + "dnl_c4_c5all_1x"), 1).SOLVER
    assert (solver.IMS_PER_BATCH, solver.BASE_LR) == (2, 0.0025)
    assert (solver.MAX_ITER, solver.STEPS) == (703_680, (469_120, 645_040))
    assert solver.WARMUP_ITERS == 4000


@pytest.mark.parametrize("name", sorted(REPORTED))
def test_expected_results_are_the_reported_ap(name, load):
    box, mask, _, _ = REPORTED[name]
    expected = load(name).TEST.EXPECTED_RESULTS
    assert expected == [["bbox", "AP", box, 0.3], ["segm", "AP", mask, 0.3]]


@pytest.mark.parametrize("mode", ["joint", "pairwise", "unary", "add_shared"])
def test_ablation_differs_from_dnl_in_mode_and_temperature_alone(mode, load, flatten):
    dnl = flatten(load(MASK_RCNN + "dnl_c4_c5all_1x"))
    ablation = flatten(load(f"{MASK_RCNN}dnl_c4_c5all_{mode}_1x"))
    assert _differences(dnl, ablation) == {
        "MODEL.DNL.MODE": mode,
        "MODEL.DNL.TEMPERATURE": 1.0,
        "TEST.EXPECTED_RESULTS": [],
    }
    assert (dnl["MODEL.DNL.MODE"], dnl["MODEL.DNL.TEMPERATURE"]) == ("disentangled", 0.05)


def test_r101_differs_from_r50_in_depth_and_what_its_weights_need(load, flatten):
    r50 = flatten(load(MASK_RCNN + "dnl_c4_c5all_1x"))
    r101 = flatten(load("COCO-InstanceSegmentation/mask_rcnn_R_101_FPN_dnl_c4_c5all_1x"))
    assert _differences(r50, r101) == {
        "MODEL.WEIGHTS": "detectron2://ImageNetPretrained/MSRA/R-101.pkl",
        "MODEL.PIXEL_MEAN": [103.53, 116.28, 123.675],
        "MODEL.PIXEL_STD": [1.0, 1.0, 1.0],
        "MODEL.RESNETS.DEPTH": 101,
        "MODEL.RESNETS.STRIDE_IN_1X1": True,
        "INPUT.FORMAT": "BGR",
        "TEST.EXPECTED_RESULTS": [],
    }


@pytest.mark.parametrize("name", sorted(MODERN))
def test_modern_config_is_detectron2s_own_with_dnl(name, load, flatten):
    theirs = get_cfg()
    theirs.merge_from_file(model_zoo.get_config_file(f"{MODERN[name]}.yaml"), allow_unsafe=True)
    found = _differences(flatten(theirs), flatten(load(name)))
    anchors = found.pop("MODEL.ANCHOR_GENERATOR.SIZES", None)
    if anchors is not None:  # RetinaNet's are rounded here, and the result of a formula there
        for ours, other in zip(anchors, theirs.MODEL.ANCHOR_GENERATOR.SIZES, strict=True):
            assert ours == pytest.approx(other, abs=1e-3)
    dnl = {key: found.pop(key) for key in list(found) if key.startswith("MODEL.DNL.")}
    assert found.pop("MODEL.BACKBONE.NAME") == theirs.MODEL.BACKBONE.NAME.replace(
        "build_", "build_dnl_"
    )
    assert found.pop("SOLVER.REFERENCE_WORLD_SIZE") == 8
    # What detectron2 does; the keys are ours.
    assert found.pop("INPUT.IMAGE_LIBRARY") == "pillow"
    assert found.pop("SOLVER.OPTIMIZER") == "SGD"
    assert found.pop("SOLVER.MAX_BAD_STEPS") == 0
    assert found.pop("SOLVER.EPOCHS") == 0
    assert found.pop("DATASETS.MAX_JSON_MB") == 4096
    # Of semantic segmentation: at the values with which nothing else changes.
    assert set(found).isdisjoint(flatten(theirs))
    defaults = get_cfg()
    add_dnl_config(defaults)
    assert found.items() <= flatten(defaults).items()
    assert theirs.DATASETS.TRAIN == load(name).DATASETS.TRAIN
    assert (dnl["MODEL.DNL.RES4"], dnl["MODEL.DNL.RES5"]) == ([-2], [-3, -2, -1])
    assert (dnl["MODEL.DNL.BLOCK"], dnl["MODEL.DNL.MODE"]) == ("dnl", "disentangled")


def _differences(first: dict, second: dict) -> dict:
    """What `second` has that `first` has not, or has otherwise."""
    return {key: value for key, value in second.items() if first.get(key, ...) != value}
