"""Anchors against the formula, cell by cell."""

import numpy as np
import pytest
import torch
from detectron2.config import get_cfg
from detectron2.layers import ShapeSpec
from detectron2.modeling.anchor_generator import build_anchor_generator

from dnl_det.mmdet1.anchors import MMDet1AnchorGenerator

RATIOS = (0.5, 1.0, 2.0)


@pytest.mark.parametrize("stride", [4, 8, 16, 32, 64])
def test_an_anchor_at_every_cell(stride):
    size = 8 * stride
    make = MMDet1AnchorGenerator(sizes=[[size]], aspect_ratios=[list(RATIOS)], strides=[stride])
    (anchors,) = make([torch.zeros(1, 1, 2, 3)])
    expected = []
    for row in range(2):
        for column in range(3):
            for ratio in RATIOS:
                centre, w, h = 0.5 * (stride - 1), size / ratio**0.5, size * ratio**0.5
                x1, y1 = np.round(centre - 0.5 * (w - 1)), np.round(centre - 0.5 * (h - 1))
                x2, y2 = np.round(centre + 0.5 * (w - 1)), np.round(centre + 0.5 * (h - 1))
                x, y = column * stride, row * stride
                expected.append([x1 + x, y1 + y, x2 + x + 1, y2 + y + 1])
    assert anchors.tensor.tolist() == expected


def test_the_first_anchors_of_stride_16_are_the_well_known_ones():
    # Of py-faster-rcnn's generate_anchors, which mmdetection follows, at scale 8 (inclusive).
    make = MMDet1AnchorGenerator(sizes=[[128]], aspect_ratios=[[0.5, 1.0, 2.0]], strides=[16])
    (anchors,) = make([torch.zeros(1, 1, 1, 1)])
    assert anchors.tensor[1].tolist() == [-56, -56, 72, 72]


def test_config_builds_it_and_a_shifted_grid_is_refused():
    cfg = get_cfg()
    cfg.MODEL.ANCHOR_GENERATOR.NAME = "MMDet1AnchorGenerator"
    make = build_anchor_generator(cfg, [ShapeSpec(stride=16)])
    assert isinstance(make, MMDet1AnchorGenerator)
    assert make.num_anchors == [15]  # detectron2's default: 5 sizes, 3 ratios
    cfg.MODEL.ANCHOR_GENERATOR.OFFSET = 0.5
    with pytest.raises(ValueError, match="MODEL.ANCHOR_GENERATOR.OFFSET: 0.5 must be 0.0"):
        build_anchor_generator(cfg, [ShapeSpec(stride=16)])
