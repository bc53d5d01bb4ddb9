"""``predict``, ``explore`` and ``diagnose`` on models for semantic segmentation."""

import json
import re

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from PIL import Image

from dnl_det.__main__ import main
from dnl_det.analysis import IGNORED, record_attention, region_correlations
from dnl_det.analysis.page import class_regions, default_points
from dnl_det.checkpoint import Checkpointer
from dnl_det.data import THING_CLASSES
from dnl_det.data.images import read_image
from dnl_det.engine import Predictor, load_config

CONFIG = "configs/Shapes/sem_seg_disentangled.yaml"
WINDOWS = ["TEST.SLIDING_WINDOW.SIZE", "[64, 64]", "TEST.SLIDING_WINDOW.STRIDE", "[64, 64]"]
CLASSES = ["background", *THING_CLASSES]


@pytest.fixture(scope="module")
def saved(root, tmp_path_factory):
    """An untrained model that finds several classes, and its file."""
    torch.manual_seed(0)
    cfg = load_config(str(root / CONFIG), ["MODEL.DEVICE", "cpu"])
    model = build_model(cfg)
    torch.nn.init.normal_(model.sem_seg_head.predictor.weight, std=3.0)
    for parameter in model.sem_seg_head.attention.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    folder = tmp_path_factory.mktemp("weights")
    Checkpointer(model, str(folder)).save("model")
    return folder / "model.pth"


@pytest.fixture
def images(shapes):
    return sorted((shapes / "val").iterdir())[:2]


@pytest.fixture
def run(root, saved, shapes, tmp_path):
    """A function from a command's words to its status; the results are in ``tmp_path/out``."""

    def command(*words, keys=()):
        config = ["--config-file", root / CONFIG, "--weights", saved]
        words = [*words, *config, "--output", tmp_path / "out", "--opts", *keys]
        return main([str(word) for word in words])

    return command


@pytest.fixture
def predictor(root, saved):
    cfg = load_config(str(root / CONFIG), ["MODEL.WEIGHTS", str(saved), "MODEL.DEVICE", "cpu"])
    return Predictor(cfg)


@pytest.mark.usefixtures("device")
def test_labels_are_predicted_and_drawn(run, predictor, images, tmp_path):
    small = tmp_path / "small.png"
    Image.open(images[0]).resize((96, 160)).save(small)
    assert run("predict", *images, small) == 0
    files = [*images, small]
    assert {file.name for file in (tmp_path / "out").iterdir()} == {
        name for file in files for name in (f"{file.stem}.png", f"{file.stem}_labels.png")
    }
    assert Image.open(tmp_path / "out/small.png").size == (480, 800)
    found = np.array(Image.open(tmp_path / "out/small_labels.png"))
    logits = predictor(read_image(predictor.cfg, str(small), "BGR"))["sem_seg"]
    assert found.dtype == np.uint8
    assert np.array_equal(found, logits.argmax(0).numpy())
    assert len(np.unique(found)) > 1


def test_no_input_is_overwritten_by_labels(run, images, tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    own = [folder / "a.png", folder / "a_labels.png"]
    for file in own:
        Image.open(images[0]).save(file)
    with pytest.raises(SystemExit, match="a.png"):
        run("predict", own[0])
    with pytest.raises(SystemExit, match="files of two images are both .*a_labels.png: rename"):
        run("predict", *own)


def test_classes_without_their_names_are_numbered(run, images, tmp_path):
    assert run("explore", images[0], keys=["DATASETS.TEST", "('elsewhere',)"]) == 0
    page = (tmp_path / "out" / f"{images[0].stem}.html").read_text()
    assert '"label":"class_' in page


@pytest.mark.parametrize("keys", [[], WINDOWS])
def test_a_page_shows_classes_and_the_heads_block(run, images, tmp_path, keys):
    assert run("explore", images[0], "--format", "both", keys=keys) == 0
    assert {file.name for file in (tmp_path / "out").iterdir()} == {
        f"{images[0].stem}.html",
        "attention_sem_seg_head.png",
    }
    page = (tmp_path / "out" / f"{images[0].stem}.html").read_text()
    content = json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1])
    (block,) = content["blocks"]
    assert (block["name"], block["stride"], block["positions"]) == ("sem_seg_head", 8, [16, 16])
    assert len(content["detections"]) > 1
    assert {found["label"] for found in content["detections"]} <= set(CLASSES)


def test_regions_of_classes_are_their_pixels():
    logits = torch.zeros(4, 30, 40)
    logits[1] = 2.0
    logits[3, 5:26, 10:31] = 5.0
    found = class_regions(logits)
    assert found.pred_classes.tolist() == [1, 3]
    assert found.pred_masks.sum(dim=(1, 2)).tolist() == [30 * 40 - 21 * 21, 21 * 21]
    assert found.pred_boxes.tensor[1].tolist() == [10, 5, 31, 26]
    expected = [np.e**2 / (np.e**2 + 3), np.e**5 / (np.e**5 + np.e**2 + 2)]
    assert found.scores.tolist() == pytest.approx(expected, rel=1e-6)
    # The best first: the centre of the square; then a pixel inside the rest, which is no centre.
    square, rest = default_points(found, (30, 40))
    assert square == (20.5, 15.5)
    assert found.pred_masks[0, int(rest[1]), int(rest[0])]


def test_statistics_are_against_the_labels(run, predictor, shapes, tmp_path):
    assert run("diagnose", "--queries", "64", "--images", "2", keys=WINDOWS) == 0
    found = json.loads((tmp_path / "out/diagnose.json").read_text())
    (block,) = found["blocks"].values()
    assert (found["images"], found["images_with_regions"]) == (2, 2)
    expected = []
    for file in sorted((shapes / "val").iterdir())[::5]:  # the first and the last of six
        with record_attention(predictor.model) as record:
            predictor(read_image(predictor.cfg, str(file), "BGR"))
        labels = np.array(Image.open(shapes / "labels_val" / f"{file.stem}.png")).astype(int)
        (one,) = record.values()
        every = region_correlations(one, 0, record.frames[0], labels + 1, queries=256)
        expected.append(every)
    for key in ("unary_boundary", "unary_category", "pairwise_category"):
        wanted = np.mean([getattr(one, key) for one in expected])
        # The unary term against boundaries does not depend on the queries.
        tolerance = 1e-5 if key == "unary_boundary" else 0.1
        assert block[key]["value"] == pytest.approx(wanted, abs=tolerance)


def test_what_is_ignored_has_no_part_in_a_correlation(predictor, shapes):
    file = sorted((shapes / "val").iterdir())[0]
    with record_attention(predictor.model) as record:
        predictor(read_image(predictor.cfg, str(file), "BGR"))
    (block,) = record.values()
    labels = np.full((128, 128), 2)
    labels[:, :40] = 1
    labels[96:] = IGNORED
    found = region_correlations(block, 0, record.frames[0], labels, queries=256)
    assert found.region_queries == 12 * 16
    unary = block.attention(0, [0]).unary.reshape(16, 16)[:12].flatten()
    left = (torch.arange(16) < 5).expand(12, 16).flatten()
    correlation = torch.corrcoef(torch.stack([unary.double(), left.double()]))[0, 1].item()
    # 5 of 16 queries are of the left class; for the others the same keys are the wrong ones.
    assert found.unary_category == pytest.approx(correlation * (5 - 11) / 16, rel=1e-6)
