"""All six models of the authors, converted: the same detections, to the digit."""

import json
import logging

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from detectron2.checkpoint import DetectionCheckpointer
from pycocotools import mask as mask_api

from dnl_det.__main__ import main
from dnl_det.checkpoint import Checkpointer, UnknownLayoutError, convert
from dnl_det.checkpoint.conversion import recognise
from dnl_det.engine import Trainer, load_config

from .conftest import LAYOUTS

WITH_OUTPUTS = ("baseline", "nl_c4", "dnl_c4c5all")


@pytest.fixture
def converted_model(root, official_file, tmp_path, caplog):
    """From the name of a layout to the model of its config, filled with the converted file."""

    def build(name, kind=Checkpointer, device="cpu"):
        out = tmp_path / f"converted_{name}.pth"
        assert main(["convert", str(official_file(name)), str(out)]) == 0
        file = f"configs/COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_{LAYOUTS[name]}.yaml"
        cfg = load_config(str(root / file))
        cfg.MODEL.DEVICE = device
        model = Trainer.build_model(cfg).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.fill_(float("nan"))  # whatever is not loaded shows
        with caplog.at_level(logging.WARNING):
            kind(model).load(str(out))
        assert "not found" not in caplog.text
        assert "not used" not in caplog.text
        assert not any(parameter.isnan().any() for parameter in model.parameters())
        return model

    return build


@pytest.mark.parametrize("name", WITH_OUTPUTS)
def test_features_boxes_and_masks_are_the_authors(name, converted_model, official, device):
    model = converted_model(name, device=device)
    expected = np.load(official / f"outputs_{name}.npz")
    image = {"image": torch.from_numpy(expected["image_rgb"]), "height": 256, "width": 320}
    with torch.no_grad():
        tensor = model.preprocess_image([image]).tensor
        features = {**model.backbone.bottom_up(tensor), **model.backbone(tensor)}
        found = model.inference([image], do_postprocess=False)[0].to("cpu")
    levels = [key.removeprefix("feat/") for key in expected if key.startswith("feat/")]
    assert set(levels) == {"res2", "res3", "res4", "res5", "p2", "p3", "p4", "p5", "p6"}
    for level in levels:
        theirs = expected[f"feat/{level}"]
        error = np.abs(features[level][0, :8].cpu().numpy() - theirs).max()
        assert error <= 1e-5 * np.abs(theirs).max(), level

    assert len(found) == 100
    assert found.pred_classes.tolist() == expected["classes"].tolist()
    np.testing.assert_allclose(found.pred_boxes.tensor, expected["boxes_xyxy"], rtol=0, atol=1e-3)
    np.testing.assert_allclose(found.scores, expected["scores"], rtol=0, atol=1e-5)
    probabilities = expected["mask_prob28"].astype(np.float32)
    np.testing.assert_allclose(found.pred_masks[:, 0], probabilities, rtol=0, atol=1e-3)

    if name == "dnl_c4c5all":
        final = json.loads((official / "final_dnl_c4c5all.json").read_text())
        h, w = final["original_height"], final["original_width"]
        with torch.no_grad():
            result = model([{**image, "height": h, "width": w}])[0]["instances"].to("cpu")
        _assert_final(result, final["detections"])


def _assert_final(result, detections):
    corners = result.pred_boxes.tensor.numpy()
    boxes = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
    theirs = np.array([detection["bbox"] for detection in detections])
    assert len(boxes) == len(theirs) == 100
    np.testing.assert_allclose(boxes, theirs, rtol=0, atol=1e-3)
    assert result.pred_classes.tolist() == [d["category"] for d in detections]
    scores = [detection["score"] for detection in detections]
    np.testing.assert_allclose(result.scores, scores, rtol=0, atol=1e-5)
    for mask, detection in zip(result.pred_masks.numpy(), detections, strict=True):
        assert (mask == mask_api.decode(detection["segmentation"]).astype(bool)).all()


def _reference(name, state, x):
    """The block of section 2 of the authors' facts, on the keys of their file."""
    kind = "nl_gc_block" if name.startswith("dnl") else "context_block"
    w = {k.split(f"layer3.4.{kind}.")[1]: v.double() for k, v in state.items() if kind in k}
    flat = x.flatten(2)[0]  # C, L

    def conv(prefix):
        bias = w.get(f"{prefix}.bias", torch.zeros(1, dtype=torch.float64))
        return w[f"{prefix}.weight"].flatten(1) @ flat + bias.reshape(-1, 1)

    unary = conv("conv_mask").softmax(dim=1)[0]  # L
    if name == "gc_c4":
        context = (flat * unary).sum(dim=1)
        hidden = w["channel_add_conv.0.weight"].flatten(1) @ context + w["channel_add_conv.0.bias"]
        scale, shift = (w[f"channel_add_conv.1.{leaf}"].flatten() for leaf in ("weight", "bias"))
        hidden = F.relu(
            (hidden - hidden.mean()) / (hidden.var(correction=0) + 1e-5).sqrt() * scale + shift
        )
        term = w["channel_add_conv.3.weight"].flatten(1) @ hidden + w["channel_add_conv.3.bias"]
        return x + term.reshape(1, -1, 1, 1)
    value = w["conv_value.weight"].flatten(1) @ flat
    result = flat + (value * unary).sum(dim=1, keepdim=True)
    if name.startswith("dnl"):
        q, k = (conv(p) - conv(p).mean(dim=1, keepdim=True) for p in ("conv_query", "conv_key"))
        weights = (q.T @ k / (len(q) ** 0.5 * 0.05)).softmax(dim=1)  # L query, L key
        result = result + w["gamma"] * (value @ weights.T)
    return result.reshape(x.shape)


@pytest.mark.parametrize("name", ["dnl_c4", "gc_c4", "snl_c4"])
def test_models_without_recorded_outputs_compute_the_stated_block(
    name, converted_model, official_state, official
):
    model = converted_model(name, kind=DetectionCheckpointer)  # plain detectron2 loads it too
    attention = model.backbone.bottom_up.res4[4].attention.double()
    x = torch.randn(1, 1024, 5, 7, dtype=torch.float64, generator=torch.manual_seed(0))
    with torch.no_grad():
        expected = _reference(name, official_state(name), x)
        torch.testing.assert_close(attention(x), expected, rtol=0, atol=1e-9)
        assert (expected - x).abs().max() > 0.01
        attention.float()

        # Up to its attention the backbone is the baseline's, of which the outputs are known.
        recorded = np.load(official / "outputs_baseline.npz")
        image = {"image": torch.from_numpy(recorded["image_rgb"])}
        res3 = model.backbone.bottom_up(model.preprocess_image([image]).tensor)["res3"]
        detections = model([image])[0]["instances"]
    np.testing.assert_allclose(res3[0, :8], recorded["feat/res3"], rtol=0, atol=1e-4)
    assert len(detections) == 100
    assert detections.pred_boxes.tensor.isfinite().all()
    assert detections.pred_masks.shape == (100, 256, 320)


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_key_and_shape_of_a_layout_is_known(name, official):
    theirs = json.loads((official / f"layout_{name}.json").read_text())
    entries = recognise({key: torch.empty(shape) for key, shape in theirs.items()}).entries
    assert {entry.theirs for entry in entries} == theirs.keys()
    assert len(entries) == len(theirs)
    assert all(entry.ours for entry in entries)
    checked = {e.theirs: list(e.shape) for e in entries if e.shape is not None}
    assert checked.items() <= theirs.items()
    assert not any(
        ".conv" in key and "backbone" not in key for key in theirs.keys() - checked.keys()
    )


def test_values_are_changed_as_stated(official_file, official_state):
    state, model = official_state("baseline"), None
    conversion = convert(official_file("baseline"))
    model = conversion.checkpoint["model"]
    theirs = state["backbone.bn1.weight"]
    assert (theirs < 0).any()
    assert torch.equal(model["backbone.bottom_up.stem.conv1.norm.weight"], theirs.abs() + 1e-5)
    predictor = "roi_heads.box_predictor"
    classes, boxes = state["bbox_head.fc_cls.weight"], state["bbox_head.fc_reg.weight"]
    assert torch.equal(model[f"{predictor}.cls_score.weight"][80], classes[0])
    assert torch.equal(model[f"{predictor}.cls_score.weight"][7], classes[8])
    assert torch.equal(model[f"{predictor}.bbox_pred.weight"][:4], boxes[4:8])
    assert len(model["roi_heads.mask_head.predictor.bias"]) == 80
    assert conversion.left_out == {"not a parameter of the model": ["meta", "optimizer"]}
    assert len(conversion.changed["|weight| + 1e-05, as the authors' SyncABN scales"]) == 69


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda s: s.update({"mask_head.extra.weight": torch.ones(1)}),
            "place there: mask_head.ex",
        ),
        (lambda s: s.pop("neck.fpn_convs.2.bn.bias"), "lacks neck.fpn_convs.2.bn.bias"),
        (lambda s: s.update({"rpn_head.rpn_reg.bias": torch.ones(60)}), r"rpn_reg.bias is \(60,\)"),
        (lambda s: s.pop("bbox_head.fc_cls.weight"), "neither a detector of the authors .* nor"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(official_state, tmp_path, capsys, change, message):
    state = official_state("baseline")
    change(state)
    torch.save({"state_dict": state}, tmp_path / "in.pth")
    with pytest.raises(UnknownLayoutError, match=message):
        convert(tmp_path / "in.pth")
    with pytest.raises(SystemExit, match="error: .*in.pth"):
        main(["convert", str(tmp_path / "in.pth"), str(tmp_path / "out.pth")])
    assert [file.name for file in tmp_path.iterdir()] == ["in.pth"]


def test_other_placements_and_classes_name_their_keys(official_state, tmp_path):
    state = {
        key.replace("layer3.4.", "layer3.3.") if "nl_gc_block" in key else key: value
        for key, value in official_state("dnl_c4").items()
    }
    rows = {"fc_cls": 4, "fc_reg": 16, "conv_logits": 4}
    for key, value in state.items():
        if (layer := key.split(".")[1]) in rows:
            state[key] = value[: rows[layer]]
    torch.save(state, tmp_path / "in.pth")
    conversion = convert(tmp_path / "in.pth")
    assert conversion.config.endswith("/mask_rcnn_R_50_FPN_1x.yaml")
    assert conversion.overrides == (
        *("MODEL.DNL.BLOCK", "dnl", "MODEL.DNL.RES4", "[3]"),
        *("MODEL.ROI_HEADS.NUM_CLASSES", "3"),
    )
    assert "backbone.bottom_up.res4.3.attention.gamma" in conversion.checkpoint["model"]


def test_an_unconverted_file_is_not_loaded_but_explained(official_file):
    file = official_file("baseline")
    with pytest.raises(ValueError, match=r"Convert it first: python -m dnl_det convert .*baseline"):
        Checkpointer(torch.nn.Linear(1, 1)).load(str(file))
