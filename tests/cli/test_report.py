"""``python -m dnl_det report``: its files, its page, and what it refuses."""

import base64
import io
import json
import re

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as mask_util

from dnl_det.__main__ import main

NAMES = ["$x_1$ <b>", "two\n| lines", "never seen"]


@pytest.fixture
def data(tmp_path):
    """Two images, one of them not there, with boxes and masks; ids start at 0."""
    (tmp_path / "images").mkdir()
    pixels = np.full((60, 80, 3), 90, np.uint8)
    Image.fromarray(pixels).save(tmp_path / "images/<i>.png")
    mask = np.zeros((60, 80), np.uint8, order="F")
    mask[10:30, 10:40] = 1
    rle = mask_util.encode(mask)
    rle["counts"] = rle["counts"].decode()
    thing = {"bbox": [10, 10, 30, 20], "segmentation": rle, "category_id": 0}
    truth = {
        "images": [
            {"id": 0, "file_name": "<i>.png", "height": 60, "width": 80},
            {"id": 1, "file_name": "gone.png", "height": 60, "width": 80},
        ],
        "categories": [{"id": k, "name": name} for k, name in enumerate(NAMES)],
        "annotations": [
            {"id": 1 + k, "image_id": k, "area": 600, "iscrowd": 0, **thing} for k in range(2)
        ],
    }
    found = [{"image_id": 0, "score": 0.9, **thing, "category_id": 1}]
    found += [{"image_id": 1, "score": 0.8, **thing}]
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    return truth, found


@pytest.fixture
def report(tmp_path, data):
    """Run the command on detections; ``report.json``."""

    def run(*options, detections=None):
        file = tmp_path / "inference" / "found.json"
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(data[1] if detections is None else detections))
        words = ["report", file, "--ground-truth", tmp_path / "truth.json", *options]
        assert main([str(word) for word in words]) == 0
        return json.loads((tmp_path / "inference/report.json").read_text())

    return run


def test_files_and_page(report, tmp_path, capsys):
    found = report("--images", tmp_path / "images", "--precision", "0.5")
    assert set(found) == {"bbox", "segm"}
    charts = {
        f"report_{task}_{name}.png"
        for task in found
        for name in ("precision_recall", "classes", "confusion", "tide")
    }
    files = {file.name for file in (tmp_path / "inference").iterdir()}
    assert files == {"found.json", "report.html", "report.json", *charts}
    for chart in charts:
        assert Image.open(tmp_path / "inference" / chart).width > 400
    for numbers in found.values():
        assert [one["name"] for one in numbers["classes"]] == NAMES
        assert numbers["metrics"]["AP"] == pytest.approx(51 / 101)
        # The other class was found in one image.
        assert [(row["id"], row["right"]) for row in numbers["images"]] == [(0, 0), (1, 1)]
        assert numbers["confusion"]["matrix"] == [[1, 1, 0, 0], *([[0, 0, 0, 0]] * 3)]
        point = numbers["classes"][0]["operating_point"]
        assert (point["threshold"], point["precision"], point["recall"]) == (0.8, 1, 0.5)
        assert numbers["classes"][2]["AP"] is None

    page = (tmp_path / "inference/report.html").read_text()
    assert "&lt;i&gt;.png: AP50 0.0; 0 right, 1 wrong, 1 missed" in page
    assert "$x_1$ &lt;b&gt;" in page
    assert "<b>" not in page
    assert "<h2>Boxes</h2>" in page
    assert "<h2>Masks</h2>" in page
    pictures = [
        Image.open(io.BytesIO(base64.b64decode(content)))
        for content in re.findall(r"data:image/jpeg;base64,([^\"]+)", page)
    ]
    assert len(pictures) == 2  # one a task: the other image is not there
    boxes, masks = (np.asarray(picture).astype(int) for picture in pictures)
    inside = np.s_[170:190, 150:200]  # left, the annotation's middle: coloured by a mask alone
    assert np.abs(boxes[inside] - 90).mean() < 3
    assert np.abs(masks[inside] - 90).mean() > 10
    printed = capsys.readouterr()
    assert "gone.png is not shown: " in printed.err
    assert re.search(r"\$x_1\$ <b> +two\\n\\\| lines +1\n", printed.out)


def test_without_images_or_detections(report, tmp_path):
    found = report("--worst", 1)
    assert "data:image/jpeg" not in (tmp_path / "inference/report.html").read_text()
    assert len(found["bbox"]["images"]) == 2
    nothing = report(detections=[])
    for numbers in nothing.values():
        assert numbers["metrics"]["AP"] == 0
        assert numbers["tide"]["counts"]["Miss"] == 2
        assert numbers["operating_point"] is None
    assert list(report("--task", "bbox")) == ["bbox"]


@pytest.mark.parametrize(
    ("options", "change", "message"),
    [
        (["--precision", 1.2], {}, "--precision: 1.2 must be from 0 to 1"),
        (["--threshold", -1], {}, "--threshold: -1.0 must be from 0 to 1"),
        (["--worst", -1], {}, "--worst: -1 must be 0 or more"),
        (["--images", "nowhere"], {}, "--images: there is no folder nowhere"),
        (["--task", "segm"], {"segmentation": None}, "detection 0 has no segmentation"),
        ([], {"image_id": 9}, "detection 0 has image_id 9"),
    ],
)
def test_bad_input_is_named_and_nothing_written(report, data, tmp_path, options, change, message):
    one = {key: value for key, value in {**data[1][0], **change}.items() if value is not None}
    with pytest.raises(SystemExit, match=message):
        report(*options, detections=[one])
    assert [file.name for file in (tmp_path / "inference").iterdir()] == ["found.json"]


def test_no_input_is_overwritten(report, tmp_path):
    (tmp_path / "inference").mkdir()
    (tmp_path / "inference/report.json").hardlink_to(tmp_path / "truth.json")
    with pytest.raises(SystemExit, match=r"report.json would be overwritten"):
        report()


def test_without_hotcoco_it_says_what_to_install(report, monkeypatch):
    monkeypatch.setattr("dnl_det.evaluation.detections_file.find_spec", lambda _: None)
    with pytest.raises(SystemExit, match="report needs the package hotcoco: pip install hotcoco"):
        report()
