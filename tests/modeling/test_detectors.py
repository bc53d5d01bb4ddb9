"""The registered backbones under each kind of detector: built, run forward and backward."""

import numpy as np
import pytest
import torch
from detectron2.config import get_cfg
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances, PolygonMasks
from detectron2.utils.events import EventStorage

from dnl_det import add_dnl_config

PLAIN = "build_dnl_resnet_backbone"
FPN = "build_dnl_resnet_fpn_backbone"
FOUR = ["res2", "res3", "res4", "res5"]
PYRAMID = {
    "MODEL.RESNETS.OUT_FEATURES": FOUR,
    "MODEL.FPN.IN_FEATURES": FOUR,
    "MODEL.FPN.OUT_CHANNELS": 32,
    "MODEL.ANCHOR_GENERATOR.SIZES": [[32], [64], [128], [256], [512]],
    "MODEL.RPN.IN_FEATURES": ["p2", "p3", "p4", "p5", "p6"],
    "MODEL.ROI_HEADS.IN_FEATURES": ["p2", "p3", "p4", "p5"],
    "MODEL.ROI_HEADS.NAME": "StandardROIHeads",
    "MODEL.ROI_BOX_HEAD.NAME": "FastRCNNConvFCHead",
    "MODEL.ROI_BOX_HEAD.NUM_FC": 1,
    "MODEL.ROI_BOX_HEAD.FC_DIM": 64,
    "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION": 7,
    "MODEL.ROI_MASK_HEAD.NUM_CONV": 1,
}
MASK = {"MODEL.MASK_ON": True, "MODEL.ROI_MASK_HEAD.NAME": "MaskRCNNConvUpsampleHead"}

# detector: (backbone, whether res5 is the backbone's, keys)
DETECTORS = {
    "mask_rcnn_fpn": (FPN, True, {**PYRAMID, **MASK}),
    "faster_rcnn_fpn": (FPN, True, PYRAMID),
    "mask_rcnn_c4": (PLAIN, False, MASK),
    "faster_rcnn_dc5": (
        PLAIN,
        True,
        {
            "MODEL.RESNETS.OUT_FEATURES": ["res5"],
            "MODEL.RESNETS.RES5_DILATION": 2,
            "MODEL.RPN.IN_FEATURES": ["res5"],
            "MODEL.ROI_HEADS.NAME": "StandardROIHeads",
            "MODEL.ROI_HEADS.IN_FEATURES": ["res5"],
            "MODEL.ROI_BOX_HEAD.NAME": "FastRCNNConvFCHead",
            "MODEL.ROI_BOX_HEAD.NUM_FC": 1,
            "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION": 7,
        },
    ),
    "cascade_mask_rcnn_fpn": (
        FPN,
        True,
        {
            **PYRAMID,
            **MASK,
            "MODEL.ROI_HEADS.NAME": "CascadeROIHeads",
            "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG": True,
        },
    ),
    "retinanet": (
        "build_dnl_retinanet_resnet_fpn_backbone",
        True,
        {
            "MODEL.META_ARCHITECTURE": "RetinaNet",
            "MODEL.RESNETS.OUT_FEATURES": FOUR[1:],
            "MODEL.FPN.IN_FEATURES": FOUR[1:],
            "MODEL.FPN.OUT_CHANNELS": 32,
            "MODEL.ANCHOR_GENERATOR.SIZES": [[32], [64], [128], [256], [512]],
        },
    ),
    "panoptic_fpn": (
        FPN,
        True,
        {
            **PYRAMID,
            **MASK,
            "MODEL.META_ARCHITECTURE": "PanopticFPN",
            "MODEL.SEM_SEG_HEAD.NORM": "",
        },
    ),
}


def images(side=64, count=2):
    batch = []
    for _ in range(count):
        instances = Instances((side, side))
        instances.gt_boxes = Boxes(torch.tensor([[5.0, 5.0, 45.0, 40.0]]))
        instances.gt_classes = torch.tensor([1])
        polygon = np.array([5.0, 5.0, 45.0, 5.0, 45.0, 40.0, 5.0, 40.0])
        instances.gt_masks = PolygonMasks([[polygon]])
        batch.append(
            {
                "image": torch.randint(0, 256, (3, side, side), dtype=torch.uint8),
                "instances": instances,
                "sem_seg": torch.zeros(side, side, dtype=torch.long),
                "height": side,
                "width": side,
            }
        )
    return batch


@pytest.mark.parametrize("name", DETECTORS)
def test_detector_trains_and_detects(name, device):
    torch.manual_seed(0)
    backbone, has_res5, keys = DETECTORS[name]
    cfg = get_cfg()
    add_dnl_config(cfg)
    cfg.MODEL.DEVICE = device
    cfg.MODEL.BACKBONE.NAME = backbone
    cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 64
    cfg.MODEL.RESNETS.WIDTH_PER_GROUP = 16
    cfg.MODEL.RESNETS.NORM = "BN"
    cfg.MODEL.RPN.POST_NMS_TOPK_TRAIN = cfg.MODEL.RPN.POST_NMS_TOPK_TEST = 50
    cfg.MODEL.DNL.RES4 = [-2]
    cfg.MODEL.DNL.RES5 = [-1] if has_res5 else []
    for key, value in keys.items():
        cfg.merge_from_list([key, value])
    model = build_model(cfg)

    with EventStorage():
        losses = model(images())
    sum(losses.values()).backward()
    assert losses
    assert all(torch.isfinite(loss) for loss in losses.values())
    attention = {n: p for n, p in model.named_parameters() if ".attention." in n}
    assert {n.split(".attention.")[0].split(".", 1)[1] for n in attention} == {
        ("bottom_up." if "fpn" in backbone else "") + place
        for place in (["res4.4", "res5.2"] if has_res5 else ["res4.4"])
    }
    # gamma is 0 at the start, so query and key learn from the second step on.
    values = [p.grad for n, p in attention.items() if "conv_value" in n or "gamma" in n]
    assert values
    assert all(gradient.abs().sum() > 0 for gradient in values)

    model.eval()
    with torch.no_grad():
        outputs = model(images(count=1))[0]
    assert outputs["instances"].image_size == (64, 64)
    assert ("panoptic_seg" in outputs) == (name == "panoptic_fpn")
