"""``python -m dnl_det explore``: pages, figures, and what it refuses."""

import base64
import json
import re

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from PIL import Image

from dnl_det.__main__ import main
from dnl_det.analysis import record_attention
from dnl_det.analysis.page import GENERATOR
from dnl_det.checkpoint import Checkpointer
from dnl_det.data.images import read_image
from dnl_det.engine import Predictor, load_config

CONFIG = "disentangled"


@pytest.fixture
def explore(root, shapes, tiny, tmp_path):
    """Run the command on an untrained detector; images and options are what is given."""

    keys = [*tiny, "MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.0"]

    def run(*words, config=CONFIG):
        file = root / f"configs/Shapes/{config}.yaml"
        torch.manual_seed(0)
        cfg = load_config(str(file), tiny)
        cfg.MODEL.DEVICE = "cpu"
        Checkpointer(build_model(cfg), str(tmp_path)).save(config)
        words = [*words, "--config-file", file, "--weights", tmp_path / f"{config}.pth"]
        words += ["--output", tmp_path / "out", "--opts", *keys]
        return main(["explore", *map(str, words)])

    run.keys = keys
    return run


@pytest.fixture
def images(shapes):
    return sorted((shapes / "val").iterdir())[:2]


def content_of(file):
    return json.loads(re.search(r'id="data">(.*?)</script>', file.read_text(), re.DOTALL)[1])


def test_a_page_an_image(explore, images, tmp_path, capsys):
    grey = tmp_path / "grey.png"
    Image.open(images[0]).convert("L").resize((96, 160)).save(grey)
    assert explore(*images, grey, "--threshold", "0.25") == 0
    files = sorted((tmp_path / "out").iterdir())
    assert [f.name for f in files] == [f"{i.stem}.html" for i in images] + ["grey.html"]
    content = content_of(files[-1])
    assert content["title"] == "grey.png"
    assert content["threshold"] == 0.25
    frame = {"height": 128, "width": 77, "original_height": 160, "original_width": 96}
    assert content["frame"] == frame
    assert [block["name"] for block in content["blocks"]] == ["res3.3", "res4.5"]
    assert content["blocks"][0]["module"] == "backbone.bottom_up.res3.3.attention"
    assert content["detections"]
    assert str(files[0]) in capsys.readouterr().out


def test_any_file_name(explore, images, tmp_path, capsys):
    file = tmp_path / "no utf-8 \udcff\n$^$ <b>.png"
    file.write_bytes(images[0].read_bytes())
    explore(file)
    (page,) = (tmp_path / "out").iterdir()
    assert page.stem == file.stem
    assert content_of(page)["title"] == r"no utf-8 \udcff\n$^$ <b>.png"
    assert r"\udcff\n$^$ <b>.html (" in capsys.readouterr().out


def test_a_page_has_the_attention_of_the_detectors_forward_pass(
    explore, root, images, tmp_path, device
):
    explore(images[0])
    block = content_of(tmp_path / "out" / f"{images[0].stem}.html")["blocks"][0]
    file = str(root / f"configs/Shapes/{CONFIG}.yaml")
    cfg = load_config(file, ["MODEL.DEVICE", "cpu", *explore.keys])
    cfg.MODEL.WEIGHTS = str(tmp_path / f"{CONFIG}.pth")
    predictor = Predictor(cfg)
    with record_attention(predictor.model) as record:
        predictor(read_image(cfg, str(images[0]), "BGR"))
    attention = record["backbone.bottom_up.res3.3.attention"].attention(0)
    for key, expected in (
        ("maxima", attention.pairwise.max(1).values),
        ("unary", attention.unary),
    ):
        found = np.frombuffer(base64.b64decode(block[key]), "<f4")
        rtol = 1e-5 if device == "cpu" else 1e-4  # against the CPU's
        np.testing.assert_allclose(found, expected.numpy(), rtol=rtol)


@pytest.mark.usefixtures("device")
def test_figures_a_block(explore, images, tmp_path):
    explore(*images, "--format", "png", "--points", "20,30", "100,90", "--blocks", "res4.5")
    (figure,) = (tmp_path / "out").iterdir()
    assert figure.name == "attention_res4.5.png"
    width, height = Image.open(figure).size
    assert height == pytest.approx(width, rel=0.05)  # 4 rows of 4 square panels

    explore(images[0], "--format", "both", "--blocks", "res4.5")
    names = {f"{images[0].stem}.html", "attention_res4.5.png"}
    assert {file.name for file in (tmp_path / "out").iterdir()} == names
    page = content_of(tmp_path / "out" / f"{images[0].stem}.html")
    assert [block["name"] for block in page["blocks"]] == ["res4.5"]


def test_a_page_is_replaced_and_nothing_else(explore, images, tmp_path):
    file = tmp_path / "out" / f"{images[0].stem}.html"
    explore(images[0])
    file.write_text(f"<html>{GENERATOR}")
    explore(images[0])
    assert content_of(file)["title"] == images[0].name

    file.write_text("my notes")
    with pytest.raises(SystemExit, match=r"--output: .*is not a page of this command"):
        explore(images[0])
    assert file.read_text() == "my notes"


def test_a_failed_write_leaves_the_old_page(explore, images, tmp_path, monkeypatch):
    explore(images[0])
    file = tmp_path / "out" / f"{images[0].stem}.html"
    before = file.read_text()

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr("pathlib.Path.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        explore(images[0])
    assert file.read_text() == before
    assert list((tmp_path / "out").iterdir()) == [file]


def test_a_model_without_attention_is_refused(explore, images, tmp_path):
    with pytest.raises(SystemExit, match=r"no attention block: MODEL.DNL.RES2"):
        explore(images[0], config="baseline")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--blocks", "res5.2"], r"--blocks: res5.2 has no attention; choose from res3.3, res4.5"),
        (["--points", "128,3"], r"--points: 128,3 is outside .*128 x 128 pixels"),
        (["--threshold", "2"], r"--threshold: 2.0 must be between 0 and 1"),
        (["--budget", "0"], r"--budget: 0.0 must be above 0"),
    ],
)
def test_bad_options_are_named(explore, images, tmp_path, words, message):
    with pytest.raises(SystemExit, match=message):
        explore(images[0], *words)
    assert not (tmp_path / "out").exists()


def test_bad_points_and_images_are_named(explore, images, tmp_path, capsys):
    with pytest.raises(SystemExit):
        explore(images[0], "--points", "here")
    assert "'here' must be X,Y in pixels" in capsys.readouterr().err
    with pytest.raises(SystemExit, match=r"IMAGE: there is no file"):
        explore(tmp_path / "gone.jpg")
