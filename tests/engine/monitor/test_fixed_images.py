"""The images that a training is watched in."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from dnl_det.analysis import Frame, Grid, QueryAttention
from dnl_det.data.own_data import use_own_data
from dnl_det.engine import load_config
from dnl_det.engine.monitor.fixed_images import choose_fixed_images, draw_attention


@pytest.fixture
def cfg(root, shapes, tiny):
    return load_config(str(root / "configs/Shapes/disentangled.yaml"), tiny)


def test_they_are_spread_over_the_test_data_and_stay_the_same(cfg, shapes):
    files = [image.input["file_name"] for image in choose_fixed_images(cfg, 2)]
    names = sorted(str(file) for file in (shapes / "val").iterdir())
    assert files == [names[1], names[4]]  # of six, the middle of each half
    assert files == [image.input["file_name"] for image in choose_fixed_images(cfg, 2)]
    assert len(choose_fixed_images(cfg, 100)) == 6
    cfg.DATASETS.TEST = ()
    assert choose_fixed_images(cfg, 2) == []


def test_the_query_is_in_the_middle_of_the_largest_object(cfg, shapes):
    content = json.loads((shapes / "annotations/instances_val.json").read_text())
    for image in choose_fixed_images(cfg, 6):
        boxes = [
            a["bbox"] for a in content["annotations"] if a["image_id"] == image.input["image_id"]
        ]
        x, y, w, h = max(boxes, key=lambda box: box[2] * box[3])
        assert image.point == pytest.approx((x + w / 2, y + h / 2))
        file = Image.open(image.input["file_name"]).convert("RGB")
        assert np.array_equal(image.original[:, :, ::-1], np.asarray(file))
        assert image.input["image"].shape == (3, 128, 128)


def test_images_without_objects_are_taken_only_where_there_are_no_others(cfg, shapes, tmp_path):
    content = json.loads((shapes / "annotations/instances_val.json").read_text())
    one = content["images"][3]
    keep = [a for a in content["annotations"] if a["image_id"] == one["id"]]
    for annotations, expected in (
        (keep, one["file_name"]),
        ([], content["images"][3]["file_name"]),
    ):
        file = tmp_path / "own.json"
        file.write_text(json.dumps({**content, "annotations": annotations}))
        cfg.DATASETS.VAL_JSON, cfg.DATASETS.VAL_IMAGES = str(file), str(shapes / "val")
        use_own_data(cfg)
        (image,) = choose_fixed_images(cfg, 1)
        assert image.input["file_name"].endswith(expected)
    assert image.point == (64, 64)  # the middle of the image


def test_the_maps_are_of_the_query_at_the_point(cfg):
    (image, _) = choose_fixed_images(cfg, 2)

    class Block:
        """Attends to the query's own position, and to the last for the unary term."""

        grid = key_grid = Grid(16, 16, (8.0, 8.0))

        def attention(self, index, queries):
            assert index == 0
            unary = torch.zeros(256)
            unary[-1] = 1.0
            return QueryAttention(torch.eye(256)[queries], unary, torch.eye(256)[queries])

    picture = draw_attention(image, Block(), Frame(128, 128, 128, 128)).transpose(1, 2, 0)
    assert picture.shape == (256, 512, 3)
    plain = np.asarray(Image.fromarray(image.original[:, :, ::-1]).resize((256, 256)))
    # Brighter than the darkened image: where the pairwise and where the unary term is.
    change = picture.astype(int).sum(2) - 0.4 * np.concatenate([plain] * 2, 1).astype(int).sum(2)
    rows, columns = (change[:, :256] > 100).nonzero()
    assert abs(columns.mean() - 2 * image.point[0]) < 10
    assert abs(rows.mean() - 2 * image.point[1]) < 10
    rows, columns = (change[:, 256:] > 100).nonzero()
    assert rows.min() > 220
    assert columns.min() > 220
