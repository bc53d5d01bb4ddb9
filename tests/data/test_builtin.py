"""Data sets that are registered by name, in small folders of their own layout."""

import numpy as np
import pytest
from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from dnl_det import add_dnl_config
from dnl_det.data import DataError, build_mapper, register_builtin
from dnl_det.data.checks import Use, check_dataset, raise_errors
from dnl_det.evaluation import build_evaluator

ADE20K = "ade20k_150_sem_seg_val"
PASCAL = "pascal_context_59_sem_seg_val"
FOLDERS = {
    ADE20K: (
        "ADEChallengeData2016/images/validation",
        "ADEChallengeData2016/annotations/validation",
    ),
    PASCAL: ("VOCdevkit/VOC2010/JPEGImages", "VOCdevkit/VOC2010/SegmentationClassContext"),
}
CLASSES = {ADE20K: 150, PASCAL: 59}


@pytest.fixture
def root(tmp_path):
    """A folder that all data sets of this module are registered in, for one test."""
    register_builtin(tmp_path)
    yield tmp_path
    register_builtin()


@pytest.fixture
def write(root):
    """Two images of a data set, and their labels: those not evaluated, the first and the last."""

    def files(name):
        images, labels = (root / folder for folder in FOLDERS[name])
        images.mkdir(parents=True)
        labels.mkdir(parents=True)
        values = np.zeros((20, 30), np.uint8)
        values[:, 10:] = 1
        values[:, 20:] = CLASSES[name]
        for stem in ("2008_000002", "2008_000003"):
            Image.new("RGB", (30, 20), "grey").save(images / f"{stem}.jpg")
            Image.fromarray(values).save(labels / f"{stem}.png")
        if name == PASCAL:
            (root / "VOCdevkit/VOC2010/ImageSets/SegmentationContext").mkdir(parents=True)
            list_file = root / "VOCdevkit/VOC2010/ImageSets/SegmentationContext/val.txt"
            list_file.write_text("2008_000003\n")

    return files


@pytest.mark.parametrize("name", FOLDERS)
def test_labels_begin_with_one_and_nought_is_ignored(name, write):
    write(name)
    raise_errors([check_dataset(name, Use(evaluation=True)).report])
    records = DatasetCatalog.get(name)
    assert len(records) == (2 if name == ADE20K else 1)
    cfg = get_cfg()
    add_dnl_config(cfg)
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.RANDOM_FLIP = (20,), "none"
    labels = build_mapper(cfg, is_train=True)(records[0])["sem_seg"]
    last = CLASSES[name] - 1
    assert labels[0].tolist() == [255] * 10 + [0] * 10 + [last] * 10

    evaluator = build_evaluator(cfg, name, None)
    evaluator.reset()
    found = labels.new_zeros(last + 1, 20, 30).float()
    found[0, :, :25] = 1  # half of the last class is found as the first, and so is what is ignored
    found[last, :, 25:] = 1
    evaluator.process([{"file_name": records[0]["file_name"]}], [{"sem_seg": found}])
    results = evaluator.evaluate()["sem_seg"]
    names = MetadataCatalog.get(name).stuff_classes
    assert results[f"IoU-{names[0]}"] == pytest.approx(100 * 10 / 15)
    assert results[f"IoU-{names[last]}"] == pytest.approx(50)
    assert results["mIoU"] == pytest.approx((100 * 10 / 15 + 50) / 2)


def test_classes_are_in_the_labels_order():
    ade20k = MetadataCatalog.get(ADE20K).stuff_classes
    assert (len(ade20k), ade20k[:3], ade20k[8], ade20k[-1]) == (
        150,
        ["wall", "building", "sky"],
        "window",
        "flag",
    )
    pascal = MetadataCatalog.get(PASCAL).stuff_classes
    assert len(pascal) == 59
    assert pascal == sorted(pascal)
    assert (pascal[0], pascal[36], pascal[46]) == ("aeroplane", "person", "sky")


@pytest.mark.parametrize("name", [*FOLDERS, "cityscapes_fine_sem_seg_val"])
def test_absent_files_are_named_and_where_to_get_them(name, root):
    with pytest.raises(DataError, match="is missing.*docs/DATA.md of this project says how"):
        raise_errors([check_dataset(name, Use(evaluation=True)).report])
