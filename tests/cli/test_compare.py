"""``python -m dnl_det compare``: differences of AP, their intervals, and what it refuses."""

import json

import numpy as np
import pytest

from dnl_det.__main__ import main

KEYS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")


@pytest.fixture
def fake(shared):
    return shared / "evaluation" / "cocoapi_fake"


@pytest.fixture
def compare(tmp_path):
    """Run the command on contents or files; its JSON."""

    def run(first, second, truth, *options):
        files = []
        for name, content in (("a", first), ("b", second), ("truth", truth)):
            if isinstance(content, list | dict):
                (tmp_path / f"{name}.json").write_text(json.dumps(content))
                content = tmp_path / f"{name}.json"
            files.append(str(content))
        words = [*files[:2], "--ground-truth", files[2], "--output", str(tmp_path / "out.json")]
        assert main(["compare", *words, *map(str, options)]) == 0
        return json.loads((tmp_path / "out.json").read_text())

    return run


@pytest.mark.parametrize("task", ["bbox", "segm"])
def test_a_model_beside_itself_without_every_tenth_detection(compare, fake, task, capsys):
    detections = json.loads((fake / f"{task}_results.json").read_text())
    less = [one for index, one in enumerate(detections) if index % 10]
    truth = fake / "ground_truth.json"
    found = compare(detections, less, truth, "--task", task, "--draws", 100)
    expected = list(json.loads((fake / "expected.json").read_text())[task].values())
    assert [found["metrics_a"][key] for key in KEYS] == pytest.approx(expected, abs=1e-10)
    for key in KEYS:
        assert found["deltas"][key] == pytest.approx(
            found["metrics_b"][key] - found["metrics_a"][key], abs=1e-12
        )
    interval = found["ci"]["AR100"]
    assert interval["lower"] <= found["deltas"]["AR100"] <= interval["upper"] < 0
    assert found["deltas"]["AR100"] < -0.02
    printed = capsys.readouterr().out
    row = next(line.split() for line in printed.splitlines() if line.startswith("AR100"))
    assert row[3] == f"{100 * found['deltas']['AR100']:.2f}"
    assert "100 images, 100 draws" in printed

    same = compare(detections, detections, truth, "--task", task, "--draws", 20)
    assert all(value == 0 for value in same["deltas"].values())
    assert all(same["ci"][key]["lower"] == same["ci"][key]["upper"] == 0 for key in KEYS)
    nothing = compare(detections, [], truth, "--task", task, "--draws", 5)
    assert nothing["deltas"]["AP"] == -nothing["metrics_a"]["AP"]


BOX = {"bbox": [1, 1, 8, 8], "category_id": 5, "image_id": 1}
TRUTH = {
    "images": [{"id": 1, "file_name": "1.jpg", "height": 20, "width": 20}],
    "categories": [{"id": 5, "name": "thing"}],
    "annotations": [{"id": 1, "area": 64, "iscrowd": 0, **BOX}],
}
FOUND = [{**BOX, "score": 0.5}]


@pytest.mark.parametrize(
    ("first", "truth", "options", "message"),
    [
        ([{"bbox": [1, 1, 2, 2]}], TRUTH, [], "a.json: detection 0 has no image_id, category_id"),
        ([{**FOUND[0], "image_id": 7}], TRUTH, [], "has image_id 7, which the ground truth's im"),
        ({"annotations": []}, TRUTH, [], "a.json must be a list of detections"),
        (FOUND, {**TRUTH, "annotations": []}, [], "truth.json has no annotations"),
        (FOUND, TRUTH, ["--task", "segm"], "detection 0 has no segmentation"),
        (FOUND, TRUTH, ["--draws", 0], "--draws: 0 must be at least 1"),
        ("gone.json", TRUTH, [], "gone.json"),
    ],
)
def test_what_cannot_be_compared_is_named(compare, first, truth, options, message):
    with pytest.raises(SystemExit, match=message):
        compare(first, FOUND, truth, *options)


def test_no_input_is_overwritten(compare, tmp_path):
    with pytest.raises(SystemExit, match="a.json"):
        compare(FOUND, FOUND, TRUTH, "--output", tmp_path / "a.json")
    assert json.loads((tmp_path / "a.json").read_text()) == FOUND


def test_without_hotcoco_it_says_what_to_install(compare, monkeypatch):
    monkeypatch.setattr("dnl_det.evaluation.detections_file.find_spec", lambda _: None)
    with pytest.raises(SystemExit, match="compare needs the package hotcoco: pip install hotcoco"):
        compare(FOUND, FOUND, TRUTH)


def test_a_class_without_objects_has_no_number(compare):
    truth = {**TRUTH, "categories": [*TRUTH["categories"], {"id": 6, "name": "none | at all"}]}
    found = compare(FOUND, FOUND, truth, "--draws", 3)
    assert np.isclose(found["metrics_a"]["AP"], 1)
