"""Inference at an image's own size, at once and in windows."""

import pytest
import torch
from detectron2.modeling import build_model
from torch.nn import functional as F

from dnl_det.modeling.semantic.segmentor import _spans


@pytest.fixture
def model(small_cfg):
    torch.manual_seed(0)
    return build_model(small_cfg()).eval()


def image(height, width, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (3, height, width), generator=generator).to(torch.uint8)


@torch.no_grad()
def segment(model, *inputs):
    return [one["sem_seg"] for one in model(list(inputs))]


def test_logits_have_the_size_of_the_original_image(model):
    (logits,) = segment(model, {"image": image(61, 75), "height": 122, "width": 150})
    small = segment(model, {"image": image(61, 75)})[0]
    assert small.shape == (5, 61, 75)
    torch.testing.assert_close(logits, F.interpolate(small[None], (122, 150), mode="bilinear")[0])


def test_images_of_a_batch_do_not_pad_each_other(model):
    first, second = {"image": image(61, 75)}, {"image": image(90, 64, seed=1)}
    together = segment(model, first, second)
    torch.testing.assert_close(together, [segment(model, x)[0] for x in (first, second)])


@pytest.mark.parametrize("length", [5, 8, 9, 13, 14, 20, 21])
def test_windows_cover_a_side_and_are_flush_with_its_end(length):
    spans = list(_spans(length, 8, 5))
    assert spans[0].start == 0
    assert spans[-1].stop == length
    assert all(span.stop - span.start == min(8, length) for span in spans)
    assert {i for span in spans for i in range(span.start, span.stop)} == set(range(length))
    assert len(spans) == max(length - 8 + 5 - 1, 0) // 5 + 1


def test_logits_of_windows_are_averaged(model):
    x = {"image": image(64, 100)}
    model.window, model.window_stride = (64, 64), (64, 36)
    found = segment(model, x)[0]
    model.window = ()
    left, right = (segment(model, {"image": x["image"][:, :, a : a + 64]})[0] for a in (0, 36))
    torch.testing.assert_close(found[:, :, :36], left[:, :, :36])
    torch.testing.assert_close(found[:, :, 36:64], (left[:, :, 36:] + right[:, :, :28]) / 2)
    torch.testing.assert_close(found[:, :, 64:], right[:, :, 28:])


def test_a_window_as_large_as_the_image_changes_nothing(model):
    x = {"image": image(50, 70)}
    whole = segment(model, x)
    model.window, model.window_stride = (64, 80), (64, 80)
    torch.testing.assert_close(segment(model, x), whole)


FPN = {
    "BACKBONE__NAME": "build_dnl_resnet_fpn_backbone",
    "DNL__BLOCK": "none",
    "FPN__IN_FEATURES": ["res2", "res3", "res4", "res5"],
    "FPN__OUT_CHANNELS": 8,
    "RESNETS__OUT_FEATURES": ["res2", "res3", "res4", "res5"],
    "RESNETS__RES4_DILATION": 1,
    "RESNETS__RES5_DILATION": 1,
    "SEM_SEG_HEAD__IN_FEATURES": ["p2", "p3", "p4", "p5"],
}


@pytest.mark.parametrize("head", ["SemSegFPNHead", "DNLSemSegHead"])
def test_it_takes_other_heads_and_backbones_that_pad(small_cfg, head):
    cfg = small_cfg(SEM_SEG_HEAD__NAME=head, SEM_SEG_HEAD__NORM="GN", **FPN)
    if head == "SemSegFPNHead":
        cfg.MODEL.SEM_SEG_HEAD.CONVS_DIM = 32
    else:
        cfg.MODEL.SEM_SEG_HEAD.NORM = "BN"
    torch.manual_seed(0)
    ours = build_model(cfg).eval()
    cfg.MODEL.META_ARCHITECTURE = "SemanticSegmentor"
    theirs = build_model(cfg).eval()
    theirs.load_state_dict(ours.state_dict())
    x = {"image": image(61, 75), "height": 61, "width": 75}
    torch.testing.assert_close(segment(ours, x), segment(theirs, x))
    ours.window, ours.window_stride = (40, 40), (30, 30)
    assert segment(ours, x)[0].shape == (5, 61, 75)


def test_it_trains(small_cfg):
    torch.manual_seed(0)
    model = build_model(small_cfg(SEM_SEG_HEAD__AUX__LOSS_WEIGHT=0.4)).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    x = [{"image": image(64, 64, seed), "sem_seg": torch.full((64, 64), seed)} for seed in range(2)]
    losses = []
    for _ in range(15):
        loss = sum(model(x).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"TEST__SLIDING_WINDOW__SIZE": [64]}, r"SLIDING_WINDOW.SIZE: \[64\] must be a height"),
        ({"TEST__SLIDING_WINDOW__SIZE": [64, 64]}, r"SLIDING_WINDOW.STRIDE: \[\] must be two"),
        ({"SEM_SEG_HEAD__DROPOUT": 1.0}, "HEAD.DROPOUT: 1.0 must be a number from 0 to below 1"),
        ({"SEM_SEG_HEAD__LOSS_MEAN": "al"}, "LOSS_MEAN: 'al' is not one of .*did you mean all"),
        ({"SEM_SEG_HEAD__CLASS_WEIGHTS": [1.0]}, r"CLASS_WEIGHTS: \[1.0\] must be 5 numbers"),
        ({"SEM_SEG_HEAD__DNL__MODE": "join"}, "HEAD.DNL.MODE: 'join' .*did you mean joint"),
        ({"SEM_SEG_HEAD__DNL__OUT_NORM": True}, "HEAD.DNL.OUT_NORM: True needs an output"),
        ({"SEM_SEG_HEAD__OHEM_THRESHOLD": 0.0}, "OHEM_THRESHOLD: 0.0 must be a number above 0"),
        ({"SEM_SEG_HEAD__AUX__LOSS_WEIGHT": -1.0}, "AUX.LOSS_WEIGHT: -1.0 must be a number"),
        (
            {"SEM_SEG_HEAD__AUX__LOSS_WEIGHT": 0.4, "SEM_SEG_HEAD__AUX__IN_FEATURE": "res3"},
            "AUX.IN_FEATURE: 'res3' is not one of res4, res5",
        ),
        ({"SEM_SEG_HEAD__IN_FEATURES": ["p3"]}, "IN_FEATURES: 'p3' is not one of res4, res5"),
        ({"SEM_SEG_HEAD__NAME": "DNLHead"}, "NAME: 'DNLHead' is not one of .*DNLSemSegHead"),
        ({"RESNETS__RES4_DILATION": 1}, "RES4_DILATION, RES5_DILATION: 1, 4 must be 1, 1"),
        ({"RESNETS__STEM_TYPE": "deep"}, "STEM_TYPE: 'deep' is not one of .* mean deeplab"),
        ({"RESNETS__DEPTH": 18}, "DEPTH: 18 must be 50, 101 or 152"),
        ({"RESNETS__RES5_MULTI_GRID": [1, 2]}, r"RES5_MULTI_GRID: \[1, 2\] must be three"),
        ({"RESNETS__OUT_FEATURES": ["stem", "res5"]}, "OUT_FEATURES: .* must not have stem"),
    ],
)
def test_keys_are_checked(small_cfg, keys, message):
    from dnl_det.modeling import check_dnl_config

    with pytest.raises(ValueError, match=message):
        check_dnl_config(small_cfg(**keys))
