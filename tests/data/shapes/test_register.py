"""Shapes in detectron2's catalogs."""

import importlib
import os
from pathlib import Path

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import COCOEvaluator
from detectron2.structures import BoxMode
from pycocotools import mask as coco_mask

import dnl_det.data
from dnl_det.data import THING_CLASSES, ShapesOptions, make_scene, register_shapes, write_shapes

OPTIONS = ShapesOptions(num_train=2, num_val=1)


@pytest.fixture
def root(tmp_path):
    """A folder whose Shapes are registered; afterwards those of before are again."""
    before = Path(MetadataCatalog.get("shapes_train").json_file).parents[2]
    register_shapes(tmp_path)
    yield tmp_path
    register_shapes(before)


def test_classes_are_known_before_the_data_are_there(root):
    metadata = MetadataCatalog.get("shapes_val")
    assert metadata.thing_classes == list(THING_CLASSES)
    assert metadata.evaluator_type == "coco"
    assert metadata.json_file == str(root / "shapes/annotations/instances_val.json")
    assert metadata.image_root == str(root / "shapes/val")

    metadata = MetadataCatalog.get("shapes_sem_seg_val")
    assert metadata.stuff_classes == ["background", *THING_CLASSES]
    assert metadata.evaluator_type == "sem_seg"
    assert metadata.ignore_label == 255
    assert metadata.sem_seg_root == str(root / "shapes/labels_val")


@pytest.mark.parametrize(
    ("name", "absent"),
    [
        ("shapes_train", "annotations/instances_train.json"),
        ("shapes_sem_seg_val", "labels_val"),
    ],
)
def test_absent_data_say_how_to_make_them(root, name, absent):
    with pytest.raises(FileNotFoundError) as error:
        DatasetCatalog.get(name)
    assert f"{name}: {root / 'shapes' / absent} does not exist" in str(error.value)
    assert f"python -m dnl_det shapes --output {root / 'shapes'}" in str(error.value)


def test_records_are_the_scenes(root):
    write_shapes(root / "shapes", OPTIONS, progress=False)
    records = DatasetCatalog.get("shapes_train")
    assert len(records) == 2
    assert len(DatasetCatalog.get("shapes_val")) == 1
    for index, record in enumerate(records):
        scene = make_scene(OPTIONS, "train", index)
        assert os.path.samefile(record["file_name"], root / f"shapes/train/{index + 1:06d}.bmp")
        assert len(record["annotations"]) == len(scene.objects)
        for annotation, item in zip(record["annotations"], scene.objects, strict=True):
            assert THING_CLASSES[annotation["category_id"]] == item.category
            assert annotation["bbox_mode"] == BoxMode.XYWH_ABS
            rles = coco_mask.frPyObjects(annotation["segmentation"], 128, 128)
            assert np.array_equal(coco_mask.decode(coco_mask.merge(rles)), item.visible)


def test_records_of_label_maps_are_those_of_the_images(root):
    write_shapes(root / "shapes", OPTIONS, progress=False)
    records = DatasetCatalog.get("shapes_sem_seg_train")
    assert [(record["file_name"], record["sem_seg_file_name"]) for record in records] == [
        (str(root / f"shapes/train/{n:06d}.bmp"), str(root / f"shapes/labels_train/{n:06d}.png"))
        for n in (1, 2)
    ]


def test_registering_again_changes_nothing_and_another_root_replaces(root, tmp_path):
    before = DatasetCatalog["shapes_train"]
    register_shapes(root)
    assert DatasetCatalog["shapes_train"] is before
    register_shapes(tmp_path / "elsewhere")
    assert MetadataCatalog.get("shapes_train").json_file == str(
        tmp_path / "elsewhere/shapes/annotations/instances_train.json"
    )
    register_shapes(root)


def test_import_registers_under_detectron2_datasets_and_prints_nothing(
    root, tmp_path, monkeypatch, capfd
):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "all"))
    importlib.reload(dnl_det.data)
    captured = capfd.readouterr()
    assert captured.out == ""
    assert captured.err == ""
    assert MetadataCatalog.get("shapes_val").json_file == str(
        tmp_path / "all/shapes/annotations/instances_val.json"
    )


def test_a_perfect_prediction_scores_100(root, tmp_path):
    write_shapes(root / "shapes", ShapesOptions(num_train=1, num_val=3), progress=False)
    records = DatasetCatalog.get("shapes_val")
    evaluator = COCOEvaluator(
        "shapes_val", ("bbox", "segm"), False, str(tmp_path), use_fast_impl=False
    )
    evaluator.reset()
    for record in records:
        found = []
        for annotation in record["annotations"]:
            rle = coco_mask.merge(coco_mask.frPyObjects(annotation["segmentation"], 128, 128))
            found.append(
                {
                    "image_id": record["image_id"],
                    "category_id": annotation["category_id"],
                    "bbox": annotation["bbox"],
                    "score": 1.0,
                    "segmentation": {**rle, "counts": rle["counts"].decode("ascii")},
                }
            )
        evaluator._predictions.append({"image_id": record["image_id"], "instances": found})
    results = evaluator.evaluate()
    assert results["bbox"]["AP"] == pytest.approx(100)
    assert results["segm"]["AP"] == pytest.approx(100)
