"""detectron2's export by scripting works with our backbones, and gives what the model gives."""

import io

import pytest
import torch
from detectron2.config import get_cfg
from detectron2.export import scripting_with_instances
from detectron2.modeling import build_model
from detectron2.structures import Boxes

from dnl_det import add_dnl_config

from .test_detectors import DETECTORS

pytestmark = pytest.mark.filterwarnings("ignore")

BOXES = {"pred_boxes": Boxes, "scores": torch.Tensor, "pred_classes": torch.Tensor}
PROPOSALS = {"proposal_boxes": Boxes, "objectness_logits": torch.Tensor}
# detector: (block, the fields of its Instances)
CASES = {
    "faster_rcnn_fpn": ("gc", {**PROPOSALS, **BOXES}),
    "mask_rcnn_fpn": ("dnl", {**PROPOSALS, **BOXES, "pred_masks": torch.Tensor}),
    "mask_rcnn_c4": ("nl", {**PROPOSALS, **BOXES, "pred_masks": torch.Tensor}),
    "retinanet": ("snl", BOXES),
}


def detections(model, image):
    """Without the rescaling to the image's own size, which a script leaves out."""
    if hasattr(model, "inference"):
        return model.inference([image], do_postprocess=False)[0]
    images = model.preprocess_image([image])
    features = model.backbone(images.tensor)
    features = [features[name] for name in model.head_in_features]
    return model.forward_inference(images, features, model.head(features))[0]


@pytest.mark.parametrize("name", CASES)
def test_a_scripted_detector_is_the_detector(name):
    torch.manual_seed(0)
    block, fields = CASES[name]
    backbone, has_res5, keys = DETECTORS[name]
    cfg = get_cfg()
    add_dnl_config(cfg)
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.BACKBONE.NAME = backbone
    cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 64
    cfg.MODEL.RESNETS.WIDTH_PER_GROUP = 16
    cfg.MODEL.RPN.POST_NMS_TOPK_TEST = 20
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = cfg.MODEL.RETINANET.SCORE_THRESH_TEST = 0.0
    cfg.MODEL.DNL.BLOCK = block
    cfg.MODEL.DNL.RES4 = [-2]
    cfg.MODEL.DNL.RES5 = [-1] if has_res5 else []
    for key, value in keys.items():
        cfg.merge_from_list([key, value])
    model = build_model(cfg).eval()
    for module_name, parameter in model.named_parameters():
        if ".attention." in module_name:
            torch.nn.init.normal_(parameter, std=0.05)

    file = io.BytesIO()
    torch.jit.save(scripting_with_instances(model, fields), file)
    file.seek(0)
    script = torch.jit.load(file)
    for height, width in ((64, 96), (96, 64)):
        image = {"image": torch.randint(0, 256, (3, height, width), dtype=torch.uint8)}
        with torch.no_grad():
            expected = detections(model, image)
            if name == "retinanet":
                found = script([image])[0]
            else:
                found = script.inference([image], do_postprocess=False)[0]
        assert len(expected) > 0
        for field in set(fields) & set(expected.get_fields()):
            theirs, ours = expected.get(field), getattr(found, field)
            if field == "pred_boxes":
                theirs, ours = theirs.tensor, ours.tensor
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
