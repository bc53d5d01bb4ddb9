"""Two commands from the authors' file to an AP; and detections by ``predict``."""

import json

import numpy as np
import pytest

CONFIG = "configs/COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_dnl_c4_1x.yaml"
IMAGES = 3
SMALL = ["INPUT.MIN_SIZE_TEST", "160", "MODEL.RPN.POST_NMS_TOPK_TEST", "50"]


@pytest.fixture
def few_images(shared, tmp_path):
    """Annotations of some real images of COCO, and their folder."""
    coco = shared / "datasets" / "coco"
    content = json.loads((coco / "annotations" / "instances_val2017.json").read_text())
    content["images"] = content["images"][:IMAGES]
    ids = {image["id"] for image in content["images"]}
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] in ids]
    file = tmp_path / "few.json"
    file.write_text(json.dumps(content))
    return file, coco / "val2017", content["images"]


def by_image(file, key):
    found = {}
    for entry in json.loads(file.read_text()):
        found.setdefault(entry[key], []).append(entry)
    return found


def test_convert_then_evaluate_or_predict(start, few_images, official_file, tmp_path):
    annotations, folder, images = few_images
    converted = tmp_path / "converted.pth"
    report = start("-m", "dnl_det", "convert", official_file("dnl_c4"), converted).finish()
    assert f"--config-file {CONFIG}" in report
    assert f"--eval-only MODEL.WEIGHTS {converted}" in report

    data = ("--val-json", annotations, "--val-images", folder, *SMALL)
    weights = ("MODEL.WEIGHTS", converted, "OUTPUT_DIR", tmp_path / "eval")
    evaluation = ("train_net.py", "--config-file", CONFIG, "--eval-only", *data, *weights)
    output = start(*evaluation).finish()
    assert "start fresh" not in output
    assert "Task: bbox" in output
    assert "Task: segm" in output
    results = tmp_path / "eval" / "inference" / "coco_instances_results.json"
    evaluated = by_image(results, "image_id")

    photos = [folder / image["file_name"] for image in images]
    options = ("--config-file", CONFIG, "--weights", converted, "--output", tmp_path / "detections")
    start("-m", "dnl_det", "predict", *photos, *options, "--opts", *SMALL).finish()
    predicted = by_image(tmp_path / "detections" / "detections.json", "file_name")
    for photo, image in zip(photos, images, strict=True):
        assert len(evaluated[image["id"]]) > 10
        for ours, theirs in zip(predicted[str(photo)], evaluated[image["id"]], strict=True):
            assert ours["category_id"] == theirs["category_id"]
            assert ours["segmentation"] == theirs["segmentation"]
            assert ours["score"] == pytest.approx(theirs["score"], abs=1e-6)
            np.testing.assert_allclose(ours["bbox"], theirs["bbox"], atol=1e-3)
