"""The authors' recipe, item by item, in what each of the paper's configs builds."""

import numpy as np
import pytest
import torch
from detectron2.layers import FrozenBatchNorm2d
from torch import nn

from dnl_det.data import OpenCVMapper, build_mapper
from dnl_det.data.images import OpenCVResizeShortestEdge, OpenCVResizeTransform
from dnl_det.engine import Trainer, load_config
from dnl_det.mmdet1 import InclusiveResize, MMDet1AnchorGenerator, MMDet1RCNN
from dnl_det.mmdet1.roi_heads import MMDet1ROIAlign

from .test_recipe import REPORTED

PLACES = {"c4": {"res4": [4]}, "c4_c5all": {"res4": [4], "res5": [0, 1, 2]}, "": {}}
CPU = ["MODEL.DEVICE", "cpu"]


def build(root, name):
    cfg = load_config(str(root / "configs" / f"{name}.yaml"), CPU)
    return cfg, Trainer.build_model(cfg)


@pytest.mark.parametrize("name", sorted(REPORTED))
def test_a_built_model_trains_as_the_authors_did(name, root):
    cfg, model = build(root, name)
    assert type(model) is MMDet1RCNN
    check_start_and_frozen_part(model)
    check_norms(model)
    check_attention(model, name)
    check_proposals(model.proposal_generator)
    check_regions(model.roi_heads)
    optimizer = Trainer.build_optimizer(cfg, model)
    check_optimizer(optimizer, model, rate=REPORTED[name][3])
    check_schedule(Trainer.build_lr_scheduler(cfg, optimizer), *REPORTED[name][2:])
    check_images(cfg)


def check_start_and_frozen_part(model):
    assert model.pixel_mean.flatten().tolist() == pytest.approx([123.675, 116.28, 103.53])
    assert model.pixel_std.flatten().tolist() == pytest.approx([58.395, 57.12, 57.375])
    assert model.input_format == "RGB"
    resnet = model.backbone.bottom_up
    assert [len(getattr(resnet, stage)) for stage in ("res2", "res3", "res4", "res5")] == [
        *(3, 4, 6, 3)
    ]
    for stage in ("res3", "res4", "res5"):
        first = getattr(resnet, stage)[0]
        assert (first.conv1.stride, first.conv2.stride) == ((1, 1), (2, 2))
    frozen = [p for part in (resnet.stem, resnet.res2) for p in part.parameters()]
    assert not any(p.requires_grad for p in frozen)
    assert all(p.requires_grad for p in model.parameters() if not any(p is f for f in frozen))


def check_norms(model):
    """Of a run in several processes these are SyncBN; its kinds have the same eps and momentum."""
    resnet = model.backbone.bottom_up
    frozen = [m for m in model.modules() if isinstance(m, FrozenBatchNorm2d)]
    inside = {m for part in (resnet.stem, resnet.res2) for m in part.modules()}
    assert set(frozen) <= inside
    assert len(frozen) == 1 + 3 * 3 + 1
    trained = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    # res3, res4 and res5 with a shortcut each; four levels; four convolutions in each head.
    assert len(trained) == (4 * 3 + 1) + (6 * 3 + 1) + (3 * 3 + 1) + 4 * 2 + 4 + 4
    assert {m.eps for m in frozen + trained} == {1e-5}
    assert {m.momentum for m in trained} == {0.1}


def check_attention(model, name):
    places = name.split("FPN_")[1].removesuffix("1x").strip("_").partition("_")[2]
    resnet = model.backbone.bottom_up
    found = {}
    for stage in ("res2", "res3", "res4", "res5"):
        carrying = [i for i, b in enumerate(getattr(resnet, stage)) if hasattr(b, "attention")]
        if carrying:
            found[stage] = carrying
    assert found == PLACES[places]


def check_proposals(rpn):
    assert rpn.pre_nms_topk == {True: 2000, False: 1000}
    assert rpn.post_nms_topk == {True: 2000, False: 1000}
    assert rpn.nms_thresh == 0.7
    assert rpn.smooth_l1_beta == pytest.approx(1 / 9)
    assert rpn.box_reg_loss_type == "smooth_l1"
    assert rpn.anchor_boundary_thresh == 0
    assert rpn.box2box_transform.weights == (1.0, 1.0, 1.0, 1.0)
    assert rpn.anchor_matcher.thresholds[1:-1] == [0.3, 0.7]
    assert (rpn.batch_size_per_image, rpn.positive_fraction) == (256, 0.5)
    assert type(rpn.anchor_generator) is MMDet1AnchorGenerator
    assert rpn.anchor_generator.num_anchors == [3] * 5
    assert rpn.anchor_generator.strides == [4, 8, 16, 32, 64]


def check_regions(heads):
    for pooler, size in ((heads.box_pooler, 7), (heads.mask_pooler, 14)):
        assert len(pooler.level_poolers) == 4
        for align in pooler.level_poolers:
            assert type(align) is MMDet1ROIAlign
            assert align.sampling_ratio == 2
            assert align.output_size == (size, size)
        assert (pooler.canonical_box_size, pooler.canonical_level) == (224, 4)
    assert (heads.batch_size_per_image, heads.positive_fraction) == (512, 0.25)
    assert heads.proposal_matcher.thresholds[1:-1] == [0.5]
    assert heads.proposal_append_gt
    assert [type(m) for m in heads.box_head.children()].count(nn.Linear) == 1
    assert heads.box_head.fc1.out_features == 1024
    assert [len(heads.box_head.conv_norm_relus), len(heads.mask_head.conv_norm_relus)] == [4, 4]
    predictor = heads.box_predictor
    assert predictor.smooth_l1_beta == 1.0
    assert predictor.box_reg_loss_type == "smooth_l1"
    assert predictor.box2box_transform.weights == (10.0, 10.0, 5.0, 5.0)
    assert predictor.bbox_pred.out_features == 4 * 80
    assert heads.mask_head.predictor.out_channels == 80
    test = (predictor.test_score_thresh, predictor.test_nms_thresh, predictor.test_topk_per_image)
    assert test == (0.05, 0.5, 100)


def check_optimizer(optimizer, model, rate):
    """One step is that of SGD with decay on everything and the whole gradient clipped at 35."""
    assert isinstance(optimizer, torch.optim.SGD)
    parameters = [p for p in model.parameters() if p.requires_grad]
    assert {p for group in optimizer.param_groups for p in group["params"]} == set(parameters)
    for group in optimizer.param_groups:
        values = [group[key] for key in ("lr", "momentum", "weight_decay", "nesterov")]
        assert values == [rate, 0.9, 0.0001, False]
    count = sum(p.numel() for p in parameters)
    share = rate * 35 / count**0.5
    before = {p: p.detach().clone() for p in parameters}
    for parameter in parameters:
        parameter.grad = torch.full_like(parameter, 70 / count**0.5)  # all together: a norm of 70
    optimizer.step()
    for parameter, value in before.items():
        # The float32 sum of that many squares is good to some thousandths.
        expected = value - share - rate * 0.0001 * value
        torch.testing.assert_close(parameter.detach(), expected, rtol=1e-6, atol=3e-3 * share)


def check_schedule(scheduler, batch, rate):
    def at(iteration):
        scheduler.last_epoch = iteration - 1
        scheduler.step()
        return scheduler.get_last_lr()[0] / rate

    epoch = -(-117_266 // batch)
    warming = [at(iteration) for iteration in (0, 125, 250, 499)]
    assert warming == pytest.approx([1 - 2 / 3 * (1 - i / 500) for i in (0, 125, 250, 499)])
    later = [500, 8 * epoch - 1, 8 * epoch, 11 * epoch - 1, 11 * epoch, 12 * epoch - 1]
    assert [at(i) for i in later] == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])


def check_images(cfg):
    mapper = build_mapper(cfg, is_train=True)
    assert type(mapper) is OpenCVMapper
    assert (mapper.image_format, mapper.instance_mask_format) == ("RGB", "polygon")
    resize, flip = mapper.augmentations.augs
    assert (flip.prob, flip.horizontal, flip.vertical) == (0.5, True, False)
    for one in (resize, build_mapper(cfg, is_train=False).augmentations.augs[0]):
        assert type(one) is InclusiveResize
        assert type(one.resize) is OpenCVResizeShortestEdge
        transform = one.resize.get_transform(np.zeros((427, 640, 3), np.uint8))
        assert type(transform) is OpenCVResizeTransform
        assert (transform.new_h, transform.new_w) == (800, 1199)
    assert cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS
    assert cfg.DATALOADER.ASPECT_RATIO_GROUPING
    assert not cfg.INPUT.CROP.ENABLED
