"""``check-data`` by itself, and its effect on training and evaluation in real processes."""

import contextlib
import io
import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from faulty import HEIGHT, SECOND, SQUARE, WIDTH, DataSet, annotation, exif, picture

from dnl_det.__main__ import main

CONFIG = "configs/Shapes/disentangled.yaml"


@pytest.fixture
def data(tmp_path):
    return DataSet(tmp_path / "data")


def check(data, *options):
    return main(["check-data", "--json", str(data.write()), "--images", str(data.images), *options])


def test_a_sound_data_set(data, capsys, tmp_path):
    assert check(data, "--output", str(tmp_path / "report.json")) == 0
    out = capsys.readouterr().out
    assert "annotations.json: 4 images, 8 annotations, 2 categories\n  nothing found" in out
    (report,) = json.loads((tmp_path / "report.json").read_text())
    assert report["counts"] == {"error": 0, "skipped": 0, "repaired": 0, "note": 0}


def test_errors_and_the_rest_at_once(data, capsys, tmp_path):
    data.file(2).unlink()
    data.annotations[0]["category_id"] = 5
    assert check(data) == 0
    assert check(data, "--evaluation", "--output", str(tmp_path / "report.json")) == 1
    assert "error    image-missing x 1" in capsys.readouterr().out
    (report,) = json.loads((tmp_path / "report.json").read_text())
    assert report["counts"]["error"] == 2
    assert report["findings"][0]["where"] == [{"image_id": 2, "file": "2.png"}]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "give either --json and --images, or --config-file"),
        (["--json", "a"], "--json is given and --images is not"),
        (["--json", "a", "--images", "b", "--config-file", "c"], "give either"),
        (["--json", "a", "--images", "b", "--output", "gone/x.json"], "there is no folder gone"),
        (["--json", "a", "--images", "b", "--opts", "SEED", "1"], "--opts: config overrides need"),
        (["--json", "a", "--images", "b", "--examples", "-1"], "--examples: -1 must be"),
        (["--config-file", "gone.yaml"], "gone.yaml"),
    ],
)
def test_bad_arguments_are_one_line(words, message):
    with pytest.raises(SystemExit) as exit_:
        main(["check-data", *words])
    assert str(exit_.value).startswith("error: ")
    assert message in str(exit_.value)


def test_a_config_s_data_and_its_classes(root, shapes, capsys):
    words = ["check-data", "--config-file", str(root / CONFIG), "--opts"]
    assert main([*words, "SEED", "1"]) == 0
    out = capsys.readouterr().out
    assert "data set shapes_train: 12 images" in out
    assert "data set shapes_val: 6 images" in out
    assert main([*words, "MODEL.ROI_HEADS.NUM_CLASSES", "7"]) == 1
    assert "10 categories, and MODEL.ROI_HEADS.NUM_CLASSES is 7" in capsys.readouterr().out


def own(data, val=None):
    words = ["DATASETS.TRAIN_JSON", str(data.write()), "DATASETS.TRAIN_IMAGES", str(data.images)]
    if val:
        words += ["DATASETS.VAL_JSON", str(val.write()), "DATASETS.VAL_IMAGES", str(val.images)]
    return words


def test_both_own_data_sets_at_once_and_against_each_other(root, data, tmp_path, capsys):
    val = DataSet(tmp_path / "val")
    words = ["check-data", "--config-file", str(root / CONFIG), "--opts"]
    assert main([*words, *own(data, val)]) == 0
    assert "own_val: 4 images" in capsys.readouterr().out
    val.content["categories"][1]["name"] = "horse"
    assert main([*words, *own(data, val)]) == 1
    out = capsys.readouterr().out
    assert "error    categories-differ x 1" in out
    assert "own_train and own_val differ, such as in 2 'dog', 2 'horse'" in out
    data.content["categories"] = "none"
    val.file(3).unlink()
    assert main([*words, *own(data, val)]) == 1
    out = capsys.readouterr().out
    assert "error    json-format" in out
    assert "error    image-missing" in out


# --- in real processes ---------------------------------------------------------------------------


def run(root, *words, **environment):
    """Exit status and output of a Python program of the checkout."""
    process = subprocess.run(
        [sys.executable, "-W", "ignore", *map(str, words)],
        cwd=root,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=400,
    )
    return process.returncode, process.stdout


TRAIN = ["train_net.py", "--config-file", CONFIG]


def break_everything_that_can_be_repaired(data):
    """Every fault of the list that a training goes on with, in one data set of ten images."""

    def new(mode="RGB", ending="png", size=(WIDTH, HEIGHT), **options):
        k = len(data.entries) + 1
        picture(mode, *size).save(data.images / f"{k}.{ending}", **options)
        entry = {"id": k, "file_name": f"{k}.{ending}", "width": WIDTH, "height": HEIGHT}
        data.entries.append(entry)
        data.annotations.append(annotation(100 + k, k, 2, SQUARE))
        return entry

    new("L", "jpg")
    new("RGBA")
    new("CMYK", "jpg")
    new("I;16")
    new("RGB", "jpg", (HEIGHT, WIDTH), exif=exif(6))
    del new()["width"]
    (data.images / "windows").mkdir()
    data.file(3).rename(data.images / "windows" / "3.png")
    data.entries[2]["file_name"] = "windows\\3.png"
    data.encoding = "utf-16"
    twice = data.annotations[0]
    data.annotations.append(dict(twice))
    data.annotations[1]["id"] = 0
    data.annotations[2]["id"] = data.annotations[3]["id"] = -7
    data.annotations[4]["segmentation"] = SQUARE
    data.annotations[5]["segmentation"] = [SECOND, [1, 2, 3, 4]]
    data.annotations[6]["bbox"] = [1, 2]
    data.annotations[7].pop("iscrowd")
    data.annotations[7].pop("area")
    data.annotations[8]["segmentation"] = [SQUARE, [3, 3, 9, 9, 6, 6]]
    data.annotations[9]["ignore"] = 1
    counts = [6 * HEIGHT + 9, 9, WIDTH * HEIGHT - 6 * HEIGHT - 18]
    data.add(id=201, bbox=[6, 9, 1, 9], segmentation={"size": [HEIGHT, WIDTH], "counts": counts})
    data.add(id=202, bbox=[2, 24, 3, 9], segmentation=None, category_id=1)
    data.add(id=203, bbox=[60, 60, 4, 4], segmentation=[])
    data.add(id=204, bbox=[28, 10, 40, 20], segmentation=[SECOND], category_id=1)
    data.add(id=206, image_id=77)
    data.content["categories"].append({"id": 90, "name": "dog"})
    for entry in data.content["categories"]:  # sparse
        entry["id"] *= 3
    for entry in data.annotations:
        entry["category_id"] *= 3
        if entry["image_id"] != 77:
            entry["image_id"] += 1000
    for entry in data.entries:
        entry["id"] += 1000
    data.entries.append(dict(data.entries[0]))


REPAIRED = {
    *("image-grey", "image-alpha", "image-cmyk", "image-16-bit", "image-rotated"),
    *("image-size-taken", "image-repeated", "annotation-repeated", "annotation-id"),
    *("polygon-flat", "polygon-broken", "polygon-degenerate", "box-broken", "box-outside"),
    *("box-over-edge", "crowd-flag", "area", "ignore-flag", "mask-rle", "mask-absent"),
    *("annotation-image-unknown", "category-name-repeated", "json-encoding", "image-backslash"),
}
UNUSABLE = {
    "image-missing",
    "image-zero-bytes",
    "image-truncated",
    "image-unreadable",
    "image-size",
    "annotation-category-unknown",
}


def break_images(data):
    """Five more images that cannot be used, and an object of no category."""
    data.add(id=205, image_id=data.entries[0]["id"], category_id=77)
    for k in range(11, 16):
        data.entries.append({"id": k, "file_name": f"{k}.jpg", "width": WIDTH, "height": HEIGHT})
        data.annotations.append(annotation(300 + k, k, 3, SQUARE))
        picture().save(data.images / f"{k}.jpg")
    (data.images / "11.jpg").unlink()
    (data.images / "12.jpg").write_bytes(b"")
    whole = (data.images / "13.jpg").read_bytes()
    (data.images / "13.jpg").write_bytes(whole[: len(whole) * 8 // 10])
    (data.images / "14.jpg").write_text("no image")
    picture(width=WIDTH + 1).save(data.images / "15.jpg")


@pytest.mark.parametrize("library", ["pillow", pytest.param("opencv", marks=pytest.mark.slow)])
def test_training_goes_on_with_what_is_repaired_and_skipped(root, data, tiny, tmp_path, library):
    val = DataSet(tmp_path / "val")
    break_everything_that_can_be_repaired(data)
    break_everything_that_can_be_repaired(val)
    break_images(data)
    words = [*own(data, val), "OUTPUT_DIR", tmp_path / "out", "INPUT.IMAGE_LIBRARY", library]
    keys = ["SOLVER.MAX_ITER", 8, "MODEL.DNL.MONITOR_TIMES", 1]
    status, output = run(root, *TRAIN, *words, *tiny, *keys)
    assert status == 0, output[-5000:]
    assert "Traceback" not in output
    for code in REPAIRED | UNUSABLE:
        assert re.search(rf"(skipped|repaired) +{code} x", output), code
    assert "Task: segm" in output
    assert "MASK_FORMAT: bitmask" in (tmp_path / "out" / "config.yaml").read_text()
    content = json.loads((tmp_path / "out" / "annotations" / "own_train.json").read_text())
    assert [image["id"] for image in content["images"]] == list(range(1001, 1011))


def test_what_cannot_be_repaired_stops_a_training_before_it_starts(root, data, tiny, tmp_path):
    val = DataSet(tmp_path / "val")
    data.entries[0]["file_name"] = "../annotations.json"
    data.content["categories"][1]["id"] = 1
    break_images(val)
    words = [*own(data, val), "OUTPUT_DIR", tmp_path / "out"]
    status, output = run(root, *TRAIN, *words, *tiny)
    assert status == 1
    assert "Traceback" not in output
    for code in {"image-path", "category-conflict"} | UNUSABLE:
        assert f"error    {code} x 1" in output
    assert "11.jpg" in output
    assert "Starting training" not in output


def test_the_command_in_a_process_of_its_own(root, data):
    data.file(1).unlink()
    data.entries[1]["file_name"] = "\ud800\x1b[31m.png"
    words = ["-m", "dnl_det", "check-data", "--json", data.write(), "--images", data.images]
    status, output = run(root, *words, PYTHONIOENCODING="ascii")
    assert status == 1
    assert "Traceback" not in output
    assert "skipped  image-missing x 1" in output
    assert "error    image-path x 1" in output


def perfect_detections(cfg, name):
    """An evaluator of the run, and detections that are the annotations themselves."""
    from detectron2.data import DatasetCatalog
    from detectron2.structures import Boxes, BoxMode, Instances

    from dnl_det.evaluation import build_evaluator

    evaluator = build_evaluator(cfg, name)
    evaluator.reset()
    for record in DatasetCatalog.get(name):
        size = record["height"], record["width"]
        kept = [a for a in record["annotations"] if not a["iscrowd"]]
        found = Instances(size)
        boxes = [BoxMode.convert(a["bbox"], a["bbox_mode"], BoxMode.XYXY_ABS) for a in kept]
        found.pred_boxes = Boxes(torch.tensor(boxes).reshape(-1, 4))
        found.pred_classes = torch.tensor([a["category_id"] for a in kept])
        found.scores = torch.ones(len(kept))
        masks = [mask_of(a["segmentation"], size) for a in kept]
        found.pred_masks = torch.stack(masks) if masks else torch.zeros(0, *size).bool()
        evaluator.process([record], [{"instances": found}])
    with contextlib.redirect_stdout(io.StringIO()):
        return evaluator.evaluate()


def mask_of(segmentation, size):
    from pycocotools import mask as mask_util

    if isinstance(segmentation, list):
        segmentation = mask_util.merge(mask_util.frPyObjects(segmentation, *size))
    return torch.from_numpy(mask_util.decode(segmentation)).bool()


@pytest.mark.parametrize("fast", [True, False])
def test_ap_of_the_annotations_themselves_is_100(root, data, tmp_path, monkeypatch, fast):
    from dnl_det.data.checks import prepare_data
    from dnl_det.data.own_data import use_own_data
    from dnl_det.engine import load_config

    if not fast:
        monkeypatch.setattr("dnl_det.evaluation.build.find_spec", lambda _: None)
    break_everything_that_can_be_repaired(data)
    cfg = load_config(str(root / CONFIG), ["OUTPUT_DIR", str(tmp_path)])
    cfg.DATASETS.VAL_JSON, cfg.DATASETS.VAL_IMAGES = str(data.write()), str(data.images)
    use_own_data(cfg, will_be_checked=True)
    sizes = prepare_data(cfg, False, tmp_path / "annotations")
    assert sizes == {"own_val": 10}
    results = perfect_detections(cfg, "own_val")
    for task in ("bbox", "segm"):
        assert results[task]["AP"] == pytest.approx(100)


def test_an_image_that_breaks_during_a_training_is_named(root, data, tiny, tmp_path):
    """It is replaced once the training runs, and read again in a later epoch."""
    keys = ["SOLVER.MAX_ITER", 100000, "OUTPUT_DIR", tmp_path / "out", *tiny]
    keys[keys.index("DATALOADER.NUM_WORKERS") + 1] = "2"
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", *TRAIN, *own(data), *map(str, keys)],
        cwd=root,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    killer = threading.Timer(300, process.kill)
    killer.start()
    lines = []
    for line in process.stdout:
        if "iter: " in line and not any("iter: " in before for before in lines):
            content = data.file(2).read_bytes()
            data.file(2).write_bytes(content[: len(content) // 2])
        lines.append(line)
    killer.cancel()
    assert process.wait() == 1
    output = "".join(lines)
    assert "Traceback" not in output
    stopped = re.search(r"image that changed since the start: (\S+) cannot be read", output)
    assert stopped[1] == str(data.file(2))
    saved = Path(re.search(r"Go on from (\S+) by --resume", output)[1])
    number = int(saved.stem.removeprefix("model_"))
    hooks = torch.load(saved, weights_only=True)["trainer"]["hooks"]
    assert hooks["LRScheduler"]["last_epoch"] == number + 1  # steps that were made

    status, output = run(
        root, *TRAIN, "--resume", *own(data), *keys[2:], "SOLVER.MAX_ITER", number + 3
    )
    assert status == 0, output[-3000:]
    assert f"Starting training from iteration {number + 1}" in output
    assert "skipped  image-truncated x 1" in output


def test_an_image_that_breaks_before_its_evaluation_is_named(root, data, tmp_path, monkeypatch):
    from dnl_det.data.own_data import use_own_data
    from dnl_det.engine import Trainer, load_config

    keys = ["OUTPUT_DIR", str(tmp_path), "MODEL.DEVICE", "cpu"]
    cfg = load_config(str(root / CONFIG), keys)
    cfg.DATASETS.VAL_JSON, cfg.DATASETS.VAL_IMAGES = str(data.write()), str(data.images)
    use_own_data(cfg)
    model = Trainer.build_model(cfg)
    data.file(3).write_bytes(b"gone bad")
    for workers in (0, 1):
        cfg.DATALOADER.NUM_WORKERS = workers
        with pytest.raises(
            SystemExit, match=r"evaluation stopped at an image .*3\.png cannot"
        ) as e:
            Trainer.test(cfg, model)
        assert "Traceback" not in str(e.value)
