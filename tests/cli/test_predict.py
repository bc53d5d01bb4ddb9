"""``python -m dnl_det predict``: pictures, a COCO JSON, and what it refuses."""

import json

import pytest
import torch
from detectron2.config import get_cfg
from detectron2.modeling import build_model
from PIL import Image
from pycocotools import mask as mask_util

from dnl_det.__main__ import main
from dnl_det.checkpoint import Checkpointer
from dnl_det.engine import load_config


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


def test_without_the_data_classes_have_numbers(tmp_path, caplog):
    from dnl_det.cli.inputs import class_metadata

    cfg = get_cfg()
    cfg.DATASETS.TEST = ()
    from dnl_det import add_dnl_config

    add_dnl_config(cfg)
    cfg.DATASETS.VAL_JSON = str(tmp_path / "gone.json")
    cfg.DATASETS.VAL_IMAGES = str(tmp_path)
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 2
    assert class_metadata(cfg).thing_classes == ["class_1", "class_2"]
    assert "its classes are named class_1 to class_2" in caplog.text


def test_no_two_names_are_the_same():
    from dnl_det.cli.inputs import unique_stems

    assert unique_stems(["a/x.jpg", "b/x.jpg", "b/y.jpg"]) == ["x_1", "x_2", "y"]
    assert unique_stems(["a/x.jpg", "b/x.jpg", "x_1.jpg"]) == ["x_1_", "x_2", "x_1"]
