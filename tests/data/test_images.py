"""Images by OpenCV are what cv2 gives, from the file to the model's tensor."""

import cv2
import numpy as np
import pytest
import torch
from detectron2.config import get_cfg
from detectron2.data import DatasetMapper
from detectron2.data import transforms as T
from detectron2.structures import BoxMode
from PIL import Image

from dnl_det import add_dnl_config
from dnl_det.data import OpenCVMapper, build_mapper
from dnl_det.data.images import OpenCVResizeTransform, build_test_resize, read_image


@pytest.fixture
def cfg():
    cfg = get_cfg()
    add_dnl_config(cfg)
    cfg.INPUT.IMAGE_LIBRARY = "opencv"
    cfg.INPUT.FORMAT = "RGB"
    cfg.INPUT.MIN_SIZE_TRAIN = (48,)
    cfg.INPUT.MIN_SIZE_TEST = 48
    cfg.INPUT.MAX_SIZE_TRAIN = cfg.INPUT.MAX_SIZE_TEST = 80
    cfg.MODEL.MASK_ON = True
    return cfg


@pytest.fixture
def photo(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (90, 130, 3), dtype=np.uint8)
    file = tmp_path / "photo.jpg"
    Image.fromarray(cv2.GaussianBlur(noise, (5, 5), 0)).save(file, quality=95)
    return str(file)


def sample(photo):
    annotation = {
        "bbox": [26.0, 18.0, 52.0, 36.0],
        "bbox_mode": BoxMode.XYWH_ABS,
        "category_id": 3,
        "segmentation": [[26.0, 18.0, 78.0, 18.0, 78.0, 54.0]],
    }
    return {"file_name": photo, "height": 90, "width": 130, "annotations": [annotation]}


@pytest.mark.parametrize("image_format", ["RGB", "BGR"])
def test_test_images_are_those_of_cv2(cfg, photo, image_format):
    cfg.INPUT.FORMAT = image_format
    result = build_mapper(cfg, is_train=False)(sample(photo))
    expected = cv2.resize(cv2.imread(photo), (69, 48), interpolation=cv2.INTER_LINEAR)
    if image_format == "RGB":
        expected = cv2.cvtColor(expected, cv2.COLOR_BGR2RGB)
    assert result["image"].dtype == torch.uint8
    assert np.array_equal(result["image"].numpy(), expected.transpose(2, 0, 1))
    assert (result["height"], result["width"]) == (90, 130)
    assert "annotations" not in result
    pillow = DatasetMapper(cfg, False)(sample(photo))["image"]
    assert pillow.shape == result["image"].shape
    assert (pillow.int() - result["image"].int()).abs().max() > 10


@pytest.mark.parametrize("flip", ["none", "horizontal"])
def test_training_images_carry_their_boxes_and_masks(cfg, photo, flip, monkeypatch):
    cfg.INPUT.RANDOM_FLIP = flip
    monkeypatch.setattr(T.RandomFlip, "_rand_range", lambda self: 0.0)  # always flips
    result = build_mapper(cfg, is_train=True)(sample(photo))
    expected = cv2.resize(cv2.imread(photo)[:, :, ::-1], (69, 48))
    boxes = np.array([[26, 18, 78, 54]]) * [69 / 130, 48 / 90, 69 / 130, 48 / 90]
    if flip == "horizontal":
        expected = expected[:, ::-1]
        boxes[:, [0, 2]] = 69 - boxes[:, [2, 0]]
    assert np.array_equal(result["image"].numpy(), expected.transpose(2, 0, 1))
    instances = result["instances"]
    np.testing.assert_allclose(instances.gt_boxes.tensor, boxes, rtol=1e-6)
    np.testing.assert_allclose(instances.gt_masks.get_bounding_boxes().tensor, boxes, rtol=1e-6)
    assert instances.gt_classes.tolist() == [3]


def test_sizes_are_those_of_mmcv():
    """int(side * min(1333 / longer, 800 / shorter) + 0.5), for every shape of COCO's range."""
    for h in range(50, 641, 3):
        for w in range(50, 641, 7):
            scale = min(1333 / max(h, w), 800 / min(h, w))
            theirs = int(h * scale + 0.5), int(w * scale + 0.5)
            assert T.ResizeShortestEdge.get_output_shape(h, w, 800, 1333) == theirs, (h, w)


def test_semantic_labels_go_along(cfg, photo, tmp_path):
    labels = np.arange(90 * 130, dtype=np.uint8).reshape(90, 130) % 7
    Image.fromarray(labels).save(tmp_path / "labels.png")
    result = OpenCVMapper(cfg, True)(
        {**sample(photo), "sem_seg_file_name": tmp_path / "labels.png"}
    )
    assert result["sem_seg"].shape == result["image"].shape[1:]
    assert set(result["sem_seg"].unique().tolist()) == set(range(7))


def test_resizing_back_and_other_types():
    transform = OpenCVResizeTransform(10, 20, 30, 60)
    assert transform.apply_image(np.zeros((10, 20), np.float32)).shape == (30, 60)
    assert transform.inverse().apply_image(np.zeros((30, 60, 3), np.uint8)).shape == (10, 20, 3)
    assert transform.apply_coords(np.array([[2.0, 3.0]])).tolist() == [[6.0, 9.0]]


def test_an_image_is_turned_upright_by_both_libraries(cfg, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    file = str(tmp_path / "turned.jpg")
    Image.fromarray(np.zeros((20, 40, 3), np.uint8)).save(file, exif=exif)
    for library in ("opencv", "pillow"):
        cfg.INPUT.IMAGE_LIBRARY = library
        assert read_image(cfg, file, "BGR").shape == (40, 20, 3)


def test_bad_input_is_named(cfg, tmp_path, photo):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"\xff\xd8 no image")
    for library in ("opencv", "pillow"):
        cfg.INPUT.IMAGE_LIBRARY = library
        with pytest.raises(ValueError, match="broken.jpg cannot be read as an image"):
            read_image(cfg, str(broken), "BGR")
        with pytest.raises(FileNotFoundError, match="there is no file .*gone.jpg"):
            read_image(cfg, str(tmp_path / "gone.jpg"), "BGR")
    cfg.INPUT.IMAGE_LIBRARY = "imageio"
    message = "INPUT.IMAGE_LIBRARY: 'imageio' is not one of pillow, opencv"
    with pytest.raises(ValueError, match=message):
        build_mapper(cfg, True)
    with pytest.raises(ValueError, match=message):
        build_test_resize(cfg)
    cfg.INPUT.IMAGE_LIBRARY, cfg.INPUT.FORMAT = "opencv", "L"
    with pytest.raises(ValueError, match="INPUT.FORMAT: 'L' must be BGR or RGB"):
        build_mapper(cfg, False)(sample(photo))
    cfg.INPUT.FORMAT, cfg.MODEL.LOAD_PROPOSALS = "RGB", True
    with pytest.raises(ValueError, match="MODEL.LOAD_PROPOSALS: True is not supported"):
        build_mapper(cfg, False)
