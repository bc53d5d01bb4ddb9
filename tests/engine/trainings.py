"""Small trainings in processes of their own, for the tests beside this file."""

import contextlib
import json
from pathlib import Path

import torch


def losses(folder):
    lines = (folder / "losses").read_text().splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


def wait_for_iteration(process, folder, iteration):
    process.wait_until(lambda: (folder / "losses").exists() and len(losses(folder)) > iteration)


def final(folder):
    return torch.load(folder / "model_final.pth", weights_only=True)


def children_of(process):
    """Ids of the processes that a process has started, the first one first."""
    found = []
    for status in Path("/proc").glob("[0-9]*/status"):
        with contextlib.suppress(OSError):  # ended meanwhile
            if f"\nPPid:\t{process.pid}\n" in status.read_text():
                found.append(int(status.parent.name))
    return sorted(found)


def assert_same_end(first, second):
    """Two folders' trainings ended with the same model and the same state of the trainer."""
    first, second = final(first), final(second)
    assert_equal(first["model"], second["model"])
    assert_equal(first["trainer"], second["trainer"])


def assert_equal(first, second):
    if isinstance(first, torch.Tensor):
        assert torch.equal(first, second)
    elif isinstance(first, dict):
        assert first.keys() == second.keys()
        for key in first:
            assert_equal(first[key], second[key])
    else:
        assert first == second
