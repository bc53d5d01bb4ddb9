"""A training that was killed goes on with the very numbers of one that was not: real kills."""

import os
import re
import signal

import pytest
import torch
from trainings import assert_same_end, children_of, final, losses, wait_for_iteration


@pytest.fixture(scope="module")
def uninterrupted(train, tmp_path_factory):
    folder = tmp_path_factory.mktemp("uninterrupted")
    train(folder, workers=2).finish()
    assert [iteration for iteration, _ in losses(folder)] == list(range(12))
    return folder


@pytest.mark.parametrize(
    ("number", "workers"), [(signal.SIGKILL, (0, 2)), (signal.SIGTERM, (2, 0))]
)
def test_the_losses_and_the_end_are_the_same(train, uninterrupted, tmp_path, number, workers):
    process = train(tmp_path, "TEST.EVAL_PERIOD", "3", workers=workers[0])
    wait_for_iteration(process, tmp_path, 5)
    os.kill(process.pid, number)
    process.finish(-number if number == signal.SIGKILL else 128 + number)
    assert not (tmp_path / "model_final.pth").exists()
    train(tmp_path, "--resume", workers=workers[1]).finish()

    expected = dict(losses(uninterrupted))
    both = losses(tmp_path)
    assert {iteration for iteration, _ in both} == set(expected)
    for iteration, values in both:
        assert values == expected[iteration], f"iteration {iteration}"
    assert_same_end(uninterrupted, tmp_path)


def test_a_killed_loader_process_ends_the_training_and_loses_nothing(train, tmp_path):
    process = train(tmp_path, keys=("SOLVER.MAX_ITER", "100000"), workers=2)
    wait_for_iteration(process, tmp_path, 5)
    os.kill(children_of(process)[-1], signal.SIGKILL)
    printed = process.finish(1)
    assert "Traceback" not in printed
    error = printed.splitlines()[-1]
    assert re.match(
        r"error: training stopped: DataLoader worker .* is killed by signal: Kil", error
    )
    last = losses(tmp_path)[-1][0]
    assert error.endswith(f"Go on from {tmp_path}/model_{last:07d}.pth by --resume.")
    assert torch.load(tmp_path / f"model_{last:07d}.pth", weights_only=True)["iteration"] == last


def test_an_image_full_of_nan_stops_the_training_and_is_passed_over_if_wanted(
    train, tmp_path, monkeypatch
):
    monkeypatch.setenv("NAN_IMAGE", "5")
    stopped = train(tmp_path, "SOLVER.MAX_BAD_STEPS", "1").finish(1)
    assert "Traceback" not in stopped
    error = stopped.splitlines()[-1]
    assert error.startswith("error: training stopped before the step of iteration 10: ")
    assert "train/000005.bmp" in error
    assert "model_0000007.pth: go on from it by --resume with SOLVER.MAX_BAD_STEPS 2" in error
    resumed = train(tmp_path, "--resume", "SOLVER.MAX_BAD_STEPS", "2").finish()
    assert "Step skipped, 2 of SOLVER.MAX_BAD_STEPS 2; iteration 10: " in resumed
    assert all(value.isfinite().all() for value in final(tmp_path)["model"].values())
    assert [iteration for iteration, _ in losses(tmp_path)] == [0, 1, *range(3, 10), 8, 9, 11]
