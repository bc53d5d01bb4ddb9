"""Label files of semantic segmentation, as the training and the evaluation read them."""

import numpy as np
import pytest
from detectron2.config import get_cfg
from PIL import Image

from dnl_det import add_dnl_config
from dnl_det.data import build_mapper
from dnl_det.data.labels import LabelError, read_labels

VALUES = np.array([[0, 1, 2], [150, 254, 255]], np.uint8)


@pytest.fixture
def cfg():
    cfg = get_cfg()
    add_dnl_config(cfg)
    cfg.INPUT.MIN_SIZE_TRAIN = (40,)
    return cfg


def test_indices_of_a_palette_are_the_labels(tmp_path):
    image = Image.fromarray(VALUES, "P")
    image.putpalette(list(np.random.RandomState(0).randint(0, 256, 768)))
    image.save(tmp_path / "palette.png")
    assert np.array_equal(read_labels(tmp_path / "palette.png"), VALUES)


def test_sixteen_bits_are_kept(tmp_path):
    values = np.array([[0, 300], [65535, 7]], np.uint16)
    Image.fromarray(values).save(tmp_path / "wide.png")
    assert read_labels(tmp_path / "wide.png", ignore=65535).tolist() == values.tolist()


def test_what_is_below_the_offset_is_ignored(tmp_path):
    Image.fromarray(VALUES).save(tmp_path / "shifted.png")
    labels = read_labels(tmp_path / "shifted.png", offset=1)
    assert labels.tolist() == [[255, 0, 1], [149, 253, 255]]


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "F"])
def test_several_channels_are_refused(tmp_path, mode):
    file = tmp_path / ("colours.tif" if mode == "F" else "colours.png")
    Image.new(mode, (3, 2)).save(file)
    with pytest.raises(LabelError, match=rf"colours.* of mode {mode}: .* write it again"):
        read_labels(file)


def test_a_broken_or_missing_file_is_named(tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no image")
    with pytest.raises(LabelError, match=r"broken\.png cannot be read as labels"):
        read_labels(tmp_path / "broken.png")
    with pytest.raises(FileNotFoundError, match=r"gone\.png"):
        read_labels(tmp_path / "gone.png")


@pytest.mark.parametrize("library", ["opencv", "pillow"])
def test_the_mapper_reads_the_same(cfg, tmp_path, library):
    cfg.INPUT.IMAGE_LIBRARY, cfg.INPUT.RANDOM_FLIP = library, "none"
    values = np.random.RandomState(0).randint(0, 256, (40, 60)).astype(np.uint8)
    Image.new("RGB", (60, 40)).save(tmp_path / "image.jpg")
    Image.fromarray(values).save(tmp_path / "labels.png")
    record = {
        "file_name": str(tmp_path / "image.jpg"),
        "sem_seg_file_name": str(tmp_path / "labels.png"),
        "label_offset": 1,
    }
    mapped = build_mapper(cfg, True)(record)["sem_seg"].numpy()
    assert np.array_equal(mapped, read_labels(tmp_path / "labels.png", 1))
    Image.fromarray(values[:, :50]).save(tmp_path / "labels.png")
    with pytest.raises(LabelError, match=r"labels.png has 50 x 40 .*image.jpg 60 x 40"):
        build_mapper(cfg, True)(record)
