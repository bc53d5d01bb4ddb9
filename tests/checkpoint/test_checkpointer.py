"""Which checkpoints fill a model, which are refused, and what is said."""

import logging
import pickle

import pytest
import torch
from detectron2.config import get_cfg
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_backbone, build_resnet_backbone
from torch import nn

from dnl_det import add_dnl_config
from dnl_det.checkpoint import Checkpointer, WeightsNotFetchedError

FRESH = "start fresh, by design"


def config(depth=50, attention=True, norm="BN", full_width=False):
    cfg = get_cfg()
    add_dnl_config(cfg)
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.BACKBONE.NAME = "build_dnl_resnet_fpn_backbone"
    cfg.MODEL.BACKBONE.FREEZE_AT = 0
    cfg.MODEL.RESNETS.NORM = norm
    cfg.MODEL.RESNETS.DEPTH = depth
    cfg.MODEL.RESNETS.STEM_OUT_CHANNELS = 64 if depth < 50 or full_width else 8
    cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 64 if depth < 50 else 256 if full_width else 16
    cfg.MODEL.RESNETS.STRIDE_IN_1X1 = not full_width  # torchvision has it in the 3x3
    cfg.MODEL.RESNETS.WIDTH_PER_GROUP = 64 if depth < 50 or full_width else 4
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res2", "res3", "res4", "res5"]
    cfg.MODEL.FPN.IN_FEATURES = ["res2", "res3", "res4", "res5"]
    cfg.MODEL.FPN.OUT_CHANNELS = 8
    if attention:
        cfg.MODEL.DNL.RES4 = [-2]
        cfg.MODEL.DNL.RES5 = [-3, -2, -1]
    else:
        cfg.MODEL.DNL.BLOCK = "none"
    return cfg


class Detector(nn.Module):
    """As much of a detector as its backbone's and its heads' names."""

    def __init__(self, classes=80, **kwargs):
        super().__init__()
        self.backbone = build_backbone(config(**kwargs))
        self.roi_heads = nn.ModuleDict({"cls_score": nn.Linear(4, classes)})


def caffe2_name(key):
    """``res2.0.conv1.norm.weight`` as the original MSRA files call it."""
    key = key.replace("stem.conv1.norm", "res.conv1.bn").replace("stem.conv1", "conv1")
    for old, new in (("shortcut", "branch1"), ("conv1", "branch2a"), ("conv2", "branch2b")):
        if key.startswith(("res2", "res3", "res4", "res5")):
            key = key.replace(old, new)
    key = key.replace("conv3", "branch2c").replace(".norm", ".bn")
    head, leaf = key.rsplit(".", 1)
    leaf = {"weight": "s" if "bn" in head else "w", "bias": "b"}[leaf]
    return f"{head}.{leaf}".replace(".", "_")


def resnet_arrays(with_statistics):
    torch.manual_seed(7)
    resnet = build_resnet_backbone(config(), ShapeSpec(channels=3))
    arrays = {}
    for key, value in resnet.state_dict().items():
        if key.endswith("num_batches_tracked"):
            continue
        if with_statistics or not key.endswith(("running_mean", "running_var")):
            arrays[key] = torch.randn(value.shape).numpy()
    return arrays


def write_pickle(path, content):
    with open(path, "wb") as file:
        pickle.dump(content, file)
    return str(path)


@pytest.mark.parametrize("origin", ["torchvision", "MSRA"])
@pytest.mark.parametrize("norm", ["BN", "FrozenBN"])
def test_a_resnet_in_the_zoo_s_format_fills_every_parameter(tmp_path, caplog, origin, norm):
    arrays = resnet_arrays(with_statistics=origin == "torchvision")
    if origin == "torchvision":
        model = {**arrays, "stem.fc.weight": arrays["stem.conv1.weight"]}
        content = {"model": model, "__author__": "torchvision", "matching_heuristics": True}
    else:
        content = {caffe2_name(key): value for key, value in arrays.items()}
        assert "res2_0_branch2a_bn_s" in content
        assert "res_conv1_bn_b" in content
    detector = Detector(norm=norm)
    with caplog.at_level(logging.INFO):
        Checkpointer(detector).load(write_pickle(tmp_path / "R-50.pkl", content))

    state = detector.backbone.bottom_up.state_dict()
    for key, value in arrays.items():
        assert torch.equal(state[key], torch.from_numpy(value)), key
    fresh = [r.getMessage() for r in caplog.records if FRESH in r.getMessage()]
    assert len(fresh) == 1
    assert "in res4.4, res5.0, res5.1, res5.2 (32 tensors)" in fresh[0]
    warned = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert not any("attention" in message for message in warned)


def test_its_own_checkpoint_loads_whole_and_silently(tmp_path, caplog):
    first, second = Detector(), Detector()
    Checkpointer(first, str(tmp_path)).save("own", iteration=41)
    with caplog.at_level(logging.INFO):
        rest = Checkpointer(second).load(str(tmp_path / "own.pth"))
    assert rest["iteration"] == 41
    ours, theirs = first.state_dict(), second.state_dict()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert FRESH not in caplog.text


def test_heads_for_other_classes_are_left_out(tmp_path):
    Checkpointer(Detector(classes=80), str(tmp_path)).save("coco")
    detector = Detector(classes=3)
    before = detector.roi_heads["cls_score"].weight.clone()
    Checkpointer(detector).load(str(tmp_path / "coco.pth"))
    assert torch.equal(detector.roi_heads["cls_score"].weight, before)


@pytest.mark.parametrize(
    ("trained", "message"),
    [
        ({"classes": 80}, r"cls_score.weight is \(80, 4\) there and \(3, 4\) in the model"),
        ({"classes": 3, "attention": False}, r"it lacks backbone.bottom_up.res4.4.attention"),
        (None, r"it lacks roi_heads.cls_score.weight, roi_heads.cls_score.bias"),
    ],
)
def test_outside_training_nothing_may_be_left_at_random(tmp_path, trained, message):
    if trained is None:
        backbone = nn.ModuleDict({"backbone": Detector().backbone})
        Checkpointer(backbone, str(tmp_path)).save("other")
    else:
        Checkpointer(Detector(**trained), str(tmp_path)).save("other")
    file = str(tmp_path / "other.pth")
    Checkpointer(Detector(classes=3)).load(file)
    with pytest.raises(ValueError, match=rf"other.pth does not fill the model: .*{message}"):
        Checkpointer(Detector(classes=3), complete=True).load(file)


def test_frozen_statistics_and_counters_may_be_left_out(tmp_path):
    state = Detector(norm="FrozenBN").state_dict()
    torch.save({k: v for k, v in state.items() if "running_" not in k}, tmp_path / "frozen.pth")
    state = Detector().state_dict()
    counted = {k: v for k, v in state.items() if "num_batches" not in k}
    torch.save(counted, tmp_path / "bn.pth")
    torch.save({k: v for k, v in counted.items() if "running_" not in k}, tmp_path / "none.pth")
    frozen = Detector(norm="FrozenBN")
    Checkpointer(frozen, complete=True).load(str(tmp_path / "frozen.pth"))
    Checkpointer(Detector(), complete=True).load(str(tmp_path / "bn.pth"))
    with pytest.raises(ValueError, match=r"it lacks .*running_mean"):
        Checkpointer(Detector(), complete=True).load(str(tmp_path / "none.pth"))


@pytest.mark.parametrize(
    ("trained", "built", "message"),
    [
        ({"depth": 101}, {"depth": 50}, r"it has backbone.bottom_up.res4.6"),
        ({"depth": 50}, {"depth": 101}, r"it has backbone.bottom_up.res4.4.attention"),
        ({"attention": False}, {"depth": 101}, r"it lacks backbone.bottom_up.res4.6"),
        (
            {"depth": 34, "attention": False},
            {},
            r"res\d.\d+.conv1.weight is \(64, 64, 3, 3\) there",
        ),
        ({}, {"attention": False}, r"it has backbone.bottom_up.res4.4.attention.*model has not"),
    ],
)
def test_another_architecture_is_refused(tmp_path, trained, built, message):
    Checkpointer(Detector(**trained), str(tmp_path)).save("other")
    with pytest.raises(ValueError, match=rf"other.pth is of another architecture: .*{message}"):
        Checkpointer(Detector(**built)).load(str(tmp_path / "other.pth"))


def test_files_that_cannot_be_read_are_named(tmp_path):
    detector = Detector(depth=18, attention=False)
    with pytest.raises(FileNotFoundError, match=r"MODEL.WEIGHTS: there is no file .*gone.pth"):
        Checkpointer(detector).load(str(tmp_path / "gone.pth"))
    Checkpointer(detector, str(tmp_path)).save("whole")
    cut = tmp_path / "cut.pth"
    cut.write_bytes((tmp_path / "whole.pth").read_bytes()[:20000])
    with pytest.raises(ValueError, match=r"MODEL.WEIGHTS: .*cut.pth is truncated"):
        Checkpointer(detector).load(str(cut))
    with pytest.raises(ValueError, match=r"empty.pkl holds no parameters"):
        Checkpointer(detector).load(write_pickle(tmp_path / "empty.pkl", {}))


def test_an_address_that_does_not_answer_is_named():
    with pytest.raises(
        WeightsNotFetchedError, match=r"could not be fetched.*MODEL.WEIGHTS to that"
    ):
        Checkpointer(Detector(depth=18, attention=False)).load("http://127.0.0.1:9/R-50.pkl")
