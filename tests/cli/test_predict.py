"""``python -m dnl_det predict``: pictures, a COCO JSON, and what it refuses."""

import gc
import json
import os
import weakref

import numpy as np
import pytest
import torch
from detectron2.config import get_cfg
from detectron2.modeling import build_model
from PIL import Image
from pycocotools import mask as mask_util

from dnl_det import add_dnl_config
from dnl_det.__main__ import main
from dnl_det.checkpoint import Checkpointer
from dnl_det.cli.inputs import class_metadata, unique_stems
from dnl_det.data.images import read_image
from dnl_det.engine import Predictor, load_config


@pytest.fixture
def weights(root, shapes, tiny, tmp_path):
    """An untrained detector whose score threshold and class scores let detections through."""
    torch.manual_seed(0)
    cfg = load_config(str(root / "configs/Shapes/gc.yaml"), tiny)
    cfg.MODEL.DEVICE = "cpu"
    Checkpointer(build_model(cfg), str(tmp_path)).save("model")
    return tmp_path / "model.pth"


def predict(root, weights, tiny, images, output, *options):
    config = ["--config-file", str(root / "configs/Shapes/gc.yaml"), "--weights", str(weights)]
    keys = ["--opts", *tiny, "MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.0"]
    words = [*map(str, images), *config, "--output", str(output), *options, *keys]
    return main(["predict", *words])


@pytest.mark.usefixtures("device")
def test_pictures_and_coco_results(root, shapes, weights, tiny, tmp_path):
    images = sorted((shapes / "val").iterdir())[:2]
    grey = tmp_path / "grey.png"
    Image.open(images[0]).convert("L").resize((96, 160)).save(grey)
    output = tmp_path / "out"
    assert predict(root, weights, tiny, [*images, grey], output, "--threshold", "0") == 0

    stems = [image.stem for image in images]
    assert {file.name for file in output.iterdir()} == {
        *(f"{stem}.png" for stem in stems),
        "grey.png",
        "detections.json",
    }
    assert Image.open(output / "grey.png").size == (480, 800)
    results = json.loads((output / "detections.json").read_text())
    assert {entry["file_name"] for entry in results} == {str(path) for path in [*images, grey]}
    classes = json.loads((shapes / "annotations/instances_val.json").read_text())["categories"]
    names = {category["id"]: category["name"] for category in classes}
    for entry in results:
        assert names[entry["category_id"]] == entry["category_name"]
        height, width = mask_util.decode(entry["segmentation"]).shape
        assert (width, height) == ((96, 160) if "grey" in entry["file_name"] else (128, 128))
        x, y, w, h = entry["bbox"]
        assert min(x, y, w, h) >= 0
        assert x + w <= width + 1e-3
        assert y + h <= height + 1e-3


def test_a_model_of_grey_images_is_given_grey_ones(root, shapes, tiny, tmp_path):
    grey = ["INPUT.FORMAT", "L", "MODEL.PIXEL_MEAN", "[100.0]", "MODEL.PIXEL_STD", "[50.0]"]
    cfg = load_config(str(root / "configs/Shapes/gc.yaml"), [*tiny, *grey])
    cfg.MODEL.DEVICE, cfg.MODEL.WEIGHTS = "cpu", ""
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    predictor = Predictor(cfg)
    seen = []
    predictor.model.backbone.register_forward_pre_hook(lambda _, given: seen.extend(given))
    pixels = np.full((64, 64, 3), (30, 20, 10), dtype=np.uint8)  # BGR
    assert predictor(pixels)["instances"].image_size == (64, 64)
    luminance = round(0.299 * 10 + 0.587 * 20 + 0.114 * 30)
    assert seen[0].shape[1] == 1
    assert seen[0][0, 0, 0, 0].item() == pytest.approx((luminance - 100) / 50)


def test_no_photo_is_written_over(root, shapes, weights, tiny, tmp_path):
    photo, link = tmp_path / "photo.png", tmp_path / "other" / "photo.png"
    Image.open(min((shapes / "val").iterdir())).save(photo)
    before = photo.read_bytes()
    link.parent.mkdir()
    os.link(photo, link)
    for output in (tmp_path, link.parent):
        with pytest.raises(SystemExit, match=r"^error: .*photo.png would be overwritten"):
            predict(root, weights, tiny, [photo], output)
        assert not (output / "detections.json").exists()
    assert photo.read_bytes() == before


def test_one_image_at_a_time_is_in_memory(root, shapes, weights, tiny, tmp_path, monkeypatch):
    alive, most = [], []

    def read(*args):
        gc.collect()
        most.append(sum(image() is not None for image in alive))
        image = read_image(*args)
        alive.append(weakref.ref(image))
        return image

    monkeypatch.setattr("dnl_det.cli.inputs.read_image", read)
    predict(root, weights, tiny, sorted((shapes / "val").iterdir())[:4], tmp_path / "out")
    assert len(most) >= 4
    assert max(most) == 0, "images before the one that is read"


def test_images_of_one_name_do_not_overwrite_each_other(root, shapes, weights, tiny, tmp_path):
    image = min((shapes / "val").iterdir())
    copies = [tmp_path / folder / "same.bmp" for folder in "ab"]
    for copy in copies:
        copy.parent.mkdir()
        copy.write_bytes(image.read_bytes())
    predict(root, weights, tiny, copies, tmp_path / "out")
    assert {p.name for p in (tmp_path / "out").glob("*.png")} == {"same_1.png", "same_2.png"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "there is no file"),
        (b"", "cannot be read as"),
        (b"text", "cannot be read as an image"),
    ],
)
def test_a_bad_image_is_named_and_nothing_written(root, weights, tiny, tmp_path, content, message):
    file = tmp_path / "bad.jpg"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(SystemExit, match=rf"IMAGE: .*{message}"):
        predict(root, weights, tiny, [file], tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("kind", "group"), [("GeneralizedRCNN", "ROI_HEADS"), ("RetinaNet", "RETINANET")]
)
def test_without_the_data_classes_have_numbers(tmp_path, caplog, kind, group):
    cfg = get_cfg()
    cfg.DATASETS.TEST = ()
    add_dnl_config(cfg)
    cfg.MODEL.META_ARCHITECTURE = kind
    cfg.DATASETS.VAL_JSON = str(tmp_path / "gone.json")
    cfg.DATASETS.VAL_IMAGES = str(tmp_path)
    cfg.MODEL[group].NUM_CLASSES = 2
    assert class_metadata(cfg).thing_classes == ["class_1", "class_2"]
    assert "its classes are named class_1 to class_2" in caplog.text


def test_names_of_other_data_than_the_model_s_are_not_taken(caplog):
    cfg = get_cfg()
    add_dnl_config(cfg)
    cfg.DATASETS.TEST = ("coco_2017_val",)
    cfg.MODEL.META_ARCHITECTURE = "RetinaNet"
    assert class_metadata(cfg).thing_classes[0] == "person"
    cfg.MODEL.RETINANET.NUM_CLASSES = 3
    assert class_metadata(cfg).thing_classes == ["class_1", "class_2", "class_3"]
    assert "has 3 classes and coco_2017_val, the config's data, 80" in caplog.text


def test_no_two_names_are_the_same():
    assert unique_stems(["a/x.jpg", "b/x.jpg", "b/y.jpg"]) == ["x_1", "x_2", "y"]
    assert unique_stems(["a/x.jpg", "b/x.jpg", "x_1.jpg"]) == ["x_1_", "x_2", "x_1"]
