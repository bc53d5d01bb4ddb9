"""Images so long and narrow that resizing would leave nothing of their short side."""

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog
from detectron2.utils.events import EventStorage
from faulty import DataSet, annotation, codes
from PIL import Image

from dnl_det.data import build_mapper
from dnl_det.data.checks import Use, checked
from dnl_det.data.images import read_image
from dnl_det.data.own_data import use_own_data
from dnl_det.engine import Predictor, Trainer, load_config

LONG, SHORT = 1500, 5  # 128 x 0 pixels if resized as detectron2 does
LYING, STANDING = [100.0, 1.0, 900.0, 1.0, 900.0, 4.0], [1.0, 100.0, 4.0, 100.0, 4.0, 900.0]


@pytest.fixture
def strips(tmp_path):
    """Two lying and two standing strips, with an object each."""
    data = DataSet(tmp_path / "strips")
    data.content["annotations"] = []
    for k, entry in enumerate(data.entries, 1):
        width, height = (LONG, SHORT) if k % 2 else (SHORT, LONG)
        entry.update(width=width, height=height)
        pixels = np.random.default_rng(k).integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(data.file(k))
        data.annotations.append(annotation(k, k, 1 + k // 3, LYING if k % 2 else STANDING))
    return data


@pytest.fixture(params=["pillow", "opencv"])
def cfg(request, root, tiny, strips, tmp_path):
    keys = ["INPUT.IMAGE_LIBRARY", request.param, "OUTPUT_DIR", str(tmp_path), *tiny]
    cfg = load_config(str(root / "configs/Shapes/disentangled.yaml"), keys)
    cfg.DATASETS.TRAIN_JSON = cfg.DATASETS.VAL_JSON = str(strips.write())
    cfg.DATASETS.TRAIN_IMAGES = cfg.DATASETS.VAL_IMAGES = str(strips.images)
    cfg.MODEL.DEVICE = "cpu"
    use_own_data(cfg)
    return cfg


def test_nothing_is_wrong_with_a_strip(strips):
    assert codes(checked("strips", strips.write(), strips.images, Use(masks=True))) == {}


def test_no_side_is_shorter_than_a_pixel(cfg):
    for is_train in (True, False):
        mapper = build_mapper(cfg, is_train)
        for index, record in enumerate(DatasetCatalog.get("own_train")):
            sample = mapper(record)
            assert sample["image"].shape == ((3, 128, 1) if index % 2 else (3, 1, 128))
            if is_train:
                (box,) = sample["instances"].gt_boxes.tensor.numpy()
                expected = [0.2, 100 * 128 / 1500, 0.8, 900 * 128 / 1500]
                box = box if index % 2 else box[[1, 0, 3, 2]]
                if box[1] > 20:  # flipped, along the long side or the short one
                    box = box.copy()
                    box[[1, 3]] = 128 - box[[3, 1]]
                np.testing.assert_allclose(box, expected, atol=1e-4)


@pytest.mark.parametrize("architecture", ["GeneralizedRCNN", "MMDet1RCNN"])
def test_a_whole_model_on_strips(cfg, strips, architecture):
    cfg.MODEL.META_ARCHITECTURE = architecture
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    model = Trainer.build_model(cfg)
    mapper = build_mapper(cfg, is_train=True)
    with EventStorage():
        losses = model([mapper(record) for record in DatasetCatalog.get("own_train")])
    assert torch.isfinite(sum(losses.values()))
    sum(losses.values()).backward()
    results = Trainer.test(cfg, model)
    assert 0 <= results["bbox"]["AP"] <= 100
    torch.save({"model": model.state_dict()}, f"{cfg.OUTPUT_DIR}/model.pth")
    cfg.MODEL.WEIGHTS = f"{cfg.OUTPUT_DIR}/model.pth"
    predictor = Predictor(cfg)
    for k, size in ((1, (SHORT, LONG)), (2, (LONG, SHORT))):
        instances = predictor(read_image(cfg, str(strips.file(k)), "BGR"))["instances"]
        assert instances.image_size == size
        assert instances.pred_masks.shape[1:] == size
        assert len(instances)
