"""faster-coco-eval and pycocotools: the same 12 numbers, by whichever is installed."""

import importlib.util
import json

import numpy as np
import pytest
from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from detectron2.evaluation import COCOEvaluator

from dnl_det.evaluation import CheckedCOCOEvaluator, FasterCOCOEvaluator, build_evaluator

NAME = "faster_coco_for_test"


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
@pytest.mark.parametrize("kind", [FasterCOCOEvaluator, CheckedCOCOEvaluator])
def test_published_numbers(shared, registered, tmp_path, task, kind):
    folder = shared / "evaluation" / "cocoapi_fake"
    ids = registered(json.loads((folder / "ground_truth.json").read_text()))
    predictions = by_image(json.loads((folder / f"{task}_results.json").read_text()), ids)
    evaluator = kind(NAME, (task,), output_dir=str(tmp_path))
    found = numbers(evaluator, predictions, task)
    expected = list(json.loads((folder / "expected.json").read_text())[task].values())
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("kind", [FasterCOCOEvaluator, CheckedCOCOEvaluator])
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
def tool(root):
    file = root / "tools" / "benchmark_evaluation.py"
    spec = importlib.util.spec_from_file_location("benchmark_evaluation", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("task", ["bbox", "segm"])
def test_generated_detections_with_crowds(tool, registered, tmp_path, task):
    truth, predictions = tool.generate(images=60, objects=500, detections=100)
    assert any(annotation["iscrowd"] for annotation in truth["annotations"])
    registered(truth)
    evaluators = [
        FasterCOCOEvaluator(NAME, (task,), output_dir=str(tmp_path / "ours")),
        COCOEvaluator(NAME, (task,), output_dir=str(tmp_path / "theirs"), use_fast_impl=False),
    ]
    ours, theirs = (numbers(evaluator, predictions, task) for evaluator in evaluators)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-10)
    assert 0.05 < ours[0] < 0.5
    files = [tmp_path / who / "coco_instances_results.json" for who in ("ours", "theirs")]
    assert json.loads(files[0].read_text()) == json.loads(files[1].read_text())


def test_boxes_are_faster(tool, tmp_path):
    """Measured 10 times at val2017's size; here the fixed costs weigh more."""
    truth, predictions = tool.generate(images=300, objects=2100, detections=100)
    for prediction in predictions:
        for instance in prediction["instances"]:
            del instance["segmentation"]
    tool.register(truth, str(tmp_path))
    try:
        ours, _ = tool.evaluate(FasterCOCOEvaluator, predictions, "bbox")
        theirs, _ = tool.evaluate(COCOEvaluator, predictions, "bbox")
    finally:
        DatasetCatalog.remove(tool.NAME)
        MetadataCatalog.remove(tool.NAME)
    assert theirs > 3 * ours


def test_no_detections_and_wrong_classes(tool, registered, tmp_path):
    truth, predictions = tool.generate(images=5, objects=30, detections=10)
    registered(truth)
    evaluator = FasterCOCOEvaluator(NAME, ("bbox", "segm"), output_dir=str(tmp_path))
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
    assert type(build_evaluator(cfg, NAME)) is FasterCOCOEvaluator
    cfg.MODEL.KEYPOINT_ON = True
    assert type(build_evaluator(cfg, NAME)) is CheckedCOCOEvaluator
    cfg.MODEL.KEYPOINT_ON = False
    monkeypatch.setattr("dnl_det.evaluation.build.find_spec", lambda name: None)
    assert type(build_evaluator(cfg, NAME)) is CheckedCOCOEvaluator
