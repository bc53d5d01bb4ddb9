"""Whole data sets: sound ones, registered ones, and the report of all that is found."""

import json
import re

import pytest
from detectron2.data import DatasetCatalog
from faulty import SECOND, annotation, check, codes

from dnl_det.data import register_shapes
from dnl_det.data.checks import FAULTS, DataError, Use, check_dataset, checked, raise_errors
from dnl_det.data.checks.findings import KINDS


def test_a_sound_data_set_has_no_finding(data):
    for evaluation in (False, True):
        before = json.loads(data.write().read_text())
        found = check(data, evaluation=evaluation, masks=True)
        assert not found.report.findings
        assert not found.report.changes_annotations
        assert found.content == before
    assert "nothing found" in found.report.text()


def test_a_whole_data_set_passes_and_is_counted(shapes):
    assert len(check_dataset("shapes_train", Use()).content["images"]) == 12
    assert len(check_dataset("shapes_val", Use(evaluation=True)).content["images"]) == 6


def test_real_coco_images_pass(shared):
    root = shared / "datasets" / "coco"
    for split in ("train", "val"):
        json_file = root / "annotations" / f"instances_{split}2017.json"
        found = checked(split, json_file, root / f"{split}2017", Use(thorough=True, masks=True))
        assert codes(found) == {}
        assert found.content == json.loads(json_file.read_text())
        assert len(found.content["images"]) == 80


def test_unknown_names_get_near_ones():
    with pytest.raises(
        ValueError, match=r"no data set 'coco_2017_vall'; near it are coco_2017_val"
    ):
        check_dataset("coco_2017_vall", Use())


def test_absent_shapes_say_how_to_make_them(tmp_path, data_root):
    register_shapes(tmp_path / "nowhere")
    try:
        found = check_dataset("shapes_val", Use())
        with pytest.raises(DataError, match=r"python -m dnl_det shapes --output"):
            raise_errors([found.report])
    finally:
        register_shapes(data_root)


def test_other_classes_than_a_data_set_is_known_for(data):
    from detectron2.data.datasets import register_coco_instances

    classes = {"thing_classes": ["cat", "cow"]}
    register_coco_instances("mine", classes, str(data.write()), str(data.images))
    try:
        found = check_dataset("mine", Use())
    finally:
        DatasetCatalog.remove("mine")
    assert codes(found, "error") == {"categories-differ": 1}


def test_all_is_told_at_once_with_counts_and_examples(data):
    for k in range(9, 30):
        data.annotations.append(annotation(k, 1, 7, SECOND))
    data.file(2).unlink()
    data.file(3).write_bytes(b"")
    found = check(data, evaluation=True)
    text = found.report.text(examples=2)
    assert re.search(r"error    image-missing x 1: .*\n +image 2, 2.png", text)
    assert re.search(r"error    image-zero-bytes x 1: .*\n +image 3, 3.png", text)
    assert "error    annotation-category-unknown x 21: " in text
    assert "annotation 10, image 1: category_id 7" in text
    assert "annotation 11, " not in text
    assert "... and 19 more" in text
    assert "23 error, 4 skipped, 0 repaired" in text
    content = found.report.as_json()
    (unknown,) = (f for f in content["findings"] if f["code"] == "annotation-category-unknown")
    assert unknown["count"] == len(unknown["where"]) == 21
    assert unknown["where"][20] == {
        "annotation_id": 29,
        "image_id": 1,
        "detail": "category_id 7",
    }
    json.dumps(content)
    with pytest.raises(DataError, match="image-missing") as error:
        raise_errors([found.report])
    assert "image-zero-bytes" in str(error.value)


def test_every_code_of_the_table_is_used_and_every_used_code_is_in_the_table(root):
    """Codes are literals of the checks; every row says what is found, two kinds and an action."""
    source = "".join(file.read_text() for file in (root / "dnl_det/data/checks").glob("*.py"))
    literals = set(re.findall(r'"([a-z0-9]+(?:-[a-z0-9]+)*)"', source))
    assert FAULTS.keys() <= literals
    added = set(re.findall(r'\badd\(\s*"([^"]+)"', source))
    assert len(added) > 40
    assert added <= FAULTS.keys()
    for code, fault in FAULTS.items():
        assert fault.what, code
        assert fault.action, code
        assert {fault.in_training, fault.in_evaluation} <= set(KINDS), code
