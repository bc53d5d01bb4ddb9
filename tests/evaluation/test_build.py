"""Which evaluators a data set gets, and AP against the published one."""

import json

import numpy as np
import pytest
import torch
from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from detectron2.evaluation import COCOEvaluator
from detectron2.structures import Boxes, Instances
from pycocotools import mask as mask_util

from dnl_det.evaluation import build_evaluator


@pytest.fixture
def cfg(tmp_path):
    config = get_cfg()
    config.OUTPUT_DIR = str(tmp_path)
    return config


def test_shapes_get_coco_s_measures(cfg, shapes):
    assert isinstance(build_evaluator(cfg, "shapes_val"), COCOEvaluator)


def test_unknown_kinds_are_named(cfg):
    MetadataCatalog.get("odd").evaluator_type = "odd_kind"
    with pytest.raises(
        ValueError, match=r"'odd' has evaluator_type 'odd_kind': must be one of coco"
    ):
        build_evaluator(cfg, "odd")
    MetadataCatalog.remove("odd")


def test_published_ap_of_coco_detections(cfg, shared):
    """The evaluator is fed as a model would feed it, with detections whose AP is published.

    Masks alone: a model's boxes are float32, and some of this set lie on an IoU threshold.
    """
    folder = shared / "evaluation" / "cocoapi_fake"
    truth = json.loads((folder / "ground_truth.json").read_text())
    expected = json.loads((folder / "expected.json").read_text())
    name = "cocoapi_fake_for_test"
    register_coco_instances(name, {}, str(folder / "ground_truth.json"), str(folder))
    cfg.MODEL.MASK_ON = True
    try:
        DatasetCatalog.get(name)  # reading it sets the mapping of category ids
        evaluator = build_evaluator(cfg, name)
        ids = MetadataCatalog.get(name).thing_dataset_id_to_contiguous_id
        evaluator.reset()
        found = json.loads((folder / "segm_results.json").read_text())
        for image in truth["images"]:
            entries = [entry for entry in found if entry["image_id"] == image["id"]]
            size = (image["height"], image["width"])
            evaluator.process([{"image_id": image["id"]}], [instances(entries, size, ids)])
        results = evaluator.evaluate()
    finally:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)
    for metric in ("AP", "AP50", "AP75", "APs", "APm", "APl"):
        assert results["segm"][metric] == pytest.approx(100 * expected["segm"][metric], abs=1e-10)


def instances(entries, size, ids):
    result = Instances(size)
    masks = [mask_util.decode(entry["segmentation"]) for entry in entries]
    result.pred_masks = torch.tensor(np.array(masks), dtype=torch.bool).reshape(-1, *size)
    result.pred_boxes = Boxes(torch.zeros(len(entries), 4))
    result.scores = torch.tensor([entry["score"] for entry in entries], dtype=torch.float64)
    result.pred_classes = torch.tensor([ids[entry["category_id"]] for entry in entries])
    return {"instances": result}
