"""Data sets that are missing or broken are named before anything long starts."""

import json
import shutil

import pytest
from detectron2.data import DatasetCatalog
from PIL import Image

from dnl_det.data import register_shapes
from dnl_det.data.check import check_dataset


@pytest.fixture
def copy(data_root, tmp_path):
    """A Shapes data set of this test's own, to be broken."""
    shutil.copytree(data_root / "shapes", tmp_path / "shapes")
    register_shapes(tmp_path)
    yield tmp_path / "shapes"
    register_shapes(data_root)


def first_image(folder):
    return min((folder / "val").iterdir())


def test_a_whole_data_set_passes_and_is_counted(shapes):
    assert check_dataset("shapes_train") == 12
    assert check_dataset("shapes_val") == 6


def test_real_coco_images_pass(shared, monkeypatch):
    root = shared / "datasets" / "coco"
    name = "real_coco_for_check"
    from detectron2.data.datasets import register_coco_instances

    json_file = root / "annotations" / "instances_val2017.json"
    register_coco_instances(name, {}, str(json_file), str(root / "val2017"))
    try:
        assert check_dataset(name) == 80
    finally:
        DatasetCatalog.remove(name)


def test_unknown_names_get_near_ones():
    with pytest.raises(
        ValueError, match=r"no data set 'coco_2017_vall'; near it are coco_2017_val"
    ):
        check_dataset("coco_2017_vall")


def test_absent_shapes_say_how_to_make_them(tmp_path, data_root):
    register_shapes(tmp_path / "nowhere")
    try:
        with pytest.raises(FileNotFoundError, match=r"python -m dnl_det shapes --output"):
            check_dataset("shapes_val")
    finally:
        register_shapes(data_root)


def test_a_missing_image_is_counted_and_named(copy):
    file = first_image(copy)
    file.unlink()
    with pytest.raises(FileNotFoundError, match=rf"1 of 6 images are missing.*{file.name}"):
        check_dataset("shapes_val")


@pytest.mark.parametrize("content", [b"", b"not an image"])
def test_an_unreadable_image_is_named(copy, content):
    file = first_image(copy)
    file.write_bytes(content)
    with pytest.raises(ValueError, match=rf"{file.name} cannot be read as an image"):
        check_dataset("shapes_val")


def test_a_wrong_size_is_named_with_both(copy):
    file = first_image(copy)
    Image.new("RGB", (20, 30)).save(file)
    with pytest.raises(
        ValueError, match=rf"{file.name} is 20 x 30 and its annotations say 128 x 1"
    ):
        check_dataset("shapes_val")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"images": [', "cannot be read as JSON"),
        (b"\xff\xfe\x00", "cannot be read as JSON"),
        (b"[]", r"not in COCO's format: it has no list 'images'"),
        (json.dumps({"images": [], "annotations": []}).encode(), "no list 'categories'"),
    ],
)
def test_an_unreadable_json_is_named(copy, content, message):
    file = copy / "annotations" / "instances_val.json"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=rf"instances_val.json.*{message}"):
        check_dataset("shapes_val")
