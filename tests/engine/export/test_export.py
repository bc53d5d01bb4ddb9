"""Exported detectors: the model's own detections at other sizes, in every format."""

import json
import os
import re
import textwrap

import cv2
import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances

from dnl_det.__main__ import main
from dnl_det.checkpoint import Checkpointer
from dnl_det.engine import ExportedDetector, Predictor, export, load_config
from dnl_det.engine.export.detector import agreement
from dnl_det.engine.export.graph import batched_nms
from dnl_det.layers import BLOCKS

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(900)]

ENDINGS = (".pt", ".pt2", ".onnx")
MMDET1 = {
    "MODEL.META_ARCHITECTURE": "MMDet1RCNN",
    "MODEL.ANCHOR_GENERATOR.NAME": "MMDet1AnchorGenerator",
    "MODEL.ROI_BOX_HEAD.NUM_CONV": 1,
    "MODEL.ROI_BOX_HEAD.NORM": "BN",
    "INPUT.IMAGE_LIBRARY": "opencv",
}
RETINANET = {
    "MODEL.META_ARCHITECTURE": "RetinaNet",
    "MODEL.BACKBONE.NAME": "build_dnl_retinanet_resnet_fpn_backbone",
    "MODEL.RESNETS.OUT_FEATURES": ["res3", "res4", "res5"],
    "MODEL.FPN.IN_FEATURES": ["res3", "res4", "res5"],
    "MODEL.ANCHOR_GENERATOR.SIZES": [[16], [32], [64], [128], [256]],
    "MODEL.MASK_ON": False,
}
CASCADE = {
    "MODEL.ROI_HEADS.NAME": "CascadeROIHeads",
    "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG": True,
}
MODELS = {
    "mask": {},
    "faster": {"MODEL.MASK_ON": False},
    "retinanet": RETINANET,
    "cascade": CASCADE,
    "mmdet1": MMDET1,
}
# Each model and each format once; capturing a graph takes a quarter of a minute.
QUICK = {
    ("mask", ".pt"),
    ("faster", ".pt"),
    ("cascade", ".pt"),
    ("retinanet", ".pt2"),
    ("mmdet1", ".onnx"),
}


def needs(ending):
    if ending == ".onnx":
        for package in ("onnx", "onnxscript", "onnxruntime"):
            pytest.importorskip(package)


def picture(h, w, seed=0):
    """Smooth noise: features of it differ from place to place."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (h // 8, w // 8, 3), dtype=np.uint8)
    return np.ascontiguousarray(small.repeat(8, axis=0).repeat(8, axis=1))


@pytest.fixture
def build(root, tiny, tmp_path):
    """A predictor of an untrained detector that finds a few dozen objects, and its config."""

    def predictor(keys, device="cpu"):
        torch.manual_seed(0)
        cfg = load_config(str(root / "configs/Shapes/disentangled.yaml"), tiny)
        cfg.merge_from_list([word for pair in keys.items() for word in pair])
        cfg.MODEL.DEVICE = device
        cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST = 192, 320
        cfg.MODEL.RPN.POST_NMS_TOPK_TEST = 30
        cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = cfg.MODEL.RETINANET.SCORE_THRESH_TEST = 0.05
        model = build_model(cfg).cpu()
        for name, parameter in model.named_parameters():
            if name.endswith(".gamma"):
                torch.nn.init.constant_(parameter, 0.5)
            if name.endswith("cls_score.bias"):
                torch.nn.init.zeros_(parameter)
            if name.endswith("cls_score.weight"):
                torch.nn.init.normal_(parameter, std=0.1)
        cfg.MODEL.WEIGHTS = str(tmp_path / "model.pth")
        Checkpointer(model, str(tmp_path)).save("model")
        (tmp_path / "config.yaml").write_text(cfg.dump())
        return Predictor(cfg)

    return predictor


def names(predictor):
    count = predictor.cfg.MODEL.ROI_HEADS.NUM_CLASSES
    return [f"class {k}" for k in range(count)], [10 * k for k in range(1, count + 1)]


@pytest.mark.parametrize(
    ("name", "ending"),
    [
        pytest.param(name, ending, marks=[] if (name, ending) in QUICK else pytest.mark.slow)
        for name in MODELS
        for ending in ENDINGS
    ],
)
def test_a_graph_is_its_detector_at_other_sizes(name, ending, build, tmp_path):
    needs(ending)
    predictor, file = build(MODELS[name]), tmp_path / f"model{ending}"
    result = export(predictor, file, [picture(160, 200)], *names(predictor))
    assert result.detections > 20
    assert result.box < 1e-2
    assert result.score < 1e-4
    exported = ExportedDetector(file, device="cpu")
    for seed, (h, w) in enumerate(((240, 136), (96, 96), (64, 120))):
        image = picture(h, w, seed)
        expected, found = (each(image)["instances"] for each in (predictor, exported))
        assert len(expected) > 10
        assert found.image_size == (h, w)
        torch.testing.assert_close(found.scores, expected.scores, atol=1e-4, rtol=0)
        assert torch.equal(found.pred_classes, expected.pred_classes)
        boxes = found.pred_boxes.tensor, expected.pred_boxes.tensor
        torch.testing.assert_close(*boxes, atol=1e-2, rtol=0)
        if expected.has("pred_masks"):
            different = (found.pred_masks ^ expected.pred_masks).float().mean()
            assert different < 1e-3
        else:
            assert not found.has("pred_masks")


@pytest.mark.parametrize("ending", [".pt", pytest.param(".onnx", marks=pytest.mark.slow)])
def test_an_image_without_detections(ending, build, tmp_path):
    needs(ending)
    predictor, file = build({}), tmp_path / f"model{ending}"
    predictor.model.roi_heads.box_predictor.test_score_thresh = 1.0
    result = export(predictor, file, [picture(160, 200)], *names(predictor))
    assert result.detections == 0
    found = ExportedDetector(file, device="cpu")(picture(240, 136))["instances"]
    assert len(found) == 0
    assert found.pred_masks.shape == (0, 240, 136)


@pytest.mark.slow
@pytest.mark.parametrize("block", sorted(BLOCKS))
def test_every_block(block, build, tmp_path):
    predictor = build({"MODEL.DNL.BLOCK": block, "MODEL.DNL.RES5": [-1]})
    result = export(predictor, tmp_path / "m.pt2", [picture(160, 200)], *names(predictor))
    assert result.detections > 10


@pytest.mark.parametrize("ending", [".pt", pytest.param(".pt2", marks=pytest.mark.slow)])
def test_a_graph_runs_on_the_device(ending, build, device, tmp_path):
    predictor, file = build(MMDET1), tmp_path / f"model{ending}"
    export(predictor, file, [picture(160, 200)], *names(predictor))
    image = picture(240, 136)
    found = ExportedDetector(file, device=device)(image)["instances"]
    expected = predictor(image)["instances"]
    torch.testing.assert_close(found.scores, expected.scores, atol=1e-2, rtol=0)


def test_suppression_is_torchvisions():
    """By the class, in the order of the scores; of no boxes none."""
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(200, 2, generator=generator) * 50
    boxes = torch.cat([corners, corners + 1 + torch.rand(200, 2, generator=generator) * 40], dim=1)
    scores = torch.rand(200, generator=generator)
    classes = torch.randint(0, 3, (200,), generator=generator)
    from torchvision.ops import batched_nms as expected

    assert torch.equal(
        batched_nms(boxes, scores, classes, 0.5), expected(boxes, scores, classes, 0.5)
    )
    assert batched_nms(boxes[:0], scores[:0], classes[:0], 0.5).shape == (0,)


def detections(*boxes, score=0.5):
    found = Instances((100, 100))
    found.pred_boxes = Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4))
    found.scores = torch.full((len(boxes),), score)
    found.pred_classes = torch.zeros(len(boxes), dtype=torch.int64)
    return found


def test_a_graph_that_differs_is_refused():
    one, other = (10, 10, 30, 30), (50, 50, 60, 60)
    agreed = agreement([(detections(one, other), detections(other, (10, 10, 30, 30.05)))])
    assert (agreed.detections, agreed.score) == (2, 0.0)
    assert agreed.box == pytest.approx(0.05, abs=1e-5)
    with pytest.raises(ValueError, match="finds 1 objects and the model 2"):
        agreement([(detections(one, other), detections(one))])
    with pytest.raises(ValueError, match=r"differ by up to 0.5 pixels.*allowed: 0.1.*was written"):
        agreement([(detections(one), detections((10, 10, 30, 30.5)))])
    with pytest.raises(ValueError, match="its scores by 0.01"):
        agreement([(detections(one), detections(one, score=0.51))])
    moved = detections(one)
    moved.pred_classes += 1
    with pytest.raises(ValueError, match="of another class"):
        agreement([(detections(one), moved)])


def test_what_differs_is_not_written(build, tmp_path, monkeypatch):
    """And what was there before stays."""
    predictor, file = build({}), tmp_path / "model.pt"
    file.write_text("before")
    monkeypatch.setattr(ExportedDetector, "detect", lambda *_: [{"instances": detections()}])
    with pytest.raises(ValueError, match="finds 0 objects"):
        export(predictor, file, [picture(160, 200)], *names(predictor))
    assert file.read_text() == "before"
    assert not [*tmp_path.glob(".*.partial")]


def test_an_image_below_the_smallest_side(build, tmp_path):
    predictor, file = build({}), tmp_path / "model.pt2"
    export(predictor, file, [picture(160, 200)], *names(predictor))
    exported = ExportedDetector(file)
    with pytest.raises(ValueError, match=r"320 x 64 pixels once it is resized.*65 and more"):
        exported(picture(40, 200))
    predictor.cfg.MODEL.KEYPOINT_ON = True
    with pytest.raises(ValueError, match=r"MODEL.KEYPOINT_ON: True cannot be exported: only"):
        export(predictor, file, [picture(160, 200)], *names(predictor))


@pytest.mark.parametrize("ending", [".pt", pytest.param(".onnx", marks=pytest.mark.slow)])
def test_the_commands(ending, build, shapes, tmp_path, capsys):
    """``export``, then ``predict --model`` with the detections of ``predict --weights``."""
    needs(ending)
    build(MMDET1)
    config, weights = tmp_path / "config.yaml", tmp_path / "model.pth"
    images = [str(image) for image in sorted((shapes / "val").iterdir())[:2]]
    model, trained = tmp_path / f"m{ending}", ["--config-file", config, "--weights", weights]

    def run(*words):
        assert main([*map(str, words)]) == 0

    run("export", *trained, *images, "--output", model)
    assert "compared with the model on 4 images:\nthe same" in capsys.readouterr().out
    run("predict", *images, "--model", model, "--output", tmp_path / "exported")
    run("predict", *images, *trained, "--output", tmp_path / "eager")
    results = [
        json.loads((tmp_path / folder / "detections.json").read_text())
        for folder in ("eager", "exported")
    ]
    assert len(results[0]) == len(results[1]) > 10
    for expected, found in zip(*results, strict=True):
        for key in ("category_id", "category_name", "file_name", "image_id"):
            assert found[key] == expected[key]
        assert found["bbox"] == pytest.approx(expected["bbox"], abs=1e-2)
        assert found["score"] == pytest.approx(expected["score"], abs=1e-4)


@pytest.mark.slow
def test_the_example_of_the_docs(build, root, tmp_path, monkeypatch, capsys):
    """The model without this project, by onnxruntime, as docs/EXPORT.md says."""
    needs(".onnx")
    predictor = build({})
    image = cv2.resize(picture(800, 800), (800, 800))
    monkeypatch.chdir(tmp_path)
    export(predictor, "model.onnx", [picture(160, 200)], *names(predictor))
    cv2.imwrite("photo3.png", image)
    (example,) = re.findall(r"^    import json\n(?:    .*\n|\n)*", page(root), re.MULTILINE)
    example = textwrap.dedent(example).replace("photo3.jpg", "photo3.png")  # which loses nothing
    exec(compile(example, "EXPORT.md", "exec"), {})
    rgb = torch.from_numpy(image[:, :, ::-1].transpose(2, 0, 1).copy())
    with torch.no_grad():
        (expected,) = predictor.model([{"image": rgb}])
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == len(expected["instances"]) > 10
    classes = [" ".join(line.split()[:2]) for line in printed]
    assert classes == [f"class {k}" for k in expected["instances"].pred_classes.tolist()]


def page(root):
    return (root / "docs/EXPORT.md").read_text()


def fails(words):
    with pytest.raises(SystemExit) as error:
        main([*map(str, words)])
    return str(error.value.code)


def test_what_the_commands_refuse(build, shapes, tmp_path):
    build({})
    trained = ["--config-file", tmp_path / "config.yaml", "--weights", tmp_path / "model.pth"]
    image = next((shapes / "val").iterdir())
    model, out = tmp_path / "m.onnx", ["--output", tmp_path / "out"]
    for words, message in (
        (["export", *trained, "--output", "m.pth"], "m.pth must end in one of .pt (torchscript"),
        (["export", *trained, "--output", "m.pt", "--format", "onnx"], "must end in .onnx with"),
        (["predict", image, "--model", model, *out], f"--model: there is no file {model}"),
        (["predict", image, "--model", "m.pth", *out], "--model: m.pth must end in one of .pt"),
        (["predict", image, *trained, "--model", model, *out], "leave --config-file, --weights"),
        (["predict", image, *out], "give --config-file and --weights, or --model"),
    ):
        assert message in fails(words)
    for ending in ENDINGS:
        needs(ending)
        file = tmp_path / f"other{ending}"
        file.write_bytes(os.urandom(2000))
        text = fails(["predict", image, "--model", file, *out])
        assert f"{file} is no detector that `dnl-det export` has written" in text
    script = tmp_path / "script.pt"  # TorchScript, but of somebody else
    torch.jit.save(torch.jit.script(torch.nn.ReLU()), script)
    assert "is no detector" in fails(["predict", image, "--model", script, *out])
    assert not (tmp_path / "out").exists()
