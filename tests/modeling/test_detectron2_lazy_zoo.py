"""detectron2's models in Python configs, with attention put into their ResNet there."""

from pathlib import Path

import detectron2
import numpy as np
import pytest
import torch
from detectron2.config import LazyCall, LazyConfig, instantiate
from detectron2.structures import Boxes, Instances, Keypoints, PolygonMasks
from detectron2.utils.events import EventStorage

from dnl_det.modeling import insert_attention, recompute_stages
from dnl_det.modeling.recompute import is_recomputed

ZOO = Path(detectron2.__file__).parent / "model_zoo" / "configs"
MODELS = sorted(
    str(file.relative_to(ZOO))
    for folder in ("COCO-*", "new_baselines", "Misc")
    for file in ZOO.glob(f"{folder}/*.py")
    # Left out: RegNets, models of torchvision and mmdetection, and the same ones trained longer.
    if not any(part in file.name for part in ("regnet", "torchvision", "mmdet", "200ep", "400ep"))
)
FIRST = {"COCO-Detection/fcos_R_50_FPN_1x.py"}  # what no YAML builds


def with_attention(file):
    """The config's model, narrow where it may be, with attention in res4."""
    model = LazyConfig.load(str(ZOO / file)).model
    backbone = model.backbone
    below = backbone.bottom_up if "bottom_up" in backbone else backbone
    below.stem.norm = below.stages.norm = "BN"  # features of random weights grow otherwise
    wrapped = LazyCall(insert_attention)(resnet=below, stages={"res4": [-2]})
    if "bottom_up" in backbone:
        backbone.in_features = list(backbone.in_features)  # it is what bottom_up's were
        backbone.bottom_up = wrapped
        backbone.norm = ""
    else:
        model.backbone = wrapped
    if (heads := model.get("roi_heads")) is not None and "box_head" in heads:
        for head in (heads.box_head, heads.get("mask_head")):
            if head is not None and "conv_norm" in head:
                head.conv_norm = ""  # SyncBN needs several GPUs
    return instantiate(model)


def images(side=64):
    instances = Instances((side, side))
    instances.gt_boxes = Boxes(torch.tensor([[5.0, 5.0, 45.0, 40.0]]))
    instances.gt_classes = torch.tensor([0])
    polygon = np.array([5.0, 5.0, 45.0, 5.0, 45.0, 40.0, 5.0, 40.0])
    instances.gt_masks = PolygonMasks([[polygon]])
    instances.gt_keypoints = Keypoints(torch.tensor([[[20.0, 20.0, 2.0]] * 17]))
    pixels = torch.randint(0, 256, (2, 3, side, side), dtype=torch.uint8)
    rest = {"instances": instances, "sem_seg": torch.zeros(side, side, dtype=torch.long)}
    return [{"image": image, **rest} for image in pixels]


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize(
    "file", [pytest.param(f, marks=[] if f in FIRST else pytest.mark.slow) for f in MODELS]
)
def test_model_of_a_python_config(file):
    torch.manual_seed(0)
    model = with_attention(file).train()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-5)
    with EventStorage():
        for _ in range(2):
            loss = sum(model(images()).values())
            assert torch.isfinite(loss)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    gammas = [p.item() for n, p in model.named_parameters() if n.endswith(".gamma")]
    assert len(gammas) == 1
    assert gammas[0] != 0  # it is 0 at the start

    model.eval()
    with torch.no_grad():
        assert model(images())[0]["instances"].image_size == (64, 64)
        traced = torch.jit.trace(model.backbone, torch.rand(1, 3, 64, 64), strict=False)
        other = torch.rand(2, 3, 128, 64)
        pairs = zip(traced(other).values(), model.backbone(other).values(), strict=True)
        for feature, expected in pairs:
            margin = 1e-5 * expected.abs().max()
            torch.testing.assert_close(feature, expected, rtol=1e-4, atol=margin)


@pytest.mark.parametrize(
    ("block", "arguments"),
    [
        ("dnl", {"temperature": 0.1}),
        ("gc", {"fusion": ["add", "mul"]}),
        ("timm/se", {"rd_ratio": 0.25}),
    ],
)
def test_a_saved_config_builds_the_same_model(block, arguments, tmp_path):
    """Lists and dictionaries of OmegaConf as arguments, and all of it from the saved YAML."""
    if block.startswith("timm"):
        pytest.importorskip("timm")
    cfg = LazyConfig.load(str(ZOO / "common/models/mask_rcnn_fpn.py"))
    backbone = cfg.model.backbone
    backbone.in_features = ["res2", "res3", "res4", "res5"]
    stages = {"res4": [-2], "res5": [-3, -2, -1]}
    inserted = LazyCall(insert_attention)(
        resnet=backbone.bottom_up, stages=stages, block=block, **arguments
    )
    backbone.bottom_up = LazyCall(recompute_stages)(resnet=inserted, stages=["res4"])
    model = instantiate(cfg.model)
    LazyConfig.save(cfg, str(tmp_path / "config.yaml"))
    again = instantiate(LazyConfig.load(str(tmp_path / "config.yaml")).model)
    again.load_state_dict(model.state_dict())
    names = {n.rpartition(".attention")[0] for n, _ in model.named_modules() if "attention" in n}
    assert {name.partition("bottom_up.")[2] for name in names} >= {"res4.4", "res5.0", "res5.2"}
    assert is_recomputed(again.backbone.bottom_up.res4[4])
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        found, expected = (m.eval().backbone.bottom_up(x)["res5"] for m in (again, model))
    assert torch.equal(found, expected)
