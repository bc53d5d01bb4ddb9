"""Every augmentation of detectron2's keys, against what is painted in the image itself."""

import numpy as np
import pytest
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
