"""No command writes over a file that it was given to read."""

import shutil

import pytest

from dnl_det.__main__ import main
from dnl_det.engine import argument_parser, setup

CONFIG = "configs/Shapes/disentangled.yaml"


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def data(shapes, tmp_path):
    """Files that stand where a command writes its own, in the folder ``data``."""
    folder = tmp_path / "data"
    shutil.copytree(shapes / "val", folder / "val")
    image = min((folder / "val").iterdir())
    json_file = shapes / "annotations" / "instances_val.json"
    for name in ("diagnose.json", "metrics.json", "annotations/own_train.json"):
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copy(json_file, folder / name)
    shutil.copy(image, folder / "attention_res3.3.png")
    (folder / "photo.jpg").symlink_to(image)
    return folder


@pytest.mark.parametrize(
    "words",
    [
        "check-data --json DATA/diagnose.json --images DATA/val --output DATA/diagnose.json",
        "check-data --json DATA/diagnose.json --images DATA --output DATA/photo.jpg",
        "check-data --config-file DATA/c.yaml --output DATA/c.yaml",
        "import-data DATA/v.xml --format cvat --images DATA --output DATA/v.json",
        "diagnose --config-file CONFIG --weights DATA/w.pth --output DATA --opts"
        " DATASETS.VAL_JSON DATA/diagnose.json DATASETS.VAL_IMAGES DATA/val",
        "convert DATA/w.pth DATA/w.pth --overwrite",
        "benchmark --models DATA/c.yaml --weights DATA/benchmark.json --output DATA --stages",
    ],
)
def test_a_command_refuses_to(root, data, words):
    (data / "w.pth").write_bytes(b"weights")
    text = '<a><image name="a.bmp" width="9" height="9"/></a>'
    (data / "v.xml").write_text(text)
    (data / "v.json").hardlink_to(data / "v.xml")
    (data / "benchmark.json").write_bytes(b"weights")
    (data / "c.yaml").write_text(f"_BASE_: {root / CONFIG}\n")
    before = contents(data)
    words = words.replace("CONFIG", str(root / CONFIG)).replace("DATA/", f"{data}/")
    with pytest.raises(SystemExit, match=r"^error: .*(would be overwritten|folder of the images)"):
        main([str(data) if word == "DATA" else word for word in words.split()])
    assert contents(data) == before


@pytest.mark.parametrize(
    ("flags", "keys"),
    [
        ([], {"DATASETS.TRAIN_JSON": "metrics.json"}),
        ([], {"DATASETS.TRAIN_JSON": "annotations/own_train.json"}),
        ([], {"MODEL.WEIGHTS": "model_final.pth"}),
        (["--eval-only"], {"DATASETS.VAL_JSON": "inference/coco_instances_results.json"}),
    ],
)
def test_a_run_refuses_to(root, data, flags, keys):
    (data / "model_final.pth").write_bytes(b"weights")
    (data / "inference").mkdir()
    shutil.copy(data / "metrics.json", data / "inference" / "coco_instances_results.json")
    before = contents(data)
    words = ["--config-file", str(root / CONFIG), *flags, "OUTPUT_DIR", str(data)]
    for key, name in keys.items():
        words += [key, str(data / name)]
        if key.endswith("_JSON"):
            words += [key.replace("JSON", "IMAGES"), str(data / "val")]
    with pytest.raises(ValueError, match="would be overwritten, and it is an input"):
        setup(argument_parser().parse_args(words))
    after = contents(data)
    assert {path: after[path] for path in before} == before


def test_a_run_keeps_the_config_that_it_is_given(root, shapes, tmp_path):
    """A run's own config.yaml, or one written there by hand, given as the config or its base."""
    given = tmp_path / "config.yaml"
    given.write_text(f"_BASE_: {root / CONFIG}\nOUTPUT_DIR: {tmp_path}\nSEED: 5\n")
    child = tmp_path / "child.yaml"
    child.write_text("_BASE_: config.yaml\nSEED: 6\n")
    before = given.read_text()
    for file in (given, child):
        cfg = setup(argument_parser().parse_args(["--config-file", str(file), "SEED", "7"]))
        assert given.read_text() == before
        assert (tmp_path / "config_of_last_run.yaml").read_text() == cfg.dump()
