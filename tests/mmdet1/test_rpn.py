"""Anchors inside the image, the losses' divisor and clipped proposals, by cases made by hand."""

import pytest
import torch
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage

from dnl_det.engine import load_config
from dnl_det.mmdet1 import MMDet1RCNN


@pytest.fixture(scope="module")
def rpn(root):
    cfg = load_config(str(root / "configs/Shapes/baseline.yaml"), ["MODEL.DEVICE", "cpu"])
    cfg.MODEL.META_ARCHITECTURE = "MMDet1RCNN"
    cfg.MODEL.RPN.BOUNDARY_THRESH = 0
    return MMDet1RCNN(cfg).proposal_generator


def targets(boxes, height=40, width=50):
    image = Instances((height, width))
    image.gt_boxes = Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4))
    return image


def label(rpn, anchors, *images):
    """All positive and negative anchors: fewer than may be sampled."""
    labels, boxes = rpn.label_and_sample_anchors([Boxes(torch.tensor(anchors))], list(images))
    return [image.tolist() for image in labels], boxes


def test_an_anchor_that_ends_at_the_edge_is_inside(rpn):
    anchors = [
        [0.0, 0.0, 50.0, 40.0],  # the whole image
        [20.0, 20.0, 51.0, 40.0],  # one pixel beyond
        [20.0, 20.0, 50.0, 41.0],
        [-1.0, 0.0, 20.0, 20.0],
        [0.0, -1.0, 20.0, 20.0],
    ]
    assert label(rpn, anchors, targets([]))[0] == [[0, -1, -1, -1, -1]]


def test_the_best_anchor_is_the_best_inside(rpn):
    # The second overlaps the object most, and leaves the image.
    anchors = [[0.0, 0.0, 20.0, 20.0], [-2.0, 0.0, 30.0, 20.0], [40.0, 20.0, 50.0, 40.0]]
    (labels,), (boxes,) = label(rpn, anchors, targets([[0, 0, 32, 20]]))
    assert labels == [1, -1, 0]
    assert boxes[0].tolist() == [0, 0, 32, 20]


def test_each_image_has_its_own_edge_and_one_without_objects_only_negatives(rpn):
    anchors = [[0.0, 0.0, 20.0, 20.0], [30.0, 0.0, 50.0, 20.0]]
    labels, boxes = label(rpn, anchors, targets([[0, 0, 20, 20]]), targets([], width=49))
    assert labels == [[1, 0], [0, -1]]
    assert boxes[1].tolist() == [[0] * 4] * 2


@pytest.mark.parametrize(
    ("labels", "sampled"),
    [
        ([[1, 0, 0, -1], [0, 0, -1, -1]], (1 + 2) + (1 + 2)),  # no positive counts as one
        ([[1, 1, -1, -1], [1, 0, 0, 0]], (2 + 1) + (1 + 3)),
    ],
)
def test_losses_are_divided_by_the_anchors_sampled(rpn, labels, sampled):
    anchors = [Boxes(torch.tensor([[0.0, 0.0, 10.0, 10.0]] * 4))]
    labels = [torch.tensor(image, dtype=torch.int8) for image in labels]
    logits = torch.zeros(2, 4)
    deltas = torch.full((2, 4, 4), 2.0)
    boxes = [anchors[0].tensor] * 2  # their own deltas are 0
    with EventStorage():
        losses = rpn.losses(anchors, [logits], labels, [deltas], boxes)
    chosen = sum((image >= 0).sum().item() for image in labels)
    positive = sum((image == 1).sum().item() for image in labels)
    # log 2 for each anchor; |2| - beta / 2 for each delta of a positive one.
    beta = rpn.smooth_l1_beta
    assert losses["loss_rpn_cls"].item() == pytest.approx(chosen * 0.6931472 / sampled)
    assert losses["loss_rpn_loc"].item() == pytest.approx(positive * 4 * (2 - beta / 2) / sampled)


def test_proposals_are_clipped_to_whole_pixels(rpn):
    anchors = [
        Boxes(torch.tensor([[-9.0, -9.0, 60.0, 70.0], [55.0, 45.0, 60.0, 50.0], [5.0, 6, 7, 8]]))
    ]
    logits, deltas = torch.tensor([[3.0, 2.0, 1.0]] * 2), torch.zeros(2, 3, 4)
    sizes = [(40, 50), (30, 70)]
    first, second = rpn.predict_proposals(anchors, [logits], [deltas], sizes)
    assert first.proposal_boxes.tensor.tolist() == [[0, 0, 50, 40], [49, 39, 50, 40], [5, 6, 7, 8]]
    assert second.proposal_boxes.tensor.tolist() == [[0, 0, 60, 30], [55, 29, 60, 30], [5, 6, 7, 8]]


def test_half_precision_does_not_round_the_image_s_size(rpn):
    anchors = [Boxes(torch.tensor([[1400.0, 0.0, 1500.0, 20.0]]))]
    logits, deltas = torch.zeros(1, 1), torch.zeros(1, 1, 4, dtype=torch.bfloat16)
    (found,) = rpn.predict_proposals(anchors, [logits], [deltas], [(801, 1333)])
    assert found.proposal_boxes.tensor.tolist() == [[1332, 0, 1333, 20]]


def test_infinite_proposals_end_a_training(rpn):
    anchors = [Boxes(torch.tensor([[0.0, 0.0, 10.0, 10.0]]))]
    deltas = torch.tensor([[[float("inf"), 0.0, 0.0, 0.0]]])
    rpn.train()
    with pytest.raises(FloatingPointError, match="Training has diverged"):
        rpn.predict_proposals(anchors, [torch.zeros(1, 1)], [deltas], [(40, 50)])
