"""``--eval-only`` of what a user has on a bad day, by hotcoco and without it."""

import json
import math

import given_detections
import pytest
from small_data import small, write_config, write_data

from dnl_det.engine import argument_parser

METRICS = ("AP", "AP50", "AP75", "APs")


@pytest.fixture(params=["hotcoco", "pycocotools"])
def evaluate(request, tmp_path, monkeypatch):
    """``train_net.py --eval-only`` in this process; the results and what was logged."""
    if request.param == "pycocotools":
        monkeypatch.setattr("dnl_det.evaluation.build.find_spec", lambda _: None)

    def run(truth, found):
        data = write_data(tmp_path, truth)
        (tmp_path / "found.json").write_text(json.dumps(found))
        monkeypatch.setenv("GIVEN_DETECTIONS", str(tmp_path / "found.json"))
        words = ["--config-file", write_config(tmp_path), "--eval-only", *data]
        words += ["OUTPUT_DIR", tmp_path / "out"]
        arguments = argument_parser().parse_args(list(map(str, words)))
        results = given_detections.train.main(arguments)
        return results, (tmp_path / "out" / "log.txt").read_text()

    return run


def written(folder):
    return json.loads((folder / "out" / "inference" / "coco_instances_results.json").read_text())


def test_no_detections_have_an_ap_of_zero(evaluate, tmp_path):
    results, log = evaluate(small(3)[0], [])
    for task in ("bbox", "segm"):
        assert [results[task][name] for name in METRICS] == [0] * 4
        assert results[task]["AP-found"] == 0
        # Neither has an annotation: AP is not defined, whatever was found.
        assert math.isnan(results[task]["APl"])
        assert math.isnan(results[task]["AP-absent"])
        assert f"copypaste: Task: {task}" in log
    assert "data set own_val: the model found nothing in 3 images, so AP is 0" in log
    assert "copypaste: 0.0000,0.0000,0.0000,0.0000,nan,nan" in log
    assert written(tmp_path) == []


def test_one_image_and_a_class_without_annotations(evaluate, tmp_path):
    truth, found = small(1)
    truth["annotations"] = truth["annotations"][:1]
    results, _ = evaluate(truth, found[:1])
    assert results["bbox"]["AP"] == results["bbox"]["AP-found"] == pytest.approx(90)
    assert math.isnan(results["segm"]["AP-absent"])
    files = list((tmp_path / "out" / "inference").iterdir())
    assert [file.name for file in files] == ["coco_instances_results.json"]


@pytest.mark.parametrize("annotations", [None, []])
def test_without_annotations_detections_are_written(evaluate, tmp_path, annotations):
    """As of COCO's test set, whose JSON has no such key."""
    truth, found = small(3)
    truth["annotations"] = annotations
    if annotations is None:
        del truth["annotations"]
    results, log = evaluate(truth, found)
    assert results == {}
    assert f"own_val: {tmp_path / 'truth.json'} has no annotations, so there is no AP" in log
    assert len(written(tmp_path)) == len(found) == 6


def test_detections_that_are_not_finite_are_counted(evaluate, tmp_path):
    truth, found = small(3)
    found[0]["bbox"][2] = math.nan
    found[1]["score"] = math.inf
    found[3]["score"] = math.nan
    results, log = evaluate(truth, found)
    assert (
        "own_val: 3 detections in 2 of 3 images have a box or score that is not finite, first in "
        "image 1, and are left out: the training has probably diverged"
    ) in log
    assert len(written(tmp_path)) == 3
    assert results["bbox"]["AP"] > 0  # of the third image's


def test_all_detections_are_not_finite(evaluate):
    truth, found = small(3)
    results, log = evaluate(truth, [{**r, "score": math.nan} for r in found])
    assert "own_val: 6 detections in 3 of 3 images" in log
    assert "so AP is 0" in log
    assert results["bbox"]["AP"] == results["segm"]["AP"] == 0


def test_no_images_is_an_error_that_names_the_data_set(evaluate):
    truth, _ = small(0)
    with pytest.raises(SystemExit) as stopped:
        evaluate(truth, [])
    assert stopped.value.code.startswith(
        "error: the data cannot be used\ndata set own_val: 0 images"
    )
    assert "images-none x 1: no image, or none that can be used" in stopped.value.code
