"""Images from the file to the model's tensor: by OpenCV what cv2 gives, by Pillow as detectron2."""

import cv2
import numpy as np
import pytest
import torch
from detectron2.config import get_cfg
from detectron2.data import DatasetMapper, detection_utils
from detectron2.data import transforms as T
from detectron2.structures import BoxMode
from PIL import Image
from torch._utils import ExceptionWrapper

from dnl_det import add_dnl_config
from dnl_det.data import OpenCVMapper, UnreadableImageError, build_mapper
from dnl_det.data.images import (
    OpenCVResizeTransform,
    build_test_resize,
    check_image_keys,
    read_image,
)


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


@pytest.mark.parametrize("ending", ["png", "tif"])
@pytest.mark.parametrize("library", ["opencv", "pillow"])
def test_grey_images_of_16_bits_keep_their_grey(cfg, tmp_path, ending, library):
    cfg.INPUT.IMAGE_LIBRARY = library
    levels = np.arange(0, 65536, 13, dtype=np.uint16)[: 60 * 80].reshape(60, 80)
    file = str(tmp_path / f"wide.{ending}")
    Image.fromarray(levels).save(file)
    pixels = read_image(cfg, file, "BGR")
    assert pixels.shape == (60, 80, 3)
    # OpenCV rounds where Pillow's 8 bits of colours of 16 are the higher ones.
    assert np.abs(pixels.astype(int) - (levels >> 8)[..., None]).max() <= (library == "opencv")
    assert detection_utils.read_image(file, format="BGR").mean() > 250, "detectron2's are white"


@pytest.mark.parametrize("is_train", [False, True])
def test_pillow_s_mapper_is_detectron2_s(cfg, photo, tmp_path, is_train):
    cfg.INPUT.IMAGE_LIBRARY = "pillow"
    Image.fromarray(np.full((90, 130), 3, np.uint8)).save(tmp_path / "labels.png")
    record = {**sample(photo), "sem_seg_file_name": str(tmp_path / "labels.png")}
    torch.manual_seed(0)
    np.random.seed(0)
    ours = build_mapper(cfg, is_train)(record)
    np.random.seed(0)
    theirs = DatasetMapper(cfg, is_train)(record)
    assert ours.keys() == theirs.keys()
    for key in ("image", "sem_seg"):
        assert torch.equal(ours[key], theirs[key])
        assert ours[key].dtype == theirs[key].dtype
    if is_train:
        for field in ("gt_boxes", "gt_classes"):
            assert str(ours["instances"].get(field)) == str(theirs["instances"].get(field))


@pytest.mark.parametrize("library", ["opencv", "pillow"])
def test_bombs_and_programs_are_not_read(cfg, tmp_path, photo, library, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 90 * 130 // 2 - 1)  # refused from twice on
    cfg.INPUT.IMAGE_LIBRARY = library
    with pytest.raises(UnreadableImageError, match=r"photo\.jpg cannot .*exceeds limit"):
        read_image(cfg, photo, "BGR")
    program = tmp_path / "program.png"
    program.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\n(x) run showpage\n")
    with pytest.raises(UnreadableImageError, match=r"program\.png cannot be read as an image"):
        read_image(cfg, str(program), "BGR")


def test_a_worker_s_traceback_is_no_part_of_the_message(cfg, photo):
    record = sample(photo.replace("photo", "gone"))
    for library in ("opencv", "pillow"):
        cfg.INPUT.IMAGE_LIBRARY = library
        with pytest.raises(UnreadableImageError) as error:
            build_mapper(cfg, is_train=False)(record)
        # What torch's loader does with an error of a worker.
        wrapped = ExceptionWrapper((error.type, error.value, error.tb), "in a worker")
        assert "Traceback" in wrapped.exc_msg
        with pytest.raises(UnreadableImageError) as again:
            wrapped.reraise()
        assert str(again.value) == str(error.value)
        assert str(error.value).startswith(record["file_name"])


def test_another_size_than_annotated_is_named(cfg, photo):
    record = {**sample(photo), "height": 91}
    with pytest.raises(UnreadableImageError, match=r"photo\.jpg, got \(130, 90\)"):
        build_mapper(cfg, is_train=False)(record)


@pytest.mark.parametrize(
    ("library", "form", "mean", "deviation", "message"),
    [
        ("pillow", "RGB", 4, 4, "MODEL.PIXEL_MEAN: .* must have 3 numbers, one for each channel"),
        ("opencv", "BGR", 3, 1, "MODEL.PIXEL_STD: .* must have 3 numbers"),
        ("pillow", "L", 3, 3, "MODEL.PIXEL_MEAN: .* must have 1 number, .* INPUT.FORMAT L"),
        ("opencv", "L", 1, 1, "INPUT.FORMAT: 'L' must be BGR or RGB with .* opencv"),
        ("pillow", "RGBA", 4, 4, "INPUT.FORMAT: 'RGBA' is not one of BGR, RGB, YUV-BT.601, L"),
    ],
)
def test_channels_that_do_not_fit_the_mean_are_named(library, form, mean, deviation, message):
    with pytest.raises(ValueError, match=message):
        check_image_keys(channel_config(library, form, mean, deviation))


@pytest.mark.parametrize(
    ("library", "form", "channels"),
    [("pillow", "L", 1), ("pillow", "YUV-BT.601", 3), ("opencv", "RGB", 3)],
)
def test_images_of_other_channels(library, form, channels, tmp_path):
    cfg = channel_config(library, form, channels, channels)
    check_image_keys(cfg)
    Image.new("RGB", (20, 10), (10, 20, 30)).save(tmp_path / "1.png")
    sample = {"file_name": str(tmp_path / "1.png"), "width": 20, "height": 10}
    image = build_mapper(cfg, is_train=True)({**sample, "annotations": []})["image"]
    assert image.shape == (channels, 8, 16)
    luminance = 0.299 * 10 + 0.587 * 20 + 0.114 * 30
    first = {"RGB": 10, "L": round(luminance), "YUV-BT.601": luminance / 255}[form]
    assert image[0, 0, 0].item() == pytest.approx(first, abs=1e-3)


def channel_config(library, form, mean, deviation):
    cfg = get_cfg()
    add_dnl_config(cfg)
    cfg.INPUT.IMAGE_LIBRARY, cfg.INPUT.FORMAT = library, form
    cfg.INPUT.MIN_SIZE_TRAIN = (8,)
    cfg.INPUT.RANDOM_FLIP = "none"
    cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD = [100.0] * mean, [50.0] * deviation
    return cfg


def test_an_image_is_turned_upright_by_both_libraries(cfg, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    file = str(tmp_path / "turned.jpg")
    Image.fromarray(np.zeros((20, 40, 3), np.uint8)).save(file, exif=exif)
    for library in ("opencv", "pillow"):
        cfg.INPUT.IMAGE_LIBRARY = library
        assert read_image(cfg, file, "BGR").shape == (40, 20, 3)
