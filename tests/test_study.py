"""What ``make study`` runs: its labels and its report, and all of it on a small data set."""

import argparse
import contextlib
import importlib
import json
import math
import os
import re
import signal
from pathlib import Path

import pytest
import torch
from detectron2.modeling import build_model

from dnl_det.data import ShapesOptions, count_categories, write_shapes
from dnl_det.data.shapes import OUTLINES_OF_CUE, THING_CLASSES
from dnl_det.engine import load_config


@pytest.fixture
def tool(root, monkeypatch):
    monkeypatch.syspath_prepend(str(root / "tools/shapes"))
    return importlib.import_module


def test_ap_of_a_cue_is_the_mean_of_its_classes(tool):
    results = {f"bbox/AP-{name}": float(10 * k) for k, name in enumerate(THING_CLASSES)}
    results["bbox/AP"] = results["segm/AP-moon"] = 1000.0
    expected = {"tag": 15.0, "beacon": 55.0, "plain": 85.0}
    assert tool("cues").ap_by_cue(results, "bbox") == expected
    assert math.isnan(tool("cues").ap_by_cue(results, "segm")["tag"])


def test_parts_are_every_thing_in_an_image_and_tell_no_relation(tool, tmp_path):
    study_data = tool("study_data")
    study_data.write_data(tmp_path, ShapesOptions(num_train=12, num_val=6))
    shapes = json.loads((tmp_path / "train/annotations/instances_train.json").read_text())
    counts = count_categories(tmp_path / "parts_train.json")
    tags = [tag for image in shapes["images"] for tag in image["tags"]]
    for colour, centre in (("red", "black"), ("blue", "white")):
        found = sum(tag["colour"] == colour and tag["centre"] == centre for tag in tags)
        assert counts[f"tag_{colour}_{centre}"] == found
    assert counts["beacon_a"] + counts["beacon_b"] == 12
    assert sum(counts.values()) == len(shapes["annotations"]) + len(tags) + 12
    # An object's class is the same for a black and a white tag.
    names = {category["id"]: category["name"] for category in shapes["categories"]}
    red_circles = [
        item
        for item in shapes["annotations"]
        if names[item["category_id"]].startswith("circle") and item["colour"] == "red"
    ]
    assert counts["circle_red"] == len(red_circles)

    def imbalance(split):
        data = json.loads((tmp_path / split / f"annotations/instances_{split}.json").read_text())
        signs = {"black": -1, "white": 1}
        return [sum(signs[tag["centre"]] for tag in image["tags"]) for image in data["images"]]

    assert any(imbalance("train"))
    assert not any(imbalance("val"))


def test_accuracy_is_of_the_two_classes_of_an_outline(tool, tmp_path):
    """A detector that always prefers black and b is right as often as they are in the data."""
    study = tool("study")
    write_shapes(tmp_path / "val", ShapesOptions(num_train=1, num_val=20, balance_tags=False))
    annotations = tmp_path / "val/annotations/instances_val.json"
    keys = ["DATASETS.VAL_JSON", str(annotations), "DATASETS.VAL_IMAGES", str(tmp_path / "val/val")]
    model = build_model(load_config(study.CONFIG, ["MODEL.DEVICE", "cpu"]))
    score = model.roi_heads.box_predictor.cls_score
    torch.nn.init.zeros_(score.weight)
    preferred = ("_black", "_b", "cross")  # and crosses above all
    bias = [100.0 if n == "cross" else float(n.endswith(preferred)) for n in THING_CLASSES]
    score.bias.data = torch.tensor([*bias, 0.0])
    torch.save({"model": model.state_dict()}, tmp_path / "weights.pth")
    found = tool("cues").accuracy_by_cue(study.CONFIG, tmp_path / "weights.pth", keys)
    counts = count_categories(annotations)
    for cue, ending in (("tag", "_black"), ("beacon", "_b")):
        names = [n for n in THING_CLASSES if n.startswith(OUTLINES_OF_CUE[cue])]
        right = sum(counts[n] for n in names if n.endswith(ending))
        assert 0 < right < sum(counts[n] for n in names)
        assert found[cue] == pytest.approx(100 * right / sum(counts[n] for n in names))
    assert list(found) == ["tag", "beacon"]


def test_report_has_mean_and_spread_of_the_seeds(tool, tmp_path):
    def block(gamma):
        unused = dict.fromkeys(tool("report").DIAGNOSE)
        return {**unused, "gamma": {"value": gamma}}

    blocks = {"res3": block(0.5), "res4": block(0.1)}
    for seed, ap in enumerate((1.0, 2.0, 6.0)):
        for variant, more in (("baseline", {}), ("joint", {"diagnose": blocks})):
            folder = tmp_path / variant / str(seed)
            folder.mkdir(parents=True)
            result = {"seed": seed, "box_ap": ap, "parameters": 1234, **more}
            (folder / "result.json").write_text(json.dumps(result))
    tool("report").write_report(tmp_path, ["joint", "baseline", "nl"])
    lines = (tmp_path / "table.md").read_text().splitlines()
    assert lines[0] == "| variant | seeds | box AP | parameters |"
    # The standard deviation: sqrt(((1 - 3)^2 + (2 - 3)^2 + (6 - 3)^2) / 2) = 2.65
    assert lines[2] == "| joint | 0, 1, 2 | 3.0 ± 2.6 | 1,234 |"
    assert lines[3] == "| baseline | 0, 1, 2 | 3.0 ± 2.6 | 1,234 |"
    assert lines[7].startswith("| joint | 0.300 | - |")
    assert len(lines) == 8
    assert (tmp_path / "figure.png").stat().st_size > 1000


def trainings(folder):
    """Processes of train_net.py that write into a folder."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # ended meanwhile
            found.append(file.read_bytes().decode())
    return [line for line in found if "train_net.py" in line and str(folder) in line]


def test_interrupted_study_goes_on(start, tmp_path):
    command = ["tools/shapes/study.py", "--output", tmp_path]
    command += ["--variants", "baseline", "disentangled", "--seeds", "7", "--iterations", "30"]
    command += ["--backbone-iterations", "2", "--images", "8", "--val-images", "4", "--opts"]
    command += ["SOLVER.CHECKPOINT_PERIOD", "5", "SOLVER.IMS_PER_BATCH", "2"]

    def write_times(*files):
        return [(tmp_path / file).stat().st_mtime_ns for file in files]

    first = start(*command)
    first.wait_until((tmp_path / "disentangled/7/last_checkpoint").exists)
    assert trainings(tmp_path)
    os.kill(first.pid, signal.SIGTERM)
    first.finish(128 + signal.SIGTERM)
    assert not trainings(tmp_path)
    assert not (tmp_path / "disentangled/7/result.json").exists()
    finished = ("backbone/backbone.pth", "baseline/7/result.json")
    before = write_times(*finished)

    output = start(*command).finish()
    assert write_times(*finished) == before
    log = (tmp_path / "disentangled/7/log.txt").read_text()
    starts = [int(number) for number in re.findall(r"Starting training from iteration (\d+)", log)]
    assert starts[0] == 0
    assert starts[-1] >= 5
    results = json.loads((tmp_path / "results.json").read_text())
    assert list(results) == ["baseline", "disentangled"]
    for found in results.values():
        assert found[0]["seed"] == 7
        assert found[0]["seconds_per_iteration"] > 0
        assert found[0]["peak_memory"] > 100 * 2**20
    (block,) = results["disentangled"][0]["diagnose"].values()
    assert block["gamma"]["value"] == pytest.approx(0.5, abs=0.2)
    # query, key: 64 * 16 + 16 each; value: 64 * 64; mask: 64 + 1; gamma
    more = results["disentangled"][0]["parameters"] - results["baseline"][0]["parameters"]
    assert more == 2 * (64 * 16 + 16) + 64 * 64 + 65 + 1
    assert "| disentangled | 7 |" in output


def test_results_of_two_settings_are_not_mixed(tool, tmp_path):
    study = tool("study")
    options = {"backbone_iterations": 2, "opts": [], "output": tmp_path}
    study.check_settings(argparse.Namespace(iterations=60, **options), study.OPTIONS)
    study.check_settings(argparse.Namespace(iterations=60, **options), study.OPTIONS)
    with pytest.raises(ValueError, match="another setting of iterations"):
        study.check_settings(argparse.Namespace(iterations=61, **options), study.OPTIONS)
