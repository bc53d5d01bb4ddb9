"""hotcoco and pycocotools: the same numbers, by whichever is installed."""

import json

import numpy as np
import pytest
from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from detectron2.evaluation import COCOEvaluator

from dnl_det.evaluation import CheckedCOCOEvaluator, HotCOCOEvaluator, build_evaluator

NAME = "hotcoco_for_test"


@pytest.fixture
def registered(tmp_path):
    """From the annotations to the mapping of category ids to classes."""

    def register(truth):
        file = tmp_path / "truth.json"
        file.write_text(json.dumps(truth))
        register_coco_instances(NAME, {}, str(file), str(tmp_path))
        DatasetCatalog.get(NAME)  # reading it sets the mapping of category ids
        return MetadataCatalog.get(NAME).thing_dataset_id_to_contiguous_id

    yield register
    DatasetCatalog.remove(NAME)
    MetadataCatalog.remove(NAME)


def numbers(evaluator, predictions, task):
    """The 12 numbers of one task, through all the evaluator does after the last image."""
    kept = {}
    derive = evaluator._derive_coco_results

    def keep(evaluation, iou_type, class_names=None):
        kept[iou_type] = np.array(evaluation.stats[:12])
        return derive(evaluation, iou_type, class_names)

    evaluator._derive_coco_results = keep
    evaluator.reset()
    evaluator._predictions = json.loads(json.dumps(predictions))
    results = evaluator.evaluate()
    assert results[task]["AP"] == pytest.approx(100 * kept[task][0])
    return kept[task]


def by_image(results, ids):
    found = {}
    for result in results:
        result = {**result, "category_id": ids[result["category_id"]]}
        found.setdefault(result["image_id"], []).append(result)
    return [{"image_id": image, "instances": entries} for image, entries in found.items()]


@pytest.mark.parametrize("task", ["bbox", "segm"])
@pytest.mark.parametrize("kind", [HotCOCOEvaluator, CheckedCOCOEvaluator])
def test_published_numbers(shared, registered, tmp_path, task, kind):
    folder = shared / "evaluation" / "cocoapi_fake"
    ids = registered(json.loads((folder / "ground_truth.json").read_text()))
    predictions = by_image(json.loads((folder / f"{task}_results.json").read_text()), ids)
    evaluator = kind(NAME, (task,), output_dir=str(tmp_path))
    found = numbers(evaluator, predictions, task)
    expected = list(json.loads((folder / "expected.json").read_text())[task].values())
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("kind", [HotCOCOEvaluator, CheckedCOCOEvaluator])
def test_detections_are_written_whole_or_not_at_all(registered, tmp_path, monkeypatch, kind):
    """Ctrl-C while they are written: what an earlier evaluation wrote stays, and nothing else."""
    box = {"bbox": [1, 1, 8, 8], "category_id": 5}
    truth = {
        "images": [{"id": 1, "file_name": "1.jpg", "height": 20, "width": 20}],
        "categories": [{"id": 5, "name": "thing"}],
        "annotations": [{"id": 1, "image_id": 1, "area": 64, "iscrowd": 0, **box}],
    }
    ids = registered(truth)
    evaluator = kind(NAME, ("bbox",), output_dir=str(tmp_path / "out"))
    predictions = by_image([{"image_id": 1, "score": 0.5, **box}], ids)
    numbers(evaluator, predictions, "bbox")
    file = tmp_path / "out" / "coco_instances_results.json"
    before = file.read_bytes()

    def interrupted(source, target):
        raise KeyboardInterrupt

    monkeypatch.setattr("dnl_det.evaluation.coco.os.replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        numbers(evaluator, predictions, "bbox")
    assert list(file.parent.iterdir()) == [file]
    assert file.read_bytes() == before


@pytest.fixture(scope="module")
def tool(load_tool):
    return load_tool("benchmark_evaluation")


@pytest.mark.parametrize("first_id", [0, 1])
@pytest.mark.parametrize("task", ["bbox", "segm"])
def test_generated_detections_with_crowds(tool, registered, tmp_path, task, first_id):
    """Of images and categories numbered from 0 too; annotations are from 1, see check-data."""
    truth, predictions = tool.generate(images=60, objects=500, detections=100)
    assert any(annotation["iscrowd"] for annotation in truth["annotations"])
    for one in [*truth["images"], *truth["categories"]]:
        one["id"] += first_id - 1
    for one in truth["annotations"]:
        one["category_id"] += first_id - 1
    for entry in [
        *truth["annotations"],
        *predictions,
        *(i for p in predictions for i in p["instances"]),
    ]:
        entry["image_id"] += first_id - 1
    registered(truth)
    evaluators = [
        HotCOCOEvaluator(NAME, (task,), output_dir=str(tmp_path / "ours")),
        COCOEvaluator(NAME, (task,), output_dir=str(tmp_path / "theirs"), use_fast_impl=False),
    ]
    ours, theirs = (numbers(evaluator, predictions, task) for evaluator in evaluators)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-10)
    assert 0.05 < ours[0] < 0.5
    files = [tmp_path / who / "coco_instances_results.json" for who in ("ours", "theirs")]
    assert json.loads(files[0].read_text()) == json.loads(files[1].read_text())


@pytest.mark.parametrize("limit", [100, 120])
@pytest.mark.parametrize("task", ["bbox", "segm"])
def test_every_number_with_ties_and_classes_without_objects(
    tool, registered, tmp_path, task, limit
):
    truth, predictions = tool.generate(images=30, objects=150, detections=130, seed=2)
    generator = np.random.default_rng(0)
    for entry in predictions:
        for found in entry["instances"]:
            found["score"] = float(generator.integers(1, 5)) / 4  # many are equal
    # Objects of 40 of the 80 classes alone, and detections of all.
    truth["annotations"] = [a for a in truth["annotations"] if a["category_id"] <= 40]
    registered(truth)
    results = []
    for kind in (HotCOCOEvaluator, CheckedCOCOEvaluator):
        evaluator = kind(NAME, (task,), output_dir=str(tmp_path), detections_per_image=limit)
        evaluator.reset()
        evaluator._predictions = json.loads(json.dumps(predictions))
        results.append(evaluator.evaluate()[task])
    assert results[0].keys() == results[1].keys()
    assert (f"AP@{limit}" in results[0]) == (limit > 100)
    assert len(results[0]) >= 86
    for key, value in results[0].items():
        np.testing.assert_allclose(value, results[1][key], rtol=0, atol=1e-10, err_msg=key)
    assert np.isnan(results[0]["AP-class 80"])


@pytest.mark.parametrize("sigmas", [[], [0.1] * 17])
def test_key_points_are_those_of_pycocotools(registered, tmp_path, sigmas):
    generator = np.random.default_rng(0)
    truth = {
        "images": [{"id": k, "file_name": f"{k}.jpg", "height": 200, "width": 200} for k in (1, 2)],
        "categories": [{"id": 1, "name": "person", "keypoints": [str(k) for k in range(17)]}],
        "annotations": [],
    }
    predictions: list = [{"image_id": k, "instances": []} for k in (1, 2)]
    for index in range(30):
        image, crowd = index % 2, index == 7
        points = np.concatenate(
            [generator.uniform(20, 180, (17, 2)), generator.integers(0, 3, (17, 1))], axis=1
        )
        points[points[:, 2] == 0] = 0
        box = [10.0, 10.0, 100.0 + index, 80.0]
        truth["annotations"].append(
            {
                **{"id": index + 1, "image_id": image + 1, "category_id": 1, "bbox": box},
                **{"area": box[2] * box[3] / 2, "iscrowd": int(crowd)},
                **{
                    "keypoints": points.ravel().tolist(),
                    "num_keypoints": int((points[:, 2] > 0).sum()),
                },
            }
        )
        found = points + generator.normal(0, 9, points.shape) * [1, 1, 0]
        found[:, 2] = 1
        entry = {"category_id": 0, "bbox": box, "score": float(generator.uniform())}
        entry |= {"image_id": image + 1, "keypoints": found.ravel().tolist()}
        predictions[image]["instances"].append(entry)
    registered(truth)
    results = []
    for kind in (HotCOCOEvaluator, CheckedCOCOEvaluator):
        options = {"kpt_oks_sigmas": sigmas, "output_dir": str(tmp_path)}
        evaluator = kind(NAME, ("bbox", "keypoints"), **options)
        evaluator.reset()
        evaluator._predictions = json.loads(json.dumps(predictions))
        results.append(evaluator.evaluate()["keypoints"])
    assert 1 < results[0]["AP"] < 99
    assert results[0] == pytest.approx(results[1], abs=1e-10, nan_ok=True)


def test_boxes_are_faster(tool, tmp_path):
    """Measured 35 times at val2017's size; here the fixed costs weigh more."""
    truth, predictions = tool.generate(images=300, objects=2100, detections=100)
    for prediction in predictions:
        for instance in prediction["instances"]:
            del instance["segmentation"]
    tool.register(truth, str(tmp_path))
    try:
        ours, _ = tool.evaluate(HotCOCOEvaluator, predictions, "bbox")
        theirs, _ = tool.evaluate(COCOEvaluator, predictions, "bbox")
    finally:
        DatasetCatalog.remove(tool.NAME)
        MetadataCatalog.remove(tool.NAME)
    assert theirs > 3 * ours


def test_no_detections_and_wrong_classes(tool, registered, tmp_path):
    truth, predictions = tool.generate(images=5, objects=30, detections=10)
    registered(truth)
    evaluator = HotCOCOEvaluator(NAME, ("bbox", "segm"), output_dir=str(tmp_path))
    evaluator.reset()
    evaluator._predictions = [{"image_id": 1, "instances": []}]
    results = evaluator.evaluate()
    assert results["bbox"]["AP"] == results["segm"]["AP"] == 0
    evaluator._predictions = predictions
    predictions[0]["instances"][0]["category_id"] = 80
    with pytest.raises(ValueError, match="a detection has class 80, but the data set has only 80"):
        evaluator.evaluate()


def test_the_faster_one_is_taken_where_it_is_installed(tool, registered, tmp_path, monkeypatch):
    registered(tool.generate(images=5, objects=30, detections=1)[0])
    MetadataCatalog.get(NAME).evaluator_type = "coco"
    cfg = get_cfg()
    cfg.OUTPUT_DIR = str(tmp_path)
    assert type(build_evaluator(cfg, NAME)) is HotCOCOEvaluator
    cfg.MODEL.KEYPOINT_ON = True
    assert type(build_evaluator(cfg, NAME)) is HotCOCOEvaluator
    cfg.MODEL.KEYPOINT_ON = False
    monkeypatch.setattr("dnl_det.evaluation.build.find_spec", lambda name: None)
    assert type(build_evaluator(cfg, NAME)) is CheckedCOCOEvaluator
