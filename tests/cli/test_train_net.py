"""Training from the command line: killed, resumed, evaluated, in one process and in two."""

import contextlib
import functools
import io
import json
import os
import re
import shlex
import signal
import subprocess
from pathlib import Path

import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

CONFIG = "configs/Shapes/disentangled.yaml"


@pytest.fixture
def command(start, data_root):
    """Start a Python program of the checkout on the small Shapes data set."""
    return functools.partial(start, DETECTRON2_DATASETS=str(data_root))


def bbox_ap(output):
    """The last box AP that detectron2 printed, per cent."""
    tables = re.findall(r"Task: bbox.*?\n.*?\n.*?copypaste: ([\d.]+|nan),", output)
    return float(tables[-1])


@pytest.mark.usefixtures("device")
def test_train_kill_resume_evaluate(command, tiny, tmp_path, data_root):
    run = ("train_net.py", "--config-file", CONFIG)
    # So that there are detections: BatchNorm's statistics are far off after 25 iterations.
    tiny += ["MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.0", "MODEL.RESNETS.NORM", "LN"]
    keys = ("OUTPUT_DIR", tmp_path, "SOLVER.MAX_ITER", 25, "SOLVER.CHECKPOINT_PERIOD", 4, *tiny)
    process = command(*run, *keys)
    process.wait_until((tmp_path / "model_0000007.pth").exists)
    os.kill(process.pid, signal.SIGKILL)
    process.finish(-signal.SIGKILL)
    assert not (tmp_path / "model_final.pth").exists()
    saved = max(file.stem for file in tmp_path.glob("model_*.pth"))
    started = int(saved.removeprefix("model_")) + 1

    resumed = command(*run, "--resume", *keys).finish()
    assert f"Starting training from iteration {started}" in resumed
    final = torch.load(tmp_path / "model_final.pth", weights_only=True)
    assert final["iteration"] == 24
    assert final["model"]["backbone.bottom_up.res4.5.attention.gamma"].shape == (1,)

    weights = ("MODEL.WEIGHTS", tmp_path / "model_final.pth", "OUTPUT_DIR", tmp_path / "eval")
    evaluated = command(*run, "--eval-only", *weights, *tiny).finish()
    assert bbox_ap(evaluated) == bbox_ap(resumed) >= 0
    assert "Task: segm" in evaluated
    check_with_pycocotools(evaluated, tmp_path / "eval", data_root)


@pytest.mark.parametrize(("number", "workers"), [(signal.SIGTERM, 0), (signal.SIGINT, 2)])
def test_a_signal_saves_and_says_how_to_go_on(command, tiny, tmp_path, number, workers):
    tiny = [*tiny, "DATALOADER.NUM_WORKERS", str(workers)]
    process = command(
        *("train_net.py", "--config-file", CONFIG, "OUTPUT_DIR", tmp_path),
        *("SOLVER.MAX_ITER", 100000, *tiny),
    )
    process.wait_until(lambda: "iter: " in process.printed())
    os.kill(process.pid, number)
    output = process.finish(128 + number)
    stopped = re.search(r"stopped after iteration (\d+), saved as (model_\d+)\.pth", output)
    saved = torch.load(tmp_path / f"{stopped[2]}.pth", weights_only=True)
    assert saved["iteration"] == int(stopped[1])
    # What is said to be typed, typed; with an end in sight.
    words = shlex.split(re.search(r"Go on with: python (.+)", output)[1])
    words[words.index("100000")] = str(saved["iteration"] + 2)
    resumed = command(*words).finish()
    assert f"Starting training from iteration {saved['iteration'] + 1}" in resumed


def test_a_disk_that_fills_up_ends_it_and_loses_nothing(command, tiny, tmp_path):
    mount = ["mount", "-t", "tmpfs", "-o", "size=64M", "tmpfs", str(tmp_path)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs the right to mount a small file system")
    filler = tmp_path / "filler"
    try:
        run = ("train_net.py", "--config-file", CONFIG, "OUTPUT_DIR", tmp_path / "out")
        keys = ("SOLVER.CHECKPOINT_PERIOD", 4, "SOLVER.MAX_ITER", 100000, *tiny)
        process = command(*run, *keys)
        process.wait_until((tmp_path / "out/last_checkpoint").exists)
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        output = process.finish(1)
        assert "Traceback" not in output
        (error,) = [line for line in output.splitlines() if line.startswith("error: ")]
        newest = max((tmp_path / "out").glob("model_*.pth"))
        assert re.match(r"error: training stopped at iteration \d+: .*[Nn]o space left", error)
        assert f"Go on from {newest} by --resume." in error
        saved = torch.load(newest, weights_only=True)["iteration"]
        filler.unlink()
        keys = ("SOLVER.CHECKPOINT_PERIOD", 4, "SOLVER.MAX_ITER", saved + 2, *tiny)
        resumed = command(*run[:1], "--resume", *run[1:], *keys).finish()
        assert f"Starting training from iteration {saved + 1}" in resumed
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def check_with_pycocotools(output, folder, data_root):
    results = folder / "inference" / "coco_instances_results.json"
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(data_root / "shapes" / "annotations" / "instances_val.json"))
        evaluation = COCOeval(truth, truth.loadRes(str(results)), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    assert bbox_ap(output) == pytest.approx(100 * evaluation.stats[0], abs=1e-4)


@pytest.mark.parametrize("launcher", ["torchrun", "--num-gpus"])
def test_two_processes(command, tiny, tmp_path, launcher, free_port, root):
    keys = ("OUTPUT_DIR", tmp_path, "SOLVER.MAX_ITER", 2, "MODEL.RESNETS.NORM", "SyncBN", *tiny)
    run = ("train_net.py", "--config-file", CONFIG)
    if launcher == "torchrun":
        torchrun = ("-m", "torch.distributed.run", "--nproc-per-node", 2, "--master-port")
        process = command(*torchrun, free_port, *run, *keys)
    else:
        process = command(*run, "--num-gpus", 2, "--dist-url", "auto", *keys)
    output = process.finish()
    assert "World size: 2" in output
    assert "NORM: SyncBN is replaced by naiveSyncBN_N in this run" in output
    assert "Task: segm" in output
    saved = torch.load(tmp_path / "model_final.pth", weights_only=True)
    assert not any(key.startswith("module.") for key in saved["model"])
    results = Path(tmp_path, "inference", "coco_instances_results.json")
    assert {entry["image_id"] for entry in json.loads(results.read_text())} <= set(range(1, 7))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("MODEL.DNL.RES4", "[9]"), "MODEL.DNL.RES4: no block 9 in res4, which has 6"),
        (("OUTPUT_DIR", "/dev/null/x"), "OUTPUT_DIR: '/dev/null/x' cannot be written to ("),
        (("MODEL.WEIGHTS", "gone.pth"), "MODEL.WEIGHTS: there is no file gone.pth"),
        (
            ("DATASETS.TRAIN", "('shape_train',)"),
            "no data set 'shape_train'; near it are shapes_tr",
        ),
    ],
)
def test_bad_input_is_one_line_and_no_traceback(command, tiny, tmp_path, words, message):
    process = command(
        "train_net.py", "--config-file", CONFIG, "OUTPUT_DIR", tmp_path, *tiny, *words
    )
    output = process.finish(1)
    assert message in output.splitlines()[-1]
    assert "Traceback" not in output


def test_label_folders_train_resume_and_evaluate(command, tmp_path, data_root):
    shapes = data_root / "shapes"
    names = tmp_path / "names.txt"
    names.write_text("\n".join(["background", *(f"class {k}" for k in range(10))]))
    run = ("train_net.py", "--config-file", "configs/Shapes/sem_seg_disentangled.yaml")
    data = ("--train-images", shapes / "train", "--train-labels", shapes / "labels_train")
    data += ("--val-images", shapes / "val", "--val-labels", shapes / "labels_val")
    keys = ("OUTPUT_DIR", tmp_path / "run", "SOLVER.IMS_PER_BATCH", 4, "DATALOADER.NUM_WORKERS", 0)
    first = command(*run, *data, "--classes", names, "--epochs", 1, *keys).finish()
    assert "own_val" in first
    names.unlink()

    saved = ("--config-file", tmp_path / "run/config.yaml")
    resumed = command("train_net.py", *saved, "--resume", "--epochs", 2, *keys).finish()
    assert "Starting training from iteration 3" in resumed
    final = torch.load(tmp_path / "run/model_final.pth", weights_only=True)
    assert final["iteration"] == 5
    weights = ("MODEL.WEIGHTS", tmp_path / "run/model_final.pth", "OUTPUT_DIR", tmp_path / "eval")
    evaluated = command("train_net.py", *saved, "--eval-only", *weights).finish()
    scores = [
        re.findall(r"Task: sem_seg\n.*\n.*(copypaste: .*)", text) for text in (resumed, evaluated)
    ]
    assert scores[0] == scores[1] != []
    assert "| class 9" in evaluated

    command(
        "train_net.py", *saved, "--num-gpus", 2, "--epochs", 1, "OUTPUT_DIR", tmp_path / "two"
    ).finish()
    assert (tmp_path / "two/model_final.pth").exists()


def test_two_processes_end_early_together_and_keep_the_best(command, tmp_path):
    """With so small a learning rate no evaluation is better than the first."""
    keys = ("SOLVER.BASE_LR", 1e-12, "MODEL.RESNETS.NORM", "LN", "MODEL.SEM_SEG_HEAD.NORM", "LN")
    keys += ("SOLVER.IMS_PER_BATCH", 2, "SOLVER.MAX_ITER", 12, "TEST.EVAL_PERIOD", 2)
    keys += ("TEST.BEST_METRIC", "sem_seg/mIoU", "SOLVER.EARLY_STOPPING_PATIENCE", 2)
    keys += ("DATALOADER.NUM_WORKERS", 0, "OUTPUT_DIR", tmp_path, "MODEL.DNL.MONITOR_TIMES", 0)
    words = ("train_net.py", "--config-file", "configs/Shapes/sem_seg_none.yaml", "--num-gpus", 2)
    printed = command(*words, *keys).finish()
    assert "The training ends after iteration 5: 2 evaluations had no better" in printed
    assert torch.load(tmp_path / "model_best.pth", weights_only=True)["iteration"] == 1
    weights = ("MODEL.WEIGHTS", tmp_path / "model_best.pth", "OUTPUT_DIR", tmp_path / "eval")
    config = ("--config-file", tmp_path / "config.yaml", "--eval-only")
    scores = [
        re.findall(r"copypaste: ([\d.]+),[\d.]+,[\d.]+,[\d.]+,[\d.]+\n", text)[-1]
        for text in (printed, command("train_net.py", *config, *weights).finish())
    ]
    assert scores[0] == scores[1]
