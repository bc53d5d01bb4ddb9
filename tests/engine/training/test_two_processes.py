"""Trainings of two processes: their gradients, and what happens when one of them dies."""

import os
import re
import signal
import time
from pathlib import Path

import pytest
import torch
from trainings import assert_same_end, children_of, final

SPAWNED = ("--num-gpus", "2", "--dist-url", "auto")


def ranks(process):
    """Ids of the processes with a rank, the first one first."""
    # Before them, of --num-gpus, is what multiprocessing tracks resources with.
    return children_of(process)[-2:]


def errors(printed):
    return [line for line in printed.splitlines() if line.startswith("error: ")]


def test_two_processes_train_as_one_on_the_same_batch(train, tmp_path):
    """Attention and synchronised norms, in float64, through DDP, loader and optimizer."""
    keys = (
        *("MODEL.META_ARCHITECTURE", "FeatureLoss"),
        *("MODEL.RESNETS.NORM", "SyncBN", "MODEL.FPN.NORM", "SyncBN"),
        *("DATASETS.TEST", "()", "MODEL.DNL.MONITOR_TIMES", "0", "SOLVER.BASE_LR", "0.001"),
        *("MODEL.DNL.INIT_STD", "0.1", "MODEL.DNL.INIT_GAMMA", "0.5"),
        *("INPUT.MIN_SIZE_TRAIN", "(64,)", "SOLVER.MAX_ITER", "3", "SOLVER.WARMUP_ITERS", "0"),
        *("SOLVER.CHECKPOINT_PERIOD", "1"),
    )
    script = "tests/engine/feature_loss.py"
    for name, words, size in (("one", (), 1), ("two", SPAWNED, 2)):
        (tmp_path / name).mkdir()
        printed = train(tmp_path / name, *words, keys=keys, script=script).finish()
        assert f"World size: {size}" in printed
    one, two = final(tmp_path / "one")["model"], final(tmp_path / "two")["model"]
    early = torch.load(tmp_path / "one/model_0000000.pth", weights_only=True)["model"]
    moved = 0
    for name, value in one.items():
        if value.is_floating_point() and "running" not in name:
            assert value.dtype == torch.float64
            torch.testing.assert_close(two[name], value, rtol=1e-7, atol=1e-9, msg=name)
            moved += not torch.allclose(early[name], value, rtol=1e-5, atol=1e-7)
    assert moved > 50


@pytest.mark.parametrize("started_by", ["--num-gpus", "torchrun"])
def test_a_killed_process_ends_the_other_with_the_reason(train, tmp_path, free_port, started_by):
    keys = ("SOLVER.MAX_ITER", "100000")
    if started_by == "torchrun":
        torchrun = ("-m", "torch.distributed.run", "--nproc-per-node", 2, "--master-port")
        process = train(tmp_path, keys=keys, launcher=(*torchrun, free_port))
    else:
        process = train(tmp_path, *SPAWNED, keys=keys)
    process.wait_until((tmp_path / "model_0000003.pth").exists)
    both = ranks(process)
    assert len(both) == 2
    os.kill(both[1], signal.SIGKILL)
    start = time.monotonic()
    printed = process.finish(1)
    assert time.monotonic() - start < 60
    if started_by == "torchrun":
        assert re.search(r"Root Cause[\s\S]*rank +: 1[\s\S]*SIGKILL", printed)
    else:
        assert errors(printed)[-1].startswith("error: process 1 was ended by SIGKILL (is there no")
    assert not [pid for pid in both if Path(f"/proc/{pid}").exists()]
    newest = (tmp_path / "last_checkpoint").read_text()
    assert torch.load(tmp_path / newest, weights_only=True)["iteration"] >= 3


@pytest.fixture(scope="module")
def whole(train, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    train(folder, *SPAWNED).finish()
    return folder


@pytest.mark.parametrize(
    ("number", "who"),
    [
        (signal.SIGTERM, "the one that started them"),
        pytest.param(signal.SIGTERM, "a rank", marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, "all", marks=pytest.mark.slow),
        pytest.param(signal.SIGKILL, "all", marks=pytest.mark.slow),
    ],
)
def test_two_stopped_processes_go_on_exactly(train, whole, tmp_path, number, who):
    process = train(tmp_path, *SPAWNED)
    process.wait_until((tmp_path / "model_0000003.pth").exists)
    pids = {"a rank": ranks(process)[1:], "all": [process.pid, *ranks(process)]}.get(who)
    for pid in pids or [process.pid]:
        os.kill(pid, number)
    if number == signal.SIGKILL:
        process.finish(-number)
    else:
        printed = process.finish(128 + number)
        assert printed.count("Go on with: python") == 1
        assert not errors(printed)
    assert not (tmp_path / "model_final.pth").exists()

    printed = train(tmp_path, *SPAWNED, "--resume").finish()
    assert int(re.search(r"Starting training from iteration (\d+)", printed)[1]) >= 4
    assert_same_end(whole, tmp_path)


def test_nan_in_one_process_stops_both_before_the_step(train, tmp_path, monkeypatch):
    monkeypatch.setenv("NAN_IMAGE", "5")
    printed = train(tmp_path, *SPAWNED).finish(1)
    (error,) = errors(printed)
    stopped = re.match(
        r"error: training stopped before the step of iteration (\d+): .*"
        r"Images of the batch: (.*)\. (The last good|There is no good) checkpoint",
        error,
    )
    assert "train/000005.bmp" in stopped[2]
    assert stopped[2].count(".bmp)") == 2, "of both processes"
    skipped = train(tmp_path, *SPAWNED, "--resume", "SOLVER.MAX_BAD_STEPS", "9").finish()
    assert f"Step skipped, 1 of SOLVER.MAX_BAD_STEPS 9; iteration {stopped[1]}: " in skipped
    model = final(tmp_path)["model"]
    assert all(value.isfinite().all() for value in model.values())
