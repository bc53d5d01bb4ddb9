"""Trainings of two processes: their gradients, and what happens when one of them dies."""

import os
import re
import signal
import time
from pathlib import Path

import pytest
import torch
from trainings import assert_equal, children_of, finish

SPAWNED = ("--num-gpus", "2", "--dist-url", "auto")


@pytest.fixture
def torchrun(free_port):
    """Words before a script that start it in two processes."""
    return ("-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", str(free_port))


def wait_for(process, file):
    deadline = time.monotonic() + 100
    while not file.exists():
        assert process.poll() is None, process.printed.read_text()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def ranks(process):
    """Ids of the processes with a rank, the first one first."""
    # Before them, of --num-gpus, is what multiprocessing tracks resources with.
    return children_of(process)[-2:]


def final(folder):
    return torch.load(folder / "model_final.pth", weights_only=True)


def errors(printed):
    return [line for line in printed.splitlines() if line.startswith("error: ")]


def test_two_processes_train_as_one_on_the_same_batch(train, tmp_path, torchrun):
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
    for name, launcher in (("one", ()), ("two", torchrun)):
        (tmp_path / name).mkdir()
        printed = finish(train(tmp_path / name, keys=keys, script=script, launcher=launcher))
        assert f"World size: {2 if launcher else 1}" in printed
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
def test_a_killed_process_ends_the_other_with_the_reason(train, tmp_path, torchrun, started_by):
    keys = ("SOLVER.MAX_ITER", "100000")
    if started_by == "torchrun":
        process = train(tmp_path, keys=keys, launcher=torchrun)
    else:
        process = train(tmp_path, *SPAWNED, keys=keys)
    wait_for(process, tmp_path / "model_0000003.pth")
    both = ranks(process)
    assert len(both) == 2
    os.kill(both[1], signal.SIGKILL)
    start = time.monotonic()
    printed = finish(process, 1)
    assert time.monotonic() - start < 60
    if started_by == "torchrun":
        assert re.search(r"Root Cause[\s\S]*rank +: 1[\s\S]*SIGKILL", printed)
    else:
        assert errors(printed)[-1].startswith("error: process 1 was ended by SIGKILL (is there no")
    assert not [pid for pid in both if Path(f"/proc/{pid}").exists()]
    newest = (tmp_path / "last_checkpoint").read_text()
    assert torch.load(tmp_path / newest, weights_only=True)["iteration"] >= 3


@pytest.mark.parametrize(
    ("number", "who"),
    [
        (signal.SIGTERM, "the one that started them"),
        pytest.param(signal.SIGTERM, "a rank", marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, "all", marks=pytest.mark.slow),
        pytest.param(signal.SIGKILL, "all", marks=pytest.mark.slow),
    ],
)
def test_two_stopped_processes_go_on_exactly(train, tmp_path, number, who):
    for name in ("whole", "stopped"):
        (tmp_path / name).mkdir()
    finish(train(tmp_path / "whole", *SPAWNED))
    process = train(tmp_path / "stopped", *SPAWNED)
    wait_for(process, tmp_path / "stopped/model_0000003.pth")
    pids = {"a rank": ranks(process)[1:], "all": [process.pid, *ranks(process)]}.get(who)
    for pid in pids or [process.pid]:
        os.kill(pid, number)
    if number == signal.SIGKILL:
        finish(process, -number)
    else:
        printed = finish(process, 128 + number)
        assert printed.count("Go on with: python") == 1
        assert not errors(printed)
    assert not (tmp_path / "stopped/model_final.pth").exists()

    printed = finish(train(tmp_path / "stopped", *SPAWNED, "--resume"))
    assert int(re.search(r"Starting training from iteration (\d+)", printed)[1]) >= 4
    whole, stopped = final(tmp_path / "whole"), final(tmp_path / "stopped")
    assert_equal(whole["model"], stopped["model"])
    assert_equal(whole["trainer"], stopped["trainer"])


def test_nan_in_one_process_stops_both_before_the_step(train, tmp_path, torchrun, monkeypatch):
    monkeypatch.setenv("NAN_IMAGE", "5")
    printed = finish(train(tmp_path, launcher=torchrun), 1)
    (error,) = errors(printed)
    stopped = re.match(
        r"error: training stopped before the step of iteration (\d+): .*"
        r"Images of the batch: (.*)\. (The last good|There is no good) checkpoint",
        error,
    )
    assert "train/000005.bmp" in stopped[2]
    assert stopped[2].count(".bmp)") == 2, "of both processes"
    skipped = finish(
        train(tmp_path, "--resume", keys=("SOLVER.MAX_BAD_STEPS", "9"), launcher=torchrun)
    )
    assert f"Step skipped, 1 of SOLVER.MAX_BAD_STEPS 9; iteration {stopped[1]}: " in skipped
    model = final(tmp_path)["model"]
    assert all(value.isfinite().all() for value in model.values())
