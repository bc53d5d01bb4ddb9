"""Semantic segmentation: numbers against plain counting, and what is written."""

import json
import logging
import math

import numpy as np
import pytest
import semantic_data
import torch
from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.engine import launch
from detectron2.evaluation import verify_results
from detectron2.utils import comm
from PIL import Image

from dnl_det.engine.training.launch import leave_group
from dnl_det.evaluation import LabelError, build_evaluator
from dnl_det.evaluation.confusion import draw_confusion

NAMES = ["sky", "road", "pole | post", "absent", "found alone", "$wall$"]
USED = [0, 1, 2, 5]
COUNT = 4


@pytest.fixture
def pairs():
    """Labels and what is predicted for them; class 3 is in neither, class 4 is predicted alone."""
    labels = [semantic_data.regions(seed, USED) for seed in range(COUNT)]
    found = [
        semantic_data.predicted(one, seed, [*USED, 4]).astype(np.uint8)
        for seed, one in enumerate(labels)
    ]
    found[0][20:26, 20:26] = 4
    return list(zip(labels, found, strict=True))


@pytest.fixture
def data(pairs, tmp_path):
    """The name of a registered data set of these labels."""
    register_regions(semantic_data.write(tmp_path, [labels for labels, _ in pairs]))
    yield "regions"
    DatasetCatalog.remove("regions")
    MetadataCatalog.remove("regions")


def register_regions(records):
    DatasetCatalog.register("regions", lambda: records)
    MetadataCatalog.get("regions").set(
        stuff_classes=NAMES, ignore_label=semantic_data.IGNORE, evaluator_type="sem_seg"
    )


@pytest.fixture
def evaluator(data, tmp_path):
    return new_evaluator(tmp_path / "out")


def new_evaluator(folder):
    cfg = get_cfg()
    cfg.OUTPUT_DIR = str(folder)
    evaluator = build_evaluator(cfg, "regions")
    evaluator.reset()
    return evaluator


def process(evaluator, data, pairs):
    outputs = [semantic_data.logits(found, len(NAMES)) for _, found in pairs]
    evaluator.process(DatasetCatalog.get(data), outputs)
    return evaluator.evaluate()["sem_seg"]


def test_numbers_are_those_of_plain_counting(evaluator, data, pairs):
    results = process(evaluator, data, pairs)
    iou, edge, accuracy, of_all = semantic_data.plain_numbers(pairs, len(NAMES))
    for index, name in enumerate(NAMES):
        for key, expected in (("IoU", iou), ("BoundaryIoU", edge), ("ACC", accuracy)):
            assert results[f"{key}-{name}"] == pytest.approx(expected[index], nan_ok=True), key
    assert results["mIoU"] == pytest.approx(np.mean(iou[USED]))
    assert results["mBoundaryIoU"] == pytest.approx(np.mean(edge[USED]))
    assert results["mACC"] == pytest.approx(np.mean(accuracy[USED]))
    assert results["pACC"] == pytest.approx(of_all)
    assert 20 < results["mBoundaryIoU"] < results["mIoU"] < 95


def evaluate_half(folder, records, pairs):
    """In one of two processes: every second image, and the results of all."""
    register_regions(records)
    evaluator, rank = new_evaluator(folder), comm.get_rank()
    outputs = [semantic_data.logits(found, len(NAMES)) for _, found in pairs[rank::2]]
    evaluator.process(records[rank::2], outputs)
    results = evaluator.evaluate()
    (folder / f"{rank}.json").write_text(json.dumps(results))
    leave_group()


def test_two_processes_give_what_one_does(evaluator, data, pairs, tmp_path):
    one = process(evaluator, data, pairs)
    arguments = (tmp_path / "two", DatasetCatalog.get(data), pairs)
    (tmp_path / "two").mkdir()
    launch(evaluate_half, 2, dist_url="auto", args=arguments)
    two = json.loads((tmp_path / "two" / "0.json").read_text())["sem_seg"]
    assert two == pytest.approx(one, nan_ok=True)
    assert json.loads((tmp_path / "two" / "1.json").read_text()) is None
    files = [tmp_path / name / "inference/sem_seg_predictions.json" for name in ("out", "two")]
    counts = [len(json.loads(file.read_text())) for file in files]
    assert counts[0] == counts[1] > 10


def test_a_right_prediction_is_100_whatever_is_found_where_nothing_counts(evaluator, data, pairs):
    rng = np.random.RandomState(0)
    right = [
        (labels, np.where(labels == 255, rng.choice(USED, labels.shape), labels))
        for labels, _ in pairs
    ]
    results = process(evaluator, data, right)
    means = [results[key] for key in ("mIoU", "fwIoU", "mBoundaryIoU", "mACC", "pACC")]
    assert means == pytest.approx([100] * 5)


def test_a_class_that_is_not_annotated_is_nan_and_breaks_nothing(evaluator, data, pairs):
    results = process(evaluator, data, pairs)
    for name in ("absent", "found alone"):
        assert math.isnan(results[f"IoU-{name}"])
        assert math.isnan(results[f"BoundaryIoU-{name}"])
    assert set(map(type, results.values())) == {float}
    json.dumps(results)
    cfg = get_cfg()
    cfg.TEST.EXPECTED_RESULTS = [["sem_seg", "mIoU", results["mIoU"], 0.01]]
    assert verify_results(cfg, {"sem_seg": results})


def test_the_log_has_a_row_for_each_class(evaluator, data, pairs, caplog):
    caplog.set_level(logging.INFO)
    results = process(evaluator, data, pairs)
    rows = [line.split("|")[1:-1] for line in caplog.text.splitlines() if line.startswith("|")]
    cells = {row[0].strip(): [cell.strip() for cell in row[1:]] for row in rows}
    expected = [results[f"{key}-sky"] for key in ("IoU", "BoundaryIoU", "ACC")]
    assert cells["sky"][:3] == [f"{value:.2f}" for value in expected]
    assert cells["absent"] == ["nan", "nan", "nan", "0.00"]
    assert cells["mean"][:3] == [f"{results[key]:.2f}" for key in ("mIoU", "mBoundaryIoU", "mACC")]
    assert len(rows) == len(NAMES) + 3  # head, rule, mean
    assert "OrderedDict" not in caplog.text


def test_what_is_written(evaluator, data, pairs, tmp_path):
    results = process(evaluator, data, pairs)
    folder = tmp_path / "out" / "inference"
    assert sorted(file.name for file in folder.iterdir()) == [
        "confusion_matrix.png",
        "sem_seg_evaluation.pth",
        "sem_seg_predictions.json",
    ]
    assert torch.load(folder / "sem_seg_evaluation.pth")["mIoU"] == results["mIoU"]
    predictions = json.loads((folder / "sem_seg_predictions.json").read_text())
    assert {one["file_name"] for one in predictions} == {
        record["file_name"] for record in DatasetCatalog.get(data)
    }


def test_without_a_labelled_pixel_there_is_no_miou_and_a_warning(evaluator, data, caplog):
    for record in DatasetCatalog.get(data):
        Image.new("L", (60, 40), 255).save(record["sem_seg_file_name"])
    empty = np.zeros((40, 60), dtype=np.uint8)
    results = process(evaluator, data, [(empty, empty)] * COUNT)
    assert math.isnan(results["mIoU"])
    assert math.isnan(results["pACC"])
    assert "regions: no pixel of its labels has a class, so there is no mIoU" in caplog.text


def test_labels_of_another_size_are_named(evaluator, data):
    record = DatasetCatalog.get(data)[0]
    Image.new("L", (50, 40)).save(record["sem_seg_file_name"])
    empty = semantic_data.logits(np.zeros((40, 60)), len(NAMES))
    with pytest.raises(LabelError, match=r"0.png has 50 x 40 pixels, and .*0.jpg 60 x 40"):
        evaluator.process([record], [empty])


def test_more_classes_than_the_data_have_name_the_key(evaluator, data):
    record = DatasetCatalog.get(data)[0]
    with pytest.raises(LabelError, match=r"predicts 7 classes, and 'regions' has 6 .*NUM_CLASSES"):
        evaluator.process([record], [semantic_data.logits(np.zeros((40, 60)), 7)])


@pytest.mark.parametrize(("count", "limit"), [(19, 1300), (60, 1600)])
def test_the_confusion_matrix_is_drawn(tmp_path, count, limit):
    counts = np.diag(np.arange(count))  # the first row is empty
    counts[1] = 0
    counts[1, count - 1] = 7
    file = tmp_path / "matrix.png"
    file.write_bytes(draw_confusion(counts, ["$a_{$ | long name " * 9] * count))
    with Image.open(file) as image:
        assert 1000 < max(image.size) < limit
        colors = np.array(image.convert("RGB")).reshape(-1, 3)
    for color in ((211, 211, 211), (8, 48, 107)):  # grey, and the blue of 100 %
        assert (colors == color).all(axis=1).sum() > 10 * count
