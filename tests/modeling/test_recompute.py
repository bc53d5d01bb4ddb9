"""MODEL.DNL.CHECKPOINT: the same gradients, statistics and names, in less memory."""

import copy
import ctypes
import gc
import os
from pathlib import Path

import pytest
import torch
from detectron2.config import get_cfg
from detectron2.layers import ShapeSpec

from dnl_det import add_dnl_config
from dnl_det.modeling.backbone import build_dnl_resnet_backbone
from dnl_det.modeling.recompute import recompute_stages

STAGES = ["res3", "res4", "res5"]


def build(stages, norm="BN", dnl=True, seed=0):
    cfg = get_cfg()
    add_dnl_config(cfg)
    cfg.MODEL.RESNETS.DEPTH = 18
    cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 64
    cfg.MODEL.RESNETS.NORM = norm
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res2", *STAGES]
    cfg.MODEL.BACKBONE.FREEZE_AT = 1
    cfg.MODEL.DNL.BLOCK = "dnl" if dnl else "none"
    cfg.MODEL.DNL.RES4 = [-1]
    cfg.MODEL.DNL.CHECKPOINT = stages
    torch.manual_seed(seed)
    return build_dnl_resnet_backbone(cfg, ShapeSpec(channels=3)).double()


def step(model, x):
    """Loss, and all gradients and buffers, after a forward and backward pass."""
    loss = sum(feature.square().mean() for feature in model(x).values())
    model.zero_grad()
    loss.backward()
    gradients = {key: p.grad for key, p in model.named_parameters() if p.requires_grad}
    return loss.detach(), gradients, dict(model.named_buffers())


@pytest.mark.parametrize("norm", ["BN", "FrozenBN", "naiveSyncBN", "GN"])
def test_gradients_and_statistics_are_the_same(norm):
    kept, recomputed = build([], norm).train(), build(STAGES, norm).train()
    assert kept.state_dict().keys() == recomputed.state_dict().keys()
    x = torch.randn(2, 3, 64, 96, dtype=torch.float64)
    for _ in range(2):  # the second pass sees the statistics of the first
        torch.testing.assert_close(step(recomputed, x), step(kept, x), rtol=0, atol=1e-12)
    if norm == "BN":
        assert recomputed.res4[0].conv1.norm.num_batches_tracked == 2
        assert recomputed.res4[0].conv1.norm.momentum == 0.1


def test_inference_and_a_copy_are_the_same():
    model = build(STAGES).eval()
    x = torch.randn(1, 3, 64, 64, dtype=torch.float64)
    clone = copy.deepcopy(model)
    with torch.no_grad():
        before = model(x)["res5"]
        for parameter in model.parameters():
            parameter.zero_()
        assert torch.equal(clone(x)["res5"], before)  # of its own parameters
        assert not torch.equal(model(x)["res5"], before)


def resident():
    """Bytes of memory that this process has, what was freed given back."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux' account of memory")
@pytest.mark.parametrize(("stages", "share"), [(STAGES, 0.75), (["res2", *STAGES], 0.4)])
def test_less_is_kept_for_the_backward_pass(stages, share):
    """Measured 34 and 15 MiB of 53."""
    x = torch.randn(1, 3, 320, 320, dtype=torch.float64)
    kept = []
    for recomputed in ([], stages):
        model = build(recomputed, dnl=False).train()
        model(x)  # what is set up once
        before = resident()
        features = model(x)
        kept.append(resident() - before)
        assert features["res5"].requires_grad
    assert kept[0] > 40 * 2**20
    assert kept[1] < share * kept[0]


def test_an_unknown_stage_is_named():
    with pytest.raises(ValueError, match=r"MODEL.DNL.CHECKPOINT: no stage 'res6' .* res4, res5"):
        recompute_stages(build([]), ["res6"])
