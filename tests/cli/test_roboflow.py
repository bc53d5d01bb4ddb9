"""``--data``: a folder in Roboflow's layout, trained on and evaluated by a real program."""

import json
import shutil

import pytest

from dnl_det.engine import argument_parser, setup

CONFIG = "configs/Shapes/gc.yaml"


@pytest.fixture
def exported(data_root, tmp_path):
    """A function: the Shapes data set as Roboflow exports one, its folders named as given."""

    def export(**folders):
        for split, name in folders.items():
            folder = tmp_path / "exported" / name
            shutil.copytree(data_root / "shapes" / split, folder)
            truth = data_root / f"shapes/annotations/instances_{split}.json"
            shutil.copy(truth, folder / "_annotations.coco.json")
        return tmp_path / "exported"

    return export


@pytest.mark.parametrize("val", ["valid", "val"])
def test_a_training_finds_both_splits(exported, start, tiny, tmp_path, val):
    keys = ["OUTPUT_DIR", tmp_path / "out", "SOLVER.MAX_ITER", 2, *tiny]
    data = exported(train="train", val=val)
    printed = start("train_net.py", "--config-file", CONFIG, "--data", data, *keys).finish()
    assert "Task: bbox" in printed
    config = (tmp_path / "out/config.yaml").read_text()
    assert f"TRAIN_JSON: {data}/train/_annotations.coco.json" in config
    assert f"VAL_IMAGES: {data}/{val}\n" in config
    found = json.loads((tmp_path / "out/metrics.json").read_text().splitlines()[-1])
    assert found["bbox/AP"] >= 0


def test_a_split_alone_and_another_path_for_one(exported, root, tmp_path):
    data = exported(train="train")
    words = ["--config-file", str(root / CONFIG), "--data", str(data), "--train-images", "gone"]
    args = argument_parser().parse_args([*words, "OUTPUT_DIR", str(tmp_path / "out")])
    with pytest.raises(ValueError, match=r"gone is missing"):
        setup(args)


def test_another_folder_is_named(root, tmp_path):
    words = ["--config-file", str(root / CONFIG), "--data", str(tmp_path)]
    message = r"--data: .* has no train/_annotations.coco.json and no valid/_annotations.coco.json"
    with pytest.raises(ValueError, match=message):
        setup(argument_parser().parse_args(words))
