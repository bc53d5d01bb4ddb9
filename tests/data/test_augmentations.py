"""Every augmentation of detectron2's keys, against what is painted in the image itself."""

import random

import numpy as np
import pytest
import torch
from detectron2.config import get_cfg
from detectron2.data import MetadataCatalog
from detectron2.data import transforms as T
from detectron2.data.datasets import load_coco_json
from detectron2.structures import BitMasks, PolygonMasks
from faulty import HEIGHT, WIDTH
from PIL import Image
from pycocotools import mask as mask_util

from dnl_det import add_dnl_config
from dnl_det.data import build_mapper

COLOURS = (80, 160)  # of the two objects
LEFT, RIGHT = 230, 250  # of the first one's key points
ARCHITECTURES = {"pillow": "GeneralizedRCNN", "opencv": "MMDet1RCNN"}  # by library
CROPS = {
    None: None,
    "relative": [0.5, 0.6],
    "relative_range": [0.3, 0.6],
    "absolute": [20, 26],
    "absolute_range": [9, 30],
}


@pytest.fixture
def painted(data):
    """Two objects an image, the first of whose pixels of key points have their own colours."""
    pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    pixels[6:22, 8:24] = COLOURS[0]
    pixels[10:30, 28:44] = COLOURS[1]
    pixels[14, 11], pixels[14, 20] = LEFT, RIGHT
    for k in range(1, 5):
        Image.fromarray(pixels).save(data.file(k))
    for entry in data.annotations:
        seen = entry["category_id"] == 1
        entry["keypoints"] = [11, 14, 2, 20, 14, 1] if seen else [0] * 6
    data.annotations[6:] = []  # the last image has none
    data.add(id=50, iscrowd=1, image_id=3)
    return data


def rle(entry):
    counts = mask_util.frPyObjects(entry["segmentation"], HEIGHT, WIDTH)[0]
    return {"size": [HEIGHT, WIDTH], "counts": counts["counts"].decode()}


@pytest.fixture
def mapper(painted, monkeypatch):
    """A training's mapper that flips always, and the images' records."""

    def make(library, kind, masks, flip, size):
        MetadataCatalog.pop("painted", None)
        cfg = get_cfg()
        add_dnl_config(cfg)
        if masks == "rle":
            for entry in painted.annotations:
                if isinstance(entry["segmentation"], list):
                    entry["segmentation"] = rle(entry)
        records = load_coco_json(str(painted.write()), str(painted.images), "painted")
        names = {"keypoint_names": ("left", "right"), "keypoint_flip_map": (("left", "right"),)}
        MetadataCatalog.get("painted").set(**names)
        cfg.DATASETS.TRAIN = ("painted",)
        cfg.MODEL.MASK_ON = cfg.MODEL.KEYPOINT_ON = True
        cfg.MODEL.META_ARCHITECTURE = ARCHITECTURES[library]
        cfg.INPUT.IMAGE_LIBRARY, cfg.INPUT.RANDOM_FLIP = library, flip
        cfg.INPUT.MASK_FORMAT = "polygon" if masks == "polygon" else "bitmask"
        cfg.INPUT.MIN_SIZE_TRAIN = (size,)
        if kind:
            cfg.INPUT.CROP.ENABLED, cfg.INPUT.CROP.TYPE = True, kind
            cfg.INPUT.CROP.SIZE = CROPS[kind]
        monkeypatch.setattr(T.RandomFlip, "_rand_range", lambda self: 0.0)
        return build_mapper(cfg, is_train=True), records

    return make


def masks_of(instances):
    masks = instances.gt_masks
    if hasattr(masks, "polygons"):
        height, width = instances.image_size
        packed = [
            mask_util.merge(mask_util.frPyObjects([p.tolist() for p in polygons], height, width))
            for polygons in masks.polygons
        ]
        return [mask_util.decode(one).astype(bool) for one in packed]
    return list(masks.tensor.numpy())


@pytest.mark.parametrize("kind", CROPS)
@pytest.mark.parametrize("masks", ["polygon", "bitmask", "rle"])
@pytest.mark.parametrize("library", ARCHITECTURES)
def test_masks_boxes_and_key_points_are_where_they_are_painted(mapper, kind, masks, library):
    np.random.seed(0)
    for flip in ("none", "horizontal", "vertical"):
        make, records = mapper(library, kind, masks, flip, 0)
        for record in records[:2]:
            sample = make(record)
            image, instances = sample["image"][0].numpy(), sample["instances"]
            painted = np.stack([(image > 0) & (image != COLOURS[1]), image == COLOURS[1]])
            labels = instances.gt_classes.tolist()
            assert labels == [label for label in (0, 1) if painted[label].any()]
            for label, mask, box, points in zip(
                labels,
                masks_of(instances),
                instances.gt_boxes.tensor.tolist(),
                instances.gt_keypoints.tensor,
                strict=True,
            ):
                assert np.array_equal(mask, painted[label])
                y, x = np.nonzero(painted[label])
                assert box == [x.min(), y.min(), x.max() + 1, y.max() + 1]
                if label == 0:
                    colours = (RIGHT, LEFT) if flip == "horizontal" else (LEFT, RIGHT)
                    check_key_points(points, image, colours)


def check_key_points(points, image, colours):
    for (x, y, visible), colour in zip(points.tolist(), colours, strict=True):
        assert (visible > 0) == (colour in image)
        if visible:
            assert image[int(y), int(x)] == colour


@pytest.mark.parametrize("kind", CROPS)
@pytest.mark.parametrize("library", ARCHITECTURES)
def test_resized_they_stay_together(mapper, kind, library):
    np.random.seed(1)
    make, records = mapper(library, kind, "rle", "horizontal", 90)
    for record in records[:2]:
        sample = make(record)
        assert min(sample["image"].shape[1:]) == 90
        second = sample["instances"][sample["instances"].gt_classes == 1]
        painted = np.abs(sample["image"][0].numpy().astype(int) - COLOURS[1]) < 40
        for mask in masks_of(second):
            assert np.logical_and(mask, painted).sum() > 0.8 * mask.sum()


@pytest.mark.parametrize("kind", CROPS)
@pytest.mark.parametrize(("masks", "type_"), [("polygon", PolygonMasks), ("bitmask", BitMasks)])
def test_an_image_without_objects_has_every_field(mapper, kind, masks, type_):
    make, records = mapper("pillow", kind, masks, "horizontal", 40)
    records[2]["annotations"] = records[2]["annotations"][2:]  # a crowd alone
    fields = make(records[0])["instances"].get_fields().keys()
    for record in records[2:]:
        instances = make(record)["instances"]
        assert len(instances) == 0
        assert instances.get_fields().keys() == fields
        assert instances.gt_keypoints.tensor.shape == (0, 2, 3)
        assert type(instances.gt_masks) is type_


def test_lengths_of_a_range_are_drawn(mapper, painted):
    make, records = mapper("opencv", None, "polygon", "none", 0)
    resize = make.augmentations.augs[0].resize
    resize.is_range, resize.short_edge_length, resize.max_size = True, (50, 80), 100
    shapes = set()
    for _ in range(12):
        sample = make(records[0])
        h, w = sample["image"].shape[1:]
        shapes.add(h)
        scale = min(h / HEIGHT, 100 / WIDTH)  # not w / WIDTH, which is rounded
        x0, _, x1, _ = sample["instances"].gt_boxes.tensor[0].tolist()
        assert x0 == pytest.approx(8 * scale, rel=1e-6)
        assert x1 - x0 == pytest.approx(15 * scale + 1, rel=1e-6)
    assert len(shapes) > 5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"RANDOM_FLIP": "both"}, "INPUT.RANDOM_FLIP: 'both' must be one of horizontal, vertical"),
        ({"MIN_SIZE_TRAIN_SAMPLING": "all"}, "INPUT.MIN_SIZE_TRAIN_SAMPLING: 'all' must be one of"),
        ({"MIN_SIZE_TRAIN": ()}, r"INPUT.MIN_SIZE_TRAIN: \(\) must be one length"),
        ({"MIN_SIZE_TRAIN_SAMPLING": "range"}, r"MIN_SIZE_TRAIN: \(800,\) must be two lengths"),
        ({"MASK_FORMAT": "rle"}, "INPUT.MASK_FORMAT: 'rle' must be one of polygon, bitmask"),
        ({"TYPE": "square"}, "INPUT.CROP.TYPE: 'square' must be one of relative_range"),
        ({"TYPE": "absolute"}, r"CROP.SIZE: \[0.9, 0.9\] must be two whole numbers of pixels"),
        ({"TYPE": "absolute_range", "SIZE": [9, 5]}, "the smaller first, with CROP.TYPE absolute_"),
        ({"SIZE": [300, 300]}, r"INPUT.CROP.SIZE: \[300, 300\] must be two shares"),
        ({"SIZE": [0, 0.5]}, "two shares of height and width, above 0 and up to 1"),
        ({"SIZE": [0.5]}, "two shares"),
        ({"SCALE_RANGE": [0.5]}, r"INPUT.SCALE_RANGE: \[0.5\] must be two factors above 0"),
        ({"SCALE_RANGE": [2.0, 0.5]}, "two factors above 0, the smaller first"),
        ({"SCALE_RANGE": [0, 1]}, "two factors above 0"),
        ({"SINGLE_CATEGORY_MAX_AREA": 0.0}, "CROP.SINGLE_CATEGORY_MAX_AREA: 0.0 must be a share"),
        ({"COLOR_AUG_SSD": True, "FORMAT": "L"}, "INPUT.FORMAT: 'L' must be BGR or RGB with"),
    ],
)
def test_values_that_are_not_allowed_are_named(changes, message):
    cfg = get_cfg()
    add_dnl_config(cfg)
    for key, value in changes.items():
        node = cfg.INPUT if key in cfg.INPUT else cfg.INPUT.CROP
        node[key] = value
    cfg.INPUT.CROP.ENABLED = True
    with pytest.raises(ValueError, match=message):
        build_mapper(cfg, is_train=True)
    build_mapper(cfg, is_train=False)


def test_cropping_without_shapely_says_what_to_install(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "shapely", None)
    cfg = get_cfg()
    add_dnl_config(cfg)
    cfg.INPUT.CROP.ENABLED = True
    with pytest.raises(ValueError, match="INPUT.CROP.ENABLED: .* pip install shapely"):
        build_mapper(cfg, is_train=True)


def labelled(tmp_path):
    """A record whose labels are painted in its image, 10 grey levels a class."""
    labels = np.zeros((60, 100), np.uint8)
    labels[:, 30:] = 1
    labels[20:50, 60:90] = 2
    labels[:3] = 255
    pixels = np.repeat(np.where(labels == 255, 250, labels * 10)[:, :, None], 3, axis=2)
    Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "image.png")
    Image.fromarray(labels).save(tmp_path / "labels.png")
    files = {"file_name": tmp_path / "image.png", "sem_seg_file_name": tmp_path / "labels.png"}
    return {key: str(file) for key, file in files.items()}


@pytest.fixture
def semantic_cfg():
    """Of a training of semantic segmentation, images at their own size."""
    cfg = get_cfg()
    add_dnl_config(cfg)
    cfg.MODEL.META_ARCHITECTURE = "DNLSemanticSegmentor"
    cfg.INPUT.IMAGE_LIBRARY, cfg.INPUT.FORMAT = "opencv", "RGB"
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MAX_SIZE_TRAIN = (60,), 100
    return cfg


def test_a_crop_is_cut_from_the_resized_image(semantic_cfg, tmp_path):
    record = labelled(tmp_path)
    semantic_cfg.INPUT.SCALE_RANGE = [0.5, 2.0]
    semantic_cfg.INPUT.CROP.ENABLED, semantic_cfg.INPUT.CROP.TYPE = True, "absolute"
    semantic_cfg.INPUT.CROP.SIZE = [50, 40]
    make = build_mapper(semantic_cfg, is_train=True)
    np.random.seed(0)
    sizes = {tuple(make(record)["sem_seg"].shape) for _ in range(60)}
    # Half the size is 30 high: a crop is as large as the image allows, and else as the key says.
    assert (50, 40) in sizes
    assert all(30 <= height <= 50 and width == 40 for height, width in sizes)
    assert len(sizes) > 3


def test_scales_are_drawn_evenly_between_both_ends(semantic_cfg, tmp_path):
    record = labelled(tmp_path)
    semantic_cfg.INPUT.SCALE_RANGE = [0.5, 2.0]
    make = build_mapper(semantic_cfg, is_train=True)
    np.random.seed(0)
    heights = []
    for _ in range(300):
        sample = make(record)
        height, width = sample["sem_seg"].shape
        assert sample["image"].shape[1:] == (height, width)
        # 100 x 60 times a factor, each side rounded: mmsegmentation's RandomResize.
        assert abs(height * 100 - width * 60) <= 100
        heights.append(height)
    assert min(heights) in (30, 31)
    assert max(heights) in (118, 119, 120)
    assert np.mean(heights) == pytest.approx(75, abs=4.5)  # three standard errors
    assert len(set(heights)) > 60


def test_no_class_fills_more_of_a_crop_than_allowed(semantic_cfg, tmp_path):
    record = labelled(tmp_path)
    semantic_cfg.INPUT.CROP.ENABLED, semantic_cfg.INPUT.CROP.TYPE = True, "absolute"
    semantic_cfg.INPUT.CROP.SIZE = [30, 30]
    largest = {}
    for share in (1.0, 0.75):
        semantic_cfg.INPUT.CROP.SINGLE_CATEGORY_MAX_AREA = share
        make = build_mapper(semantic_cfg, is_train=True)
        np.random.seed(0)
        crops = [make(record)["sem_seg"] for _ in range(100)]
        assert {tuple(crop.shape) for crop in crops} == {(30, 30)}
        counts = [np.unique(crop[crop != 255], return_counts=True)[1] for crop in crops]
        largest[share] = np.array([count.max() / count.sum() for count in counts])
    assert (largest[1.0] > 0.75).mean() > 0.3
    # After ten tries the last crop is taken, whatever it is.
    assert (largest[0.75] >= 0.75).mean() < 0.02


def test_colours_change_and_labels_do_not(semantic_cfg, tmp_path):
    record = labelled(tmp_path)
    semantic_cfg.INPUT.RANDOM_FLIP = "none"
    plain = build_mapper(semantic_cfg, is_train=True)(record)
    semantic_cfg.INPUT.COLOR_AUG_SSD = True
    make = build_mapper(semantic_cfg, is_train=True)
    random.seed(0)
    samples = [make(record) for _ in range(20)]
    changed = [not torch.equal(sample["image"], plain["image"]) for sample in samples]
    assert sum(changed) > 10
    assert all(torch.equal(sample["sem_seg"], plain["sem_seg"]) for sample in samples)


def test_a_detector_is_not_scaled_with_the_boxes_of_mmdetection():
    cfg = get_cfg()
    add_dnl_config(cfg)
    cfg.MODEL.META_ARCHITECTURE, cfg.INPUT.SCALE_RANGE = "MMDet1RCNN", [0.5, 2.0]
    with pytest.raises(ValueError, match=r"SCALE_RANGE: \[0.5, 2.0\] must be \[\] with the boxes"):
        build_mapper(cfg, is_train=True)
