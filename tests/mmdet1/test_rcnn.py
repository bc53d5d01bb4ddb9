"""MMDet1RCNN beside its parity with the authors: scales, batches, and what it refuses."""

import numpy as np
import pytest
import torch
from detectron2.export import TracingAdapter
from detectron2.modeling import GeneralizedRCNNWithTTA, build_model
from detectron2.structures import Boxes, Instances, PolygonMasks
from detectron2.utils.events import EventStorage

from dnl_det.engine import load_config


@pytest.fixture
def config(root, tiny):
    cfg = load_config(str(root / "configs/Shapes/baseline.yaml"), tiny)
    cfg.MODEL.META_ARCHITECTURE = "MMDet1RCNN"
    cfg.MODEL.ANCHOR_GENERATOR.NAME = "MMDet1AnchorGenerator"
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    return cfg


@pytest.fixture
def model(config):
    torch.manual_seed(0)
    return build_model(config).eval()


def image(h, w, **original):
    noise = torch.randint(0, 256, (3, h, w), generator=torch.manual_seed(h), dtype=torch.uint8)
    return {"image": noise, **original}


def detect(model, *inputs):
    with torch.no_grad():
        return [output["instances"] for output in model(list(inputs))]


@pytest.mark.parametrize(
    ("original", "limits", "expected"),
    [
        ((427, 640), (800, 1333), 800 / 427),  # the shorter side decides
        ((300, 900), (800, 1333), 1333 / 900),  # the longer one does
        ((160, 200), (256, 1333), 1.6),
    ],
)
def test_the_scale_is_the_one_before_rounding(model, original, limits, expected):
    model.min_size, model.max_size = limits
    sides = tuple(int(side * expected + 0.5) for side in original)
    inputs = {"height": original[0], "width": original[1]}
    scale = model._scale(sides, inputs, torch.device("cpu"))
    assert scale.tolist() == pytest.approx([expected] * 4, rel=1e-7)


def test_an_image_resized_otherwise_is_scaled_side_by_side(model):
    scale = model._scale((64, 96), {"height": 128, "width": 48}, torch.device("cpu"))
    assert scale.tolist() == [2.0, 0.5, 2.0, 0.5]
    assert model._scale((64, 96), {}, torch.device("cpu")).tolist() == [1.0] * 4


def test_a_batch_gives_what_its_images_give(model):
    # Both are padded to 64 x 96, alone as well as together.
    inputs = image(64, 96, height=48, width=72), image(60, 90, height=120, width=180)
    alone_each = [detect(model, one)[0] for one in inputs]
    for together, alone in zip(detect(model, *inputs), alone_each, strict=True):
        assert together.image_size == alone.image_size
        assert len(together) == len(alone) > 0
        torch.testing.assert_close(together.scores, alone.scores, atol=1e-5, rtol=1e-4)
        assert together.pred_masks.shape == (len(alone), *alone.image_size)


def test_suppression_counts_pixels_of_the_original(model):
    """Two boxes whose overlap is below the threshold in one image and above it in the other."""
    model.roi_heads.box_predictor.test_nms_thresh = 0.5
    model.roi_heads.box_predictor.test_score_thresh = 0.05
    classes = model.roi_heads.num_classes
    # 12 x 12 pixels of the resized image, shifted by 4.1: IoU (12 - 4.1) / (12 + 4.1) = 0.49.
    corners = torch.tensor([[10.0, 10.0, 22.0, 22.0], [14.1, 10.0, 26.1, 22.0]])
    probabilities = torch.zeros(2, classes + 1)
    probabilities[:, 2] = torch.tensor([0.9, 0.8])

    def survivors(scale):
        boxes = corners.repeat(1, classes)
        return model._suppress(boxes, probabilities, torch.full((4,), scale), (100, 100))

    assert len(survivors(1.0)) == 2
    # Shrunk by 4 they are 11 / 4 + 1 = 3.75 wide and 1.025 apart: IoU 0.57.
    found = survivors(4.0)
    assert len(found) == 1
    assert found.pred_classes.tolist() == [2]
    np.testing.assert_allclose(found.pred_boxes.tensor, corners[:1], atol=1e-5)
    np.testing.assert_allclose(found.original_boxes, [[2.5, 2.5, 5.25, 5.25]], atol=1e-6)


def test_no_detections_and_non_finite_ones(model):
    classes = model.roi_heads.num_classes
    empty = model._suppress(
        torch.zeros(0, 4 * classes), torch.zeros(0, classes + 1), torch.ones(4), (50, 50)
    )
    assert len(empty) == 0
    boxes, scores = torch.full((2, 4 * classes), 5.0), torch.full((2, classes + 1), 0.5)
    boxes[0, 0] = torch.inf
    assert (model._suppress(boxes, scores, torch.ones(4), (50, 50)).scores == 0.5).all()
    model.roi_heads.box_predictor.test_score_thresh = 1.0
    (none,) = detect(model, image(64, 64, height=32, width=32))
    assert len(none) == 0
    assert none.pred_masks.shape == (0, 32, 32)


def test_class_agnostic_boxes(config):
    config.MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG = True
    (found,) = detect(build_model(config).eval(), image(64, 64))
    assert len(found) > 0


def test_given_boxes_and_test_time_augmentation(config, model):
    inputs = image(64, 96, height=128, width=192)
    with torch.no_grad():
        (found,) = model.inference([inputs], do_postprocess=False)
        assert found.image_size == (64, 96)
        assert not found.has("original_boxes")
        (again,) = model.inference([inputs], detected_instances=[found])
    assert again["instances"].pred_masks.shape == (len(found), 128, 192)
    config.TEST.AUG.MIN_SIZES = (64,)
    augmented = GeneralizedRCNNWithTTA(config, model)
    with torch.no_grad():
        (result,) = augmented([inputs])
    assert isinstance(result["instances"].pred_boxes, Boxes)


def test_key_points_are_scaled_to_the_original_image(config):
    config.MODEL.KEYPOINT_ON = True
    config.MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS = 3
    config.MODEL.ROI_KEYPOINT_HEAD.CONV_DIMS = (8,)
    torch.manual_seed(0)
    model, inputs = build_model(config).eval(), image(64, 96, height=128, width=288)
    (found,) = detect(model, inputs)
    with torch.no_grad():
        (resized,) = model.inference([inputs], do_postprocess=False)
    assert len(found) > 0
    expected = resized.pred_keypoints * torch.tensor([3.0, 2.0, 1.0])
    torch.testing.assert_close(found.pred_keypoints, expected)
    assert found.pred_keypoints.shape == (len(found), 3, 3)


def test_other_roi_heads_are_refused(config):
    config.MODEL.ROI_HEADS.NAME = "CascadeROIHeads"
    config.MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG = True
    with pytest.raises(ValueError, match="MODEL.ROI_HEADS.NAME: CascadeROIHeads does not compute"):
        build_model(config)


def without_postprocessing(model, inputs):
    return model.inference(inputs, do_postprocess=False)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_a_trace_takes_another_size_and_number_of_proposals(model):
    model.proposal_generator.post_nms_topk[False] = 1000  # more than there are
    adapter = TracingAdapter(model, [image(64, 96)], without_postprocessing)
    trace = torch.jit.trace(adapter, adapter.flattened_inputs, check_trace=False)
    other = image(32, 48)
    with torch.no_grad():
        found = adapter.outputs_schema(trace(other["image"]))[0]
        expected = without_postprocessing(model, [other])[0]
    assert len(expected) > 0
    torch.testing.assert_close(found.pred_boxes.tensor, expected.pred_boxes.tensor)
    for field in ("scores", "pred_classes", "pred_masks"):
        torch.testing.assert_close(found.get(field), expected.get(field))


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_a_trace_that_would_keep_the_masks_of_its_example_is_refused(model):
    adapter = TracingAdapter(model, [image(64, 96)])
    with pytest.raises(ValueError, match=r"do_postprocess=False.*GeneralizedRCNN"):
        torch.jit.trace(adapter, adapter.flattened_inputs, check_trace=False)


def test_detections_beyond_the_edge_keep_their_last_pixel(model):
    boxes = torch.tensor([[70.0, 10, 90, 30], [-20, -20, -5, -5], [10, 10, 20, 20]])
    boxes = boxes.repeat(1, model.roi_heads.num_classes)
    probabilities = torch.full((3, model.roi_heads.num_classes + 1), 0.01)
    probabilities[:, 0] = torch.tensor([0.9, 0.8, 0.7])
    model.roi_heads.box_predictor.test_score_thresh = 0.5
    found = model._suppress(boxes, probabilities, torch.ones(4), (40, 60))
    assert found.pred_boxes.tensor.tolist() == [[59, 10, 60, 30], [0, 0, 1, 1], [10, 10, 20, 20]]


@pytest.mark.parametrize("counts", [(2, 0), (0, 0)])
def test_images_without_objects_train(model, counts):
    corners = torch.tensor([[5.0, 5, 50, 60], [60, 20, 100, 80]])
    batch = []
    for count in counts:
        instances = Instances((96, 128))
        instances.gt_boxes = Boxes(corners[:count])
        instances.gt_classes = torch.zeros(count, dtype=torch.int64)
        polygons = [[np.array([x1, y1, x2, y1, x2, y2])] for x1, y1, x2, y2 in corners.tolist()]
        instances.gt_masks = PolygonMasks(polygons[:count])
        batch.append({**image(96, 128), "instances": instances})
    with EventStorage():
        losses = model.train()(batch)
    sum(losses.values()).backward()
    assert set(losses) == {f"loss_{n}" for n in ("cls", "box_reg", "mask", "rpn_cls", "rpn_loc")}
    for name, loss in losses.items():
        of_backgrounds = name in ("loss_cls", "loss_rpn_cls")
        assert (loss.item() > 0) == (of_backgrounds or sum(counts) > 0), name
