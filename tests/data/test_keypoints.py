"""Key points of one's own data: trained, evaluated, detected; and what has to be said of them."""

import json

import pytest
from detectron2.config import get_cfg
from detectron2.data import MetadataCatalog
from faulty import check, codes

from dnl_det import add_dnl_config
from dnl_det.data.checks import prepare_data
from dnl_det.data.own_data import use_own_data

NAMES = ["left_eye", "nose", "right_eye"]


@pytest.fixture
def cfg(data, tmp_path):
    for entry in data.content["categories"]:
        entry.update(keypoints=NAMES, skeleton=[[1, 2], [2, 3]])
    for entry in data.annotations:
        entry.update(keypoints=[10, 9, 2, 12, 12, 1, 0, 0, 0], num_keypoints=2)
    del data.annotations[1]["keypoints"]
    del data.annotations[2]["num_keypoints"]
    config = get_cfg()
    add_dnl_config(config)
    config.MODEL.KEYPOINT_ON = True
    for split in ("TRAIN", "VAL"):
        config.DATASETS[f"{split}_JSON"] = str(data.write())
        config.DATASETS[f"{split}_IMAGES"] = str(data.images)
    return config


def test_names_lines_and_flips_are_the_json_s(cfg, caplog):
    assert use_own_data(cfg)
    for name in ("own_train", "own_val"):
        metadata = MetadataCatalog.get(name)
        assert metadata.keypoint_names == NAMES
        assert metadata.keypoint_flip_map == [("left_eye", "right_eye")]
        lines = [line[:2] for line in metadata.keypoint_connection_rules]
        assert lines == [("left_eye", "nose"), ("nose", "right_eye")]
    assert cfg.MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS == 3
    assert cfg.TEST.KEYPOINT_OKS_SIGMAS == [0.06] * 3
    assert "TEST.KEYPOINT_OKS_SIGMAS is not set: 0.06 for each of 3" in caplog.text


def test_objects_without_key_points_have_none_that_is_seen(data, cfg):
    found = check(data, keypoints=3)
    assert codes(found) == {"keypoints-absent": 1, "keypoints-count": 2}
    second, third = found.content["annotations"][1:3]
    assert (second["keypoints"], second["num_keypoints"]) == ([0] * 9, 0)
    assert third["num_keypoints"] == 2
    assert codes(check(data)) == {}


def change(data, **values):
    for entry in data.content["categories"]:
        entry.update(values)
    data.write()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"keypoints": []}, 'no category names its key points: give each category "keypoints"'),
        ({"keypoints": ["a", "a"]}, "must be one list of different names"),
        ({"keypoints": [1, 2]}, "must be one list of different names"),
        ({"skeleton": [[0, 1]]}, "skeleton must be pairs of numbers from 1 to 3"),
        ({"skeleton": [1]}, "skeleton must be pairs"),
    ],
)
def test_what_the_json_lacks_is_named(data, cfg, values, message):
    change(data, **values)
    with pytest.raises(ValueError, match=f"data set own_train: .*{message}"):
        use_own_data(cfg)


def test_key_points_in_another_order_are_refused(data, cfg, tmp_path):
    for entry in data.content["categories"]:
        entry["keypoints"] = NAMES[::-1]
    other = tmp_path / "val.json"
    other.write_text(json.dumps(data.content))
    cfg.DATASETS.VAL_JSON = str(other)
    with pytest.raises(ValueError, match="key points differ: .*left_eye.* of data set own_train"):
        use_own_data(cfg)


def test_sigmas_of_another_number_are_named(cfg):
    cfg.TEST.KEYPOINT_OKS_SIGMAS = [0.1] * 17
    with pytest.raises(ValueError, match=r"KEYPOINT_OKS_SIGMAS: 17 numbers must be one for each"):
        use_own_data(cfg)


def test_a_detector_trains_evaluates_and_predicts(root, cfg, data, tmp_path, tiny):
    from dnl_det.__main__ import main
    from dnl_det.engine import Trainer, load_config

    keys = ["MODEL.KEYPOINT_ON", "True", "MODEL.ROI_KEYPOINT_HEAD.CONV_DIMS", "(8,)"]
    keys += ["MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", "", "OUTPUT_DIR", str(tmp_path / "out")]
    keys += ["SOLVER.MAX_ITER", "2", "INPUT.CROP.ENABLED", "True", "INPUT.CROP.SIZE", "[0.3, 0.3]"]
    keys += ["MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.0"]
    data.annotations[4:6] = []  # an image without objects
    data.write()
    config = load_config(str(root / "configs/Shapes/gc.yaml"), [*tiny, *keys])
    config.DATALOADER.FILTER_EMPTY_ANNOTATIONS = False
    for split in ("TRAIN", "VAL"):
        for kind in ("JSON", "IMAGES"):
            config.DATASETS[f"{split}_{kind}"] = cfg.DATASETS[f"{split}_{kind}"]
    use_own_data(config, will_be_checked=True)
    prepare_data(config, True, tmp_path / "annotations")
    (tmp_path / "out").mkdir()
    trainer = Trainer(config)
    trainer.train()
    assert {"bbox", "segm", "keypoints"} <= trainer._last_eval_results.keys()
    (tmp_path / "config.yaml").write_text(config.dump())
    words = ["--config-file", tmp_path / "config.yaml", "--output", tmp_path / "found"]
    words += ["--weights", tmp_path / "out" / "model_final.pth", "--threshold", "0"]
    assert main(["predict", str(data.file(1)), *map(str, words)]) == 0
    found = json.loads((tmp_path / "found" / "detections.json").read_text())
    assert found
    assert all(len(one["keypoints"]) == 9 for one in found)
