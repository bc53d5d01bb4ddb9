"""Boxes under resizing, against mmdetection's arithmetic, and back again by the detector's."""

import cv2
import numpy as np
import pytest
import torch
from detectron2.data import DatasetMapper
from detectron2.data import transforms as T
from detectron2.structures import BoxMode
from PIL import Image
from pycocotools import mask as mask_api

from dnl_det.data import build_mapper
from dnl_det.engine import load_config
from dnl_det.mmdet1 import MMDet1RCNN

PAPER = "configs/COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_dnl_c4_1x.yaml"
H, W = 427, 640
# x, y, width, height; the last one touches the right and lower edge.
BOXES = np.array([[10.0, 20.0, 300.0, 200.0], [5.5, 7.25, 12.5, 9.0], [600.0, 400.0, 40.0, 27.0]])


@pytest.fixture(params=["opencv", "pillow"])
def cfg(root, request):
    return load_config(str(root / PAPER), ["INPUT.IMAGE_LIBRARY", request.param])


POLYGON = [[1.3, 1.0, 90.0, 7.5, 33.0, 49.1]]


def training_boxes(mapper, tmp_path):
    Image.fromarray(np.zeros((H, W, 3), np.uint8)).save(tmp_path / "black.png")
    annotations = [
        {
            "bbox": box.tolist(),
            "bbox_mode": BoxMode.XYWH_ABS,
            "category_id": 0,
            "segmentation": POLYGON,
        }
        for box in BOXES
    ]
    sample = {"file_name": str(tmp_path / "black.png"), "annotations": annotations}
    result = mapper(sample | {"height": H, "width": W})
    return result["image"].shape[1:], result["instances"]


@pytest.mark.parametrize("flipped", [False, True])
def test_training_boxes_are_those_of_mmdetection(cfg, tmp_path, monkeypatch, flipped):
    monkeypatch.setattr(T.RandomFlip, "_rand_range", lambda self: 0.0 if flipped else 1.0)
    (h, w), instances = training_boxes(build_mapper(cfg, is_train=True), tmp_path)
    scale = min(1333 / 640, 800 / 427)
    assert (h, w) == (800, 1199)
    # Its steps: inclusive corners, scaled, clipped, flipped; then ours, which end one later.
    x1, y1, width, height = BOXES.T
    corners = np.stack([x1, y1, x1 + width - 1, y1 + height - 1], axis=1) * scale
    corners = np.clip(corners, 0, [w - 1, h - 1, w - 1, h - 1])
    if flipped:
        corners[:, [0, 2]] = w - corners[:, [2, 0]] - 1
    corners[:, 2:] += 1
    np.testing.assert_allclose(instances.gt_boxes.tensor, corners, rtol=0, atol=1e-4)
    # Its masks: rasterised in the image as it is, each pixel resized to the nearest, flipped.
    mask = mask_api.decode(mask_api.frPyObjects(POLYGON, H, W))[:, :, 0]
    mask = cv2.resize(mask, (w, h), interpolation=cv2.INTER_NEAREST)
    expected = mask[:, ::-1] if flipped else mask
    assert expected.any()
    for found in instances.gt_masks.tensor.numpy():
        assert (found == expected).all()


def test_an_augmentation_that_moves_masks_otherwise_is_refused(cfg, tmp_path):
    mapper = build_mapper(cfg, is_train=True)
    mapper.augmentations.augs.append(T.RandomRotation([20, 20]))
    with pytest.raises(ValueError, match="resized, flipped and cropped, and no more: .* Rotation"):
        training_boxes(mapper, tmp_path)


def test_a_perfect_detector_reports_the_annotated_boxes(cfg, root, tiny, tmp_path, monkeypatch):
    """What training asks for is what the detector's way back turns into the annotations."""
    monkeypatch.setattr(T.RandomFlip, "_rand_range", lambda self: 1.0)
    resized, instances = training_boxes(build_mapper(cfg, is_train=True), tmp_path)
    small = load_config(str(root / "configs/Shapes/baseline.yaml"), tiny)
    small.MODEL.META_ARCHITECTURE, small.MODEL.DEVICE = "MMDet1RCNN", "cpu"
    model = MMDet1RCNN(small)
    model.min_size, model.max_size = 800, 1333
    scale = model._scale(tuple(resized), {"height": H, "width": W}, torch.device("cpu"))
    classes = model.roi_heads.num_classes
    found = model._suppress(
        instances.gt_boxes.tensor.repeat(1, classes),
        torch.eye(3, classes + 1) * torch.tensor([[0.9], [0.8], [0.7]]),
        scale,
        tuple(resized),
    )
    x1, y1, x2, y2 = found.original_boxes.T
    reported = torch.stack([x1, y1, x2 - x1 + 1, y2 - y1 + 1], dim=1)
    np.testing.assert_allclose(reported, BOXES, rtol=0, atol=2e-3)


def test_detectron2_s_models_keep_detectron2_s_boxes(cfg, tmp_path, monkeypatch):
    monkeypatch.setattr(T.RandomFlip, "_rand_range", lambda self: 1.0)
    cfg.MODEL.META_ARCHITECTURE = "GeneralizedRCNN"
    _, instances = training_boxes(build_mapper(cfg, is_train=True), tmp_path)
    _, theirs = training_boxes(DatasetMapper(cfg, is_train=True), tmp_path)
    torch.testing.assert_close(instances.gt_boxes.tensor, theirs.gt_boxes.tensor)


def test_an_image_that_is_not_resized_keeps_its_boxes(cfg, tmp_path, monkeypatch):
    monkeypatch.setattr(T.RandomFlip, "_rand_range", lambda self: 1.0)
    cfg.INPUT.MIN_SIZE_TRAIN = (0,)
    resized, instances = training_boxes(build_mapper(cfg, is_train=True), tmp_path)
    assert tuple(resized) == (H, W)
    x1, y1, width, height = BOXES.T
    expected = np.stack([x1, y1, x1 + width, y1 + height], axis=1)
    np.testing.assert_allclose(instances.gt_boxes.tensor, expected)
