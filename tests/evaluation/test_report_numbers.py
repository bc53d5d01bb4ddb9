"""The numbers of a report, against pycocotools and a loop over thresholds."""

import contextlib
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from dnl_det.evaluation.detections_file import evaluate_detections, read_annotations
from dnl_det.evaluation.report import analyse, operating_point

detection = st.tuples(st.sampled_from([0.1, 0.2, 0.4, 0.5, 0.9]), st.booleans())


@given(st.lists(detection, max_size=12), st.integers(0, 5), st.sampled_from([0, 0.5, 0.75, 1]))
def test_the_operating_point_is_that_of_a_loop_over_thresholds(detections, missed, precision):
    objects = sum(right for _, right in detections) + missed
    expected = None
    for threshold in sorted({score for score, _ in detections}, reverse=True):
        kept = [right for score, right in detections if score >= threshold]
        if objects and sum(kept) / len(kept) >= precision:
            expected = {
                "threshold": threshold,
                "precision": sum(kept) / len(kept),
                "recall": sum(kept) / objects,
                "right": sum(kept),
                "wrong": len(kept) - sum(kept),
            }
    assert operating_point(detections, objects, precision) == expected


def at_half(truth, results, task):
    """pycocotools' detections and objects of each class at an IoU of 0.5, without crowds."""
    with contextlib.redirect_stdout(io.StringIO()):
        annotated = COCO(str(truth))
        evaluation = COCOeval(annotated, annotated.loadRes(results), task)
        evaluation.evaluate()
    found, objects = {}, {}
    every = evaluation.params.areaRng[0]
    for one in evaluation.evalImgs:
        if one is None or one["aRng"] != every:
            continue
        key = one["category_id"]
        objects[key] = objects.get(key, 0) + int((one["gtIgnore"] == 0).sum())
        matches, ignored = one["dtMatches"][0], one["dtIgnore"][0]
        for score, match, ignore in zip(one["dtScores"], matches, ignored, strict=True):
            if not ignore:
                found.setdefault(key, []).append((score, match > 0))
    return found, objects


@pytest.mark.parametrize("task", ["bbox", "segm"])
@pytest.mark.parametrize("precision", [0.5, 0.9])
def test_classes_are_pycocotools(shared, task, precision):
    fake = shared / "evaluation" / "cocoapi_fake"
    results = json.loads((fake / f"{task}_results.json").read_text())
    truth = read_annotations(str(fake / "ground_truth.json"))
    evaluation = evaluate_detections("", truth, results, task)
    numbers = analyse(evaluation, precision=precision, threshold=0.5)
    expected = json.loads((fake / "expected.json").read_text())[task]
    assert numbers["metrics"]["AP"] == pytest.approx(next(iter(expected.values())), abs=1e-10)
    found, objects = at_half(fake / "ground_truth.json", results, task)
    for one in numbers["classes"]:
        assert one["objects"] == objects.get(one["id"], 0)
        of_class = found.get(one["id"], [])
        assert one["operating_point"] == operating_point(of_class, one["objects"], precision)
    known = [one["AP"] for one in numbers["classes"] if one["AP"] is not None]
    assert sum(known) / len(known) == pytest.approx(numbers["metrics"]["AP"], abs=1e-12)
    counts = [sum(row[key] for row in numbers["images"]) for key in ("right", "wrong", "missed")]
    right = sum(match for of_class in found.values() for _, match in of_class)
    wrong = sum(not match for of_class in found.values() for _, match in of_class)
    assert counts == [right, wrong, sum(objects.values()) - right]


def test_each_error_is_of_its_kind():
    """Objects of two classes in a row; every detection but two is one error of TIDE's."""
    categories = [{"id": 0, "name": "zero"}, {"id": 7, "name": "seven"}]
    images = [{"id": 0, "file_name": "0.jpg", "height": 100, "width": 900}]
    kinds = ["right", "wrong class", "imprecise", "both", "missed", "also right"]
    boxes = {kind: [100 * k, 0, 40, 40] for k, kind in enumerate(kinds)}
    objects = [
        {"id": k, "image_id": 0, "category_id": 0, "bbox": box, "area": 1600, "iscrowd": 0}
        for k, box in enumerate(boxes.values(), 1)
    ]
    objects[-1]["category_id"] = 7

    def found(kind, category, score, shift=0):
        x, *rest = boxes.get(kind, [800, 0, 40, 40])
        box = [x + shift, *rest]
        return {"image_id": 0, "category_id": category, "score": score, "bbox": box}

    detections = [
        found("right", 0, 0.9),
        found("right", 0, 0.8),  # once more
        found("wrong class", 7, 0.7),
        found("imprecise", 0, 0.6, shift=20),  # an IoU of 1/3
        found("both", 7, 0.5, shift=20),
        found("nothing", 0, 0.4),
        found("also right", 7, 0.95),
        found("missed", 0, 0.3, shift=37),  # an IoU of 3/77: nothing there
    ]
    truth = {"images": images, "categories": categories, "annotations": objects}
    evaluation = evaluate_detections("", truth, detections, "bbox")
    numbers = analyse(evaluation, precision=0.9, threshold=0.55)
    counts = {"Cls": 1, "Loc": 1, "Both": 1, "Dupe": 1, "Bkg": 2, "Miss": 2}
    assert numbers["tide"]["counts"] == counts
    # Of class zero: 1 of 5 found, at precision 1; of seven: 1 of 1.
    assert numbers["tide"]["AP50"] == pytest.approx((21 / 101 + 1) / 2)
    zero, seven = 0, 1
    assert numbers["confusion"]["classes"] == [0, 7]
    assert numbers["confusion"]["matrix"] == [
        [1, 1, 3],  # right; wrong class; imprecise, both and missed
        [0, 1, 0],
        [2, 0, 0],  # once more, and the imprecise one
    ]
    point = {"threshold": 0.9, "precision": 1.0, "recall": 0.2, "right": 1, "wrong": 0}
    assert numbers["classes"][zero]["operating_point"] == point
    assert numbers["classes"][seven]["operating_point"] == {**point, "threshold": 0.95, "recall": 1}
    (image,) = numbers["images"]
    assert (image["id"], image["right"], image["wrong"], image["missed"]) == (0, 2, 6, 4)


def test_an_annotation_with_id_0_can_be_found():
    """pycocotools takes id 0 for no match."""
    truth = {
        "images": [{"id": 0, "file_name": "0.jpg", "height": 50, "width": 50}],
        "categories": [{"id": 0, "name": "thing"}],
        "annotations": [
            {
                "id": 0,
                "image_id": 0,
                "category_id": 0,
                "bbox": [1, 1, 9, 9],
                "area": 81,
                "iscrowd": 0,
            }
        ],
    }
    found = [{"image_id": 0, "category_id": 0, "score": 0.5, "bbox": [1, 1, 9, 9]}]
    numbers = analyse(evaluate_detections("", truth, found, "bbox"), precision=1, threshold=0.5)
    assert numbers["metrics"]["AP"] == pytest.approx(1)
    assert numbers["confusion"]["matrix"] == [[1, 0], [0, 0]]
    (image,) = numbers["images"]
    assert (image["right"], image["wrong"], image["missed"]) == (1, 0, 0)
    assert numbers["tide"]["counts"]["Miss"] == 0
