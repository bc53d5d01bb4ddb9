"""Small trainings in processes of their own, for the tests beside this file."""

import contextlib
import json
import time
from pathlib import Path

import torch


def finish(process, status=0):
    process.wait(timeout=100)
    output = process.printed.read_text()
    assert process.returncode == status, output
    return output


def losses(folder):
    lines = (folder / "losses").read_text().splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


def wait_for_iteration(process, folder, iteration):
    deadline = time.monotonic() + 100
    while not (folder / "losses").exists() or len(losses(folder)) <= iteration:
        assert process.poll() is None, process.printed.read_text()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def children_of(process):
    """Ids of the processes that a process has started, the first one first."""
    found = []
    for status in Path("/proc").glob("[0-9]*/status"):
        with contextlib.suppress(OSError):  # ended meanwhile
            if f"\nPPid:\t{process.pid}\n" in status.read_text():
                found.append(int(status.parent.name))
    return sorted(found)


def assert_equal(first, second):
    if isinstance(first, torch.Tensor):
        assert torch.equal(first, second)
    elif isinstance(first, dict):
        assert first.keys() == second.keys()
        for key in first:
            assert_equal(first[key], second[key])
    else:
        assert first == second
