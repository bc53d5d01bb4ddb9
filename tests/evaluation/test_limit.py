"""AP of more than COCO's 100 detections of an image, beside COCO's."""

import json

import numpy as np
import pytest
from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from dnl_det.evaluation import build_evaluator

NAME = "dense_for_test"
METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl")


def dense(count):
    """An image with ``count`` objects of one class and 3 of another."""
    annotations = []
    for index in range(count + 3):
        y, x = divmod(index, 20)
        box = [16.0 * x, 16.0 * y, 12.0, 10.0 + y % 4]
        annotations.append(
            {
                "id": index + 1,
                "image_id": 1,
                "category_id": 5 if index < count else 9,
                "bbox": box,
                "area": box[2] * box[3],
                "iscrowd": 0,
                "segmentation": [corners(box)],
            }
        )
    images = [{"id": 1, "file_name": "1.png", "height": 400, "width": 400}]
    categories = [{"id": 5, "name": "many"}, {"id": 9, "name": "few"}]
    return {"images": images, "categories": categories, "annotations": annotations}


def corners(box):
    x, y, w, h = box
    return [x, y, x + w, y, x + w, y + h, x, y + h]


@pytest.fixture(params=["hotcoco", "pycocotools"])
def evaluate(request, tmp_path, monkeypatch):
    """Results of detections with the JSON's category ids, at ``TEST.DETECTIONS_PER_IMAGE``."""
    if request.param == "pycocotools":
        monkeypatch.setattr("dnl_det.evaluation.build.find_spec", lambda _: None)

    def run(truth, found, limit, masks=False):
        file = tmp_path / "truth.json"
        file.write_text(json.dumps(truth))
        register_coco_instances(NAME, {}, str(file), str(tmp_path))
        DatasetCatalog.get(NAME)
        cfg = get_cfg()
        cfg.MODEL.MASK_ON = masks
        cfg.TEST.DETECTIONS_PER_IMAGE = limit
        evaluator = build_evaluator(cfg, NAME, str(tmp_path / "out"))
        evaluator.reset()
        classes = MetadataCatalog.get(NAME).thing_dataset_id_to_contiguous_id
        entries = [{**f, "category_id": classes[f["category_id"]]} for f in found]
        evaluator._predictions = [{"image_id": 1, "instances": entries}]
        return evaluator.evaluate()

    yield run
    DatasetCatalog.remove(NAME)
    MetadataCatalog.remove(NAME)


def detections(truth, noise=0):
    """Every object, its box moved by up to ``noise`` pixels."""
    api, generator, found = COCO(), np.random.default_rng(0), []
    api.dataset = truth
    api.createIndex()
    for annotation in truth["annotations"]:
        x, y = generator.uniform(0, 1, 2) * noise
        box = [annotation["bbox"][0] + float(x), annotation["bbox"][1] + float(y)]
        box += annotation["bbox"][2:]
        rle = api.annToRLE({**annotation, "segmentation": [corners(box)]})
        found.append(
            {
                "image_id": 1,
                "category_id": annotation["category_id"],
                "score": float(generator.uniform(0.1, 1)),
                "bbox": box,
                "segmentation": {**rle, "counts": rle["counts"].decode()},
            }
        )
    return found


def by_pycocotools(content, found, task, limit):
    truth = COCO()
    truth.dataset = content
    truth.createIndex()
    key = {"bbox": "bbox", "segm": "segmentation"}[task]
    keys = ("image_id", "category_id", "score", key)
    evaluation = COCOeval(truth, truth.loadRes([{k: f[k] for k in keys} for f in found]), task)
    evaluation.params.maxDets = [1, 10, limit]
    evaluation.evaluate()
    evaluation.accumulate()
    precision = evaluation.eval["precision"][..., -1]
    chosen = [precision[..., 0], precision[0, ..., 0], precision[5, ..., 0]]
    chosen += [precision[..., area] for area in (1, 2, 3)]
    return [100 * p[p > -1].mean() if (p > -1).any() else np.nan for p in chosen]


def test_perfect_detections_of_250_objects_have_100(evaluate, caplog):
    caplog.set_level("INFO")
    truth = dense(250)
    results = evaluate(truth, detections(truth), limit=300)["bbox"]
    assert results["AP@300"] == results["APs@300"] == pytest.approx(100)
    # Recall ends at 100 / 250: 41 of the 101 points of the curve are 1.
    assert results["AP-many"] == pytest.approx(100 * 41 / 101)
    assert results["AP"] == pytest.approx((100 * 41 / 101 + 100) / 2)
    assert "AP of bbox counts the best 100 detections of a class" in caplog.text
    assert "the model gives up to 300" in caplog.text


@pytest.mark.parametrize("task", ["bbox", "segm"])
def test_both_are_those_of_pycocotools(evaluate, task):
    truth = dense(130)
    found = detections(truth, noise=4)
    results = evaluate(truth, found, limit=120, masks=True)[task]
    for limit, suffix in ((100, ""), (120, "@120")):
        ours = [results[metric + suffix] for metric in METRICS]
        expected = by_pycocotools(truth, found, task, limit)
        np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-10)
    assert 0 < results["AP"] < results["AP@120"] < 100


def test_without_detections_both_are_zero(evaluate):
    results = evaluate(dense(5), [], limit=300)["bbox"]
    assert results["AP"] == results["AP@300"] == 0
    assert np.isnan(results["APl@300"])


def test_at_coco_s_limit_nothing_is_added(evaluate, caplog):
    caplog.set_level("INFO")
    truth = dense(5)
    results = evaluate(truth, detections(truth), limit=100)
    assert not [key for key in results["bbox"] if "@" in key]
    assert "counts the best" not in caplog.text
