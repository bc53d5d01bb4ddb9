"""One's own COCO-format data through config keys."""

import json

import pytest
from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog

from dnl_det import add_dnl_config
from dnl_det.cli.inputs import class_metadata
from dnl_det.data import DataError
from dnl_det.data.checks import prepare_data
from dnl_det.data.own_data import set_classes, use_own_data


@pytest.fixture
def cfg():
    config = get_cfg()
    add_dnl_config(config)
    return config


def own(cfg, shapes, *splits):
    for split in splits:
        cfg.DATASETS[f"{split}_JSON"] = str(
            shapes / "annotations" / f"instances_{split.lower()}.json"
        )
        cfg.DATASETS[f"{split}_IMAGES"] = str(shapes / split.lower())
    return cfg


def test_nothing_set_changes_nothing(cfg):
    before = cfg.dump()
    assert not use_own_data(cfg)
    assert cfg.dump() == before


def test_data_and_class_counts_follow_the_json(cfg, shapes):
    assert use_own_data(own(cfg, shapes, "TRAIN", "VAL"))
    assert cfg.DATASETS.TRAIN == ("own_train",)
    assert cfg.DATASETS.TEST == ("own_val",)
    assert cfg.MODEL.ROI_HEADS.NUM_CLASSES == cfg.MODEL.RETINANET.NUM_CLASSES == 10
    assert len(DatasetCatalog.get("own_train")) == 12
    assert len(DatasetCatalog.get("own_val")) == 6
    assert use_own_data(cfg), "registering them again must work"


def test_training_data_alone_is_not_evaluated(cfg, shapes, caplog):
    use_own_data(own(cfg, shapes, "TRAIN"))
    assert cfg.DATASETS.TEST == ()
    assert "DATASETS.VAL_JSON is not set" in caplog.text


@pytest.mark.parametrize(
    ("key", "value", "error", "message"),
    [
        ("TRAIN_IMAGES", "", ValueError, r"TRAIN_JSON is set and .*TRAIN_IMAGES is not.*--train"),
        ("VAL_IMAGES", "gone", FileNotFoundError, "own_val: there is no folder gone"),
        ("VAL_JSON", "gone.json", FileNotFoundError, "own_val: there is no file gone.json"),
    ],
)
def test_what_is_not_given_or_not_there_is_named(cfg, shapes, key, value, error, message):
    own(cfg, shapes, key.split("_")[0]).DATASETS[key] = value
    with pytest.raises(error, match=message):
        use_own_data(cfg)


def test_categories_must_agree(cfg, shapes, tmp_path):
    own(cfg, shapes, "TRAIN", "VAL")
    content = json.loads((shapes / "annotations" / "instances_val.json").read_text())
    content["categories"][0]["name"] = "ring"
    other = tmp_path / "other.json"
    other.write_text(json.dumps(content))
    cfg.DATASETS.VAL_JSON = str(other)
    with pytest.raises(
        ValueError, match=r"TRAIN_JSON and VAL_JSON differ in their categories.*ring"
    ):
        use_own_data(cfg)


def test_classes_are_known_from_a_json_whose_annotations_detectron2_refuses(cfg, shapes, tmp_path):
    content = json.loads((shapes / "annotations" / "instances_val.json").read_text())
    for annotation in content["annotations"]:
        annotation["id"] = 7
    cfg.DATASETS.VAL_JSON = str(tmp_path / "other.json")
    (tmp_path / "other.json").write_text(json.dumps(content))
    cfg.DATASETS.VAL_IMAGES = str(shapes / "val")
    use_own_data(cfg)
    set_classes("own_val")
    metadata = MetadataCatalog.get("own_val")
    wanted = sorted((c["id"], c["name"]) for c in content["categories"])
    assert metadata.thing_classes == [name for _, name in wanted]
    assert list(metadata.thing_dataset_id_to_contiguous_id) == [identity for identity, _ in wanted]
    (tmp_path / "other.json").write_text("[" * 100_000)
    with pytest.raises(DataError, match="json-depth"):
        set_classes("own_val")


@pytest.mark.parametrize("annotations", [{}, {"annotations": None}, {"annotations": []}])
def test_categories_count_without_annotations(cfg, shapes, tmp_path, annotations):
    content = json.loads((shapes / "annotations" / "instances_val.json").read_text())
    del content["annotations"]
    (tmp_path / "test.json").write_text(json.dumps({**content, **annotations}))
    own(cfg, shapes, "VAL").DATASETS.VAL_JSON = str(tmp_path / "test.json")
    use_own_data(cfg, will_be_checked=True)
    assert cfg.MODEL.ROI_HEADS.NUM_CLASSES == cfg.MODEL.RETINANET.NUM_CLASSES == 10
    assert prepare_data(cfg, False, tmp_path / "annotations") == {"own_val": 6}
    wanted = [category["name"] for category in content["categories"]]
    assert class_metadata(cfg).thing_classes == wanted  # as predict takes them
