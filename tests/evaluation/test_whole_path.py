"""``train_net.py --eval-only`` in real processes, from the images on disk to the printed AP."""

import contextlib
import io
import json
import math
import os
import re
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as mask_util
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from small_data import encode, small, write_config, write_data

SCRIPT = Path(__file__).with_name("given_detections.py")
METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl")
TWO = ("--num-gpus", 2, "--dist-url", "auto")


@pytest.fixture
def evaluate(start):
    """Start the program, with detections written for its model."""

    def begin(folder, data, found, *words, **environment):
        config = write_config(folder)
        (folder / "found.json").write_text(json.dumps(found))
        options = ["--config-file", config, "--eval-only", *data, *words]
        options += ["OUTPUT_DIR", folder / "out"]
        given = {"GIVEN_DETECTIONS": str(folder / "found.json"), **environment}
        return start(SCRIPT, *options, fork=True, **given)

    return begin


def written(folder):
    return json.loads((folder / "out" / "inference" / "coco_instances_results.json").read_text())


def pycocotools(folder, found, task):
    """Its own 12 numbers; a mask's size is its area, not its box's."""
    if task == "segm":
        found = [{k: v for k, v in result.items() if k != "bbox"} for result in found]
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(folder / "truth.json"))
        evaluation = COCOeval(truth, truth.loadRes(found), task)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats


def printed(output):
    """What was computed, with all its digits."""
    return json.loads(re.search(r"^RESULTS (.*)$", output, re.MULTILINE)[1])


def assert_equals_pycocotools(output, folder, found):
    for task in ("bbox", "segm"):
        expected = 100 * pycocotools(folder, found, task)[:6]
        expected[expected < 0] = np.nan  # no annotation of that size
        got = [printed(output)[task][name] for name in METRICS]
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-10)


def same_detections(one, other):
    """Each once, in whatever order; corners cost boxes their last digits."""
    assert len(one) == len(other)
    assert in_order(one) == in_order(other)


def in_order(results):
    texts = []
    for result in results:
        box = [round(float(value), 6) for value in result["bbox"]]
        texts.append(json.dumps({**result, "bbox": box}, sort_keys=True))
    return sorted(texts)


@pytest.fixture(scope="module")
def fake(shared):
    """What was published: annotations, detections (the boxes' and the masks' joined) and AP."""
    folder = shared / "evaluation" / "cocoapi_fake"
    read = {f.stem: json.loads(f.read_text()) for f in folder.glob("*.json")}
    found = []
    for box, mask in zip(read["bbox_results"], read["segm_results"], strict=True):
        # One mask can be written in several ways.
        mask["segmentation"] = encode(mask_util.decode(mask["segmentation"]))
        found.append({**mask, **box})
    return read["ground_truth"], found, read["expected"]


def test_published_ap_to_ten_digits(evaluate, fake, tmp_path):
    """With boxes that are given exactly; what float32 makes of them is the next test's."""
    truth, found, expected = fake
    data = write_data(tmp_path, truth)
    output = evaluate(tmp_path, data, found).finish()
    for task in ("bbox", "segm"):
        for name in METRICS:
            assert printed(output)[task][name] == pytest.approx(
                100 * expected[task][name], abs=1e-10
            )
    same_detections(written(tmp_path), found)


def test_float32_moves_two_boxes_over_a_threshold(evaluate, fake, tmp_path):
    """A detector's boxes are float32 corners, which makes 50.45807 of this set 50.40739.

    The set's boxes are annotated ones moved by whole pixels. Two have with theirs an IoU of 0.8
    and 0.6, thresholds both, up to the 16th digit, and float32 puts them 3e-7 and 9e-6 below.
    Neither the scores, the order of detections, nor the evaluator has a part in it.
    """
    truth, found, expected = fake
    data = write_data(tmp_path, truth)
    output = evaluate(tmp_path, data, found, GIVEN_PRECISION="float32").finish()
    assert_equals_pycocotools(output, tmp_path, written(tmp_path))
    assert printed(output)["bbox"]["AP"] == pytest.approx(50.4073862327, abs=1e-10)

    moved = {place(r): r["bbox"] for r in written(tmp_path)}
    assert max(abs(np.subtract(moved[place(r)], r["bbox"])).max() for r in found) < 1e-4
    thresholds = np.linspace(0.5, 0.95, 10)
    crossed = []
    for result in found:
        for target in truth["annotations"]:
            if all(target[k] == result[k] for k in ("image_id", "category_id")):
                boxes = [result["bbox"], moved[place(result)]]
                before, after = mask_util.iou(boxes, [target["bbox"]], [target["iscrowd"]])[:, 0]
                if ((before >= thresholds) != (after >= thresholds)).any():
                    crossed.append((result, before, after))
    assert sorted(round(before, 15) for _, before, _ in crossed) == [0.6, 0.8]
    assert all(1e-7 < before - after < 1e-5 for _, before, after in crossed)
    # These two as they were, and the published AP is back.
    exact = {place(r): r["bbox"] for r, _, _ in crossed}
    mended = [{**r, "bbox": exact.get(place(r), r["bbox"])} for r in written(tmp_path)]
    assert pycocotools(tmp_path, mended, "bbox")[0] == pytest.approx(
        expected["bbox"]["AP"], abs=1e-12
    )


def place(result):
    """What tells a detection from the others of its image, whatever became of its box."""
    return result["image_id"], result["category_id"], result["segmentation"]["counts"]


@pytest.mark.parametrize("images", [7, 1])
def test_two_processes_count_every_image_once(evaluate, tmp_path, images):
    """An odd number of images; and one image, so that the second process has none."""
    truth, found = small(images)
    data = write_data(tmp_path, truth)
    output = evaluate(tmp_path, data, found, *TWO).finish()
    assert "World size: 2" in output
    same_detections(written(tmp_path), found)
    assert_equals_pycocotools(output, tmp_path, found)
    assert 0 < printed(output)["bbox"]["AP"] < 100
    per_class = [printed(output)["bbox"][f"AP-{name}"] for name in ("found", "absent")]
    assert per_class[0] == pytest.approx(printed(output)["bbox"]["AP"])
    assert math.isnan(per_class[1]), "no annotation, no AP, and no part in the mean"


@pytest.mark.parametrize(
    ("number", "options", "to_all"),
    [
        (signal.SIGTERM, (), False),
        (signal.SIGINT, ("DATALOADER.NUM_WORKERS", 2), True),
        pytest.param(signal.SIGINT, TWO, True, marks=pytest.mark.slow),
    ],
)
def test_a_signal_ends_it_in_so_many_words(evaluate, tmp_path, number, options, to_all):
    """In the middle of the images; to all processes as from a terminal's Ctrl-C."""
    truth, found = small(40)
    data = write_data(tmp_path, truth)
    process = evaluate(tmp_path, data, found, *options, GIVEN_SECONDS="1")
    process.wait_until(lambda: "Start inference on" in process.printed())
    time.sleep(1.5)
    (os.killpg if to_all else os.kill)(process.pid, number)
    output = process.finish(128 + number)
    name = signal.Signals(number).name
    assert f"{name}: the evaluation was stopped before its end and has no result" in output
    assert "Traceback" not in output
    assert not (tmp_path / "out" / "inference").exists()
