"""Pooling of tiny boxes, mask targets and first values, by cases made by hand."""

import math

import cv2
import numpy as np
import pytest
import torch
from detectron2.layers import ROIAlign
from detectron2.modeling import build_model
from detectron2.structures import BitMasks, PolygonMasks
from pycocotools import mask as mask_api

from dnl_det.engine import load_config
from dnl_det.mmdet1.masks import PixelMasks
from dnl_det.mmdet1.roi_heads import MMDet1ROIAlign


def boxes(*corners):
    rois = torch.tensor(corners, dtype=torch.float64)
    return torch.cat([torch.zeros(len(rois), 1, dtype=torch.float64), rois], dim=1)


def test_a_box_below_a_cell_is_pooled_within_itself():
    # On a plane, RoIAlign gives its value at the middle of each bin.
    y, x = torch.meshgrid(*[torch.arange(8, dtype=torch.float64)] * 2, indexing="ij")
    plane = (x + 10 * y)[None, None]
    pooled = MMDet1ROIAlign((2, 2), 0.25, 2)(plane, boxes((8, 12, 9, 14)))  # 0.25 x 0.5 cells
    centres_x, centres_y = (2 + 0.25 * 0.25, 2 + 0.75 * 0.25), (3 + 0.125, 3 + 0.375)
    expected = torch.tensor([[cx + 10 * cy for cx in centres_x] for cy in centres_y])
    torch.testing.assert_close(pooled[0, 0], expected.double())
    theirs = ROIAlign((2, 2), 0.25, 2, aligned=False)(plane, boxes((8, 12, 9, 14)))
    torch.testing.assert_close(theirs[0, 0, 0, 0].item(), 2.25 + 10 * 3.25)  # of a whole cell


def test_a_box_from_a_cell_on_is_pooled_as_by_detectron2():
    features = torch.randn(1, 3, 16, 16, generator=torch.manual_seed(0), dtype=torch.float64)
    rois = boxes((0, 0, 4, 4), (3.3, 7.1, 40.2, 60.5), (-8, 20, 70, 90))
    ours = MMDet1ROIAlign((7, 7), 0.25, 2)(features, rois)
    theirs = ROIAlign((7, 7), 0.25, 2, aligned=False)(features, rois)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


POLYGON = [[10.3, 5.2, 30.7, 8.1, 25.5, 33.9, 12.2, 28.4], [35.0, 10.0, 44.0, 10.0, 40.0, 20.0]]


def bitmap(h=40, w=50):
    return mask_api.decode(mask_api.merge(mask_api.frPyObjects(POLYGON, h, w)))


@pytest.mark.parametrize("as_bitmask", [False, True])
def test_targets_are_whole_pixels_resized(as_bitmask):
    masks = PolygonMasks([[np.array(part) for part in POLYGON]])
    if as_bitmask:
        masks = BitMasks(torch.from_numpy(bitmap().astype(bool))[None])
    masks = PixelMasks.of(masks, 40, 50)
    corners = torch.tensor(
        [[8.9, 4.2, 33.6, 30.0], [30.0, 8.0, 50.0, 40.0], [20.7, 20.7, 21.2, 21.2]]
    )
    targets = masks[torch.tensor([0, 0, 0])].crop_and_resize(corners, 28)
    assert targets.dtype == torch.bool
    # x1, y1 and the last pixels x2 - 1, y2 - 1 truncated: 8, 4, 32, 29; 30, 8, 49, 39; 20, 20.
    for target, part in zip(
        targets, [np.s_[4:30, 8:33], np.s_[8:40, 30:50], np.s_[20:21, 20:21]], strict=True
    ):
        crop = np.ascontiguousarray(bitmap()[part])
        expected = cv2.resize(crop, (28, 28), interpolation=cv2.INTER_LINEAR)
        assert target.numpy().tolist() == expected.astype(bool).tolist()
        assert target.any()
    assert targets[2].all()  # one pixel, inside the object


def test_masks_are_chosen_as_detectron2_chooses_them():
    squares = [[np.array([0.0, 0, n, 0, n, n, 0, n])] for n in (10, 20, 30)]
    masks = PixelMasks.of(PolygonMasks(squares), 40, 50)
    corner = torch.tensor([[0.0, 0, 40, 40]])

    def areas(chosen):
        return chosen.crop_and_resize(corner.repeat(len(chosen), 1), 40).sum(dim=(1, 2)).tolist()

    assert areas(masks) == [100, 400, 900]
    assert areas(masks[torch.tensor([2, 0, 2])]) == [900, 100, 900]
    assert areas(masks[torch.tensor([True, False, True])]) == [100, 900]
    assert areas(masks[1:]) == [400, 900]
    assert areas(masks[1]) == [400]
    assert areas(masks[torch.tensor([2, 1])][torch.tensor([1])]) == [400]
    assert areas(masks.to("cpu")) == [100, 400, 900]
    assert len(masks[torch.zeros(0, dtype=torch.int64)]) == 0


@pytest.fixture(scope="module")
def paper_model(root):
    name = "configs/COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml"
    torch.manual_seed(0)
    return build_model(load_config(str(root / name), ["MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", ""]))


def uniform(fan_in, fan_out):
    return math.sqrt(6 / (fan_in + fan_out))


LAYERS = {  # name: the bound of a uniform distribution, or the deviation of a normal one
    "backbone.fpn_lateral5": (uniform(2048, 256), None),
    "backbone.fpn_output2": (uniform(256 * 9, 256 * 9), None),
    "proposal_generator.rpn_head.conv": (None, 0.01),
    "proposal_generator.rpn_head.objectness_logits": (None, 0.01),
    "proposal_generator.rpn_head.anchor_deltas": (None, 0.01),
    "roi_heads.box_head.conv1": (None, math.sqrt(2 / (256 * 9))),
    "roi_heads.box_head.fc1": (uniform(256 * 49, 1024), None),
    "roi_heads.box_predictor.cls_score": (None, 0.01),
    "roi_heads.box_predictor.bbox_pred": (None, 0.001),
    "roi_heads.mask_head.mask_fcn4": (None, math.sqrt(2 / (256 * 9))),
    "roi_heads.mask_head.deconv": (None, math.sqrt(2 / (256 * 4))),
    "roi_heads.mask_head.predictor": (None, math.sqrt(2 / 80)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_starts_as_the_authors(name, paper_model):
    bound, deviation = LAYERS[name]
    layer = paper_model.get_submodule(name)
    weight = layer.weight.detach().double()
    expected = bound / math.sqrt(3) if bound else deviation
    assert weight.std().item() == pytest.approx(expected, rel=4 / math.sqrt(2 * weight.numel()))
    assert abs(weight.mean().item()) < 4 * expected / math.sqrt(weight.numel())
    kurtosis = (weight**4).mean() / (weight**2).mean() ** 2
    assert kurtosis.item() == pytest.approx(1.8 if bound else 3.0, abs=0.4)
    if bound:
        assert weight.abs().max().item() <= bound * (1 + 1e-6)
    if layer.bias is not None:
        assert (layer.bias == 0).all()
    if isinstance(getattr(layer, "norm", None), torch.nn.BatchNorm2d):
        assert (layer.norm.weight == 1).all()
        assert (layer.norm.bias == 0).all()
