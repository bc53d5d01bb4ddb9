"""The check of a run's data where several processes share it."""

import json

import pytest
from detectron2.data import MetadataCatalog
from detectron2.engine import launch
from detectron2.utils import comm
from faulty import DataSet

from dnl_det.data import DataError
from dnl_det.data.checks import config as check_config
from dnl_det.data.own_data import use_own_data
from dnl_det.engine import load_config
from dnl_det.engine.training.launch import leave_group

CONFIG = "configs/Shapes/disentangled.yaml"


def prepare(config_file, folder, json_file, images):
    """Prepare the data in one of several processes, and write down what that came to."""
    cfg = load_config(config_file, ["DATASETS.TRAIN_JSON", json_file])
    cfg.DATASETS.TRAIN_IMAGES = images
    use_own_data(cfg, will_be_checked=True)
    check, calls = check_config.check_config, []
    check_config.check_config = lambda *a: calls.append(a) or check(*a)
    result = {}
    try:
        sizes = check_config.prepare_data(cfg, True, folder / "annotations")
        result["images"] = sizes["own_train"]
    except DataError as error:
        result["error"] = str(error)
    result |= {"checks": len(calls), "mask_format": cfg.INPUT.MASK_FORMAT}
    result["json_file"] = MetadataCatalog.get("own_train").json_file
    (folder / f"{comm.get_rank()}.json").write_text(json.dumps(result))
    leave_group()


@pytest.fixture
def two(root, tmp_path):
    """What two processes come to with a data set."""

    def run(data: DataSet):
        arguments = (str(root / CONFIG), tmp_path, str(data.write()), str(data.images))
        launch(prepare, 2, dist_url="auto", args=arguments)
        return [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)]

    return run


def test_one_of_two_processes_checks_and_both_use_the_repaired_data(two, data, tmp_path):
    data.annotations[0]["segmentation"] = {"size": [36, 48], "counts": [400, 500, 828]}
    data.entries[2]["file_name"] = "gone.png"
    first, second = two(data)
    assert (first.pop("checks"), second.pop("checks")) == (1, 0)
    assert (
        first
        == second
        == {
            "images": 3,
            "mask_format": "bitmask",
            "json_file": str(tmp_path / "annotations/own_train.json"),
        }
    )


def test_both_stop_at_what_cannot_be_repaired(two, data):
    data.content["categories"] = "none"
    first, second = two(data)
    assert "json-format" in first["error"]
    assert second["error"] == "the data cannot be used: process 0 says why"
