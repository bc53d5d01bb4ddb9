"""Checkpoints are whole whatever stops their writing: real kills, real full disks."""

import logging
import os
import random
import subprocess
import sys
import time
from contextlib import suppress

import pytest
import torch
from torch import nn

from dnl_det.checkpoint import (
    Checkpointer,
    DamagedCheckpointError,
    UnsafeCheckpointError,
    read_checkpoint,
)
from dnl_det.files import write_whole

SAVE_WITHOUT_END = """
import sys
from torch import nn, full
from dnl_det.checkpoint import Checkpointer
model = nn.Linear(1000, 1000)
checkpointer = Checkpointer(model, sys.argv[1])
for i in range(int(sys.argv[2]), 10**6):
    model.weight.data.fill_(i)
    checkpointer.save(f"model_{i % 3:07d}", iteration=i)
    print(i, flush=True)
"""


def _model():
    return nn.Linear(4, 4)


def _save(folder, *names):
    model = _model()
    for index, name in enumerate(names):
        nn.init.constant_(model.weight, index)
        Checkpointer(model, str(folder)).save(name, iteration=index)


def _resume(folder):
    model = _model()
    return Checkpointer(model, str(folder)).resume_or_load(""), model.weight[0, 0].item()


def _run(code, *args):
    return [sys.executable, "-W", "ignore", "-c", code, *map(str, args)]


def test_killed_at_any_moment_the_last_checkpoint_is_whole(tmp_path, root):
    """kill -9 at random moments of a process that does nothing but save."""
    generator = random.Random(0)
    saved = -1
    for _ in range(4):
        command = _run(SAVE_WITHOUT_END, tmp_path, saved + 1)
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as process:
            saved = int(process.stdout.readline())  # set up, and one is there
            time.sleep(generator.uniform(0, 0.15))
            process.kill()
            reported = [int(line) for line in process.stdout if line.endswith("\n")]
        saved = max([saved, *reported])
        model = nn.Linear(1000, 1000)
        rest = Checkpointer(model, str(tmp_path)).resume_or_load("")
        # What was reported is there, or the one that it was at.
        assert rest["iteration"] in (saved, saved + 1)
        assert torch.equal(model.weight, torch.full((1000, 1000), float(rest["iteration"])))
        saved = rest["iteration"]
        for file in tmp_path.glob("model_*.pth"):
            read_checkpoint(file)
        assert not list(tmp_path.glob(".*"))  # nor is a half one left


def test_what_a_killed_process_left_is_removed(tmp_path):
    _save(tmp_path, "model_0000009")
    (tmp_path / ".model_0000019.pth.123.partial").write_bytes(b"half")
    assert _resume(tmp_path)[0]["iteration"] == 0
    assert {f.name for f in tmp_path.iterdir()} == {"model_0000009.pth", "last_checkpoint"}


def test_a_damaged_newest_one_is_reported_and_the_one_before_taken(tmp_path, caplog):
    _save(tmp_path, "model_0000009", "model_0000019", "model_0000029")
    newest = tmp_path / "model_0000029.pth"
    newest.write_bytes(newest.read_bytes()[:700])
    with caplog.at_level(logging.ERROR):
        rest, weight = _resume(tmp_path)
    assert (rest["iteration"], weight) == (1, 1.0)
    assert "model_0000029.pth is truncated" in caplog.text


@pytest.mark.parametrize("damage", ["gone", "empty", "flipped"])
def test_whatever_the_damage_is(tmp_path, damage, caplog):
    _save(tmp_path, "model_0000009", "model_0000019")
    newest = tmp_path / "model_0000019.pth"
    content = bytearray(newest.read_bytes())
    if damage == "gone":
        newest.unlink()
    elif damage == "empty":
        newest.write_bytes(b"")
    else:
        tensor = content.index(torch.full((4,), 1.0).numpy().tobytes())
        content[tensor] ^= 255  # one byte of a weight: the file's checksum tells
        newest.write_bytes(content)
    with caplog.at_level(logging.ERROR):
        rest, weight = _resume(tmp_path)
    assert (rest["iteration"], weight) == (0, 0.0)
    assert "model_0000019.pth" in caplog.text


def test_none_whole_is_an_error_that_names_them(tmp_path):
    _save(tmp_path, "model_0000009", "model_final")
    for file in tmp_path.glob("*.pth"):
        file.write_bytes(b"PK\3\4")
    with pytest.raises(DamagedCheckpointError, match=r"none of model_final.pth, model_0000009.pth"):
        _resume(tmp_path)


def test_the_tag_decides_unless_a_newer_one_was_not_tagged_any_more(tmp_path):
    _save(tmp_path, "model_0000009", "model_0000019")
    (tmp_path / "last_checkpoint").write_text("model_0000009.pth")
    assert _resume(tmp_path)[0]["iteration"] == 0
    later = time.time() + 5
    os.utime(tmp_path / "model_0000019.pth", (later, later))
    assert _resume(tmp_path)[0]["iteration"] == 1
    (tmp_path / "last_checkpoint").unlink()
    assert _resume(tmp_path)[0]["iteration"] == 1


@pytest.mark.parametrize("tagged", ["model_0001499", "model_final"])
@pytest.mark.parametrize("copied_last", ["model_0000499", "model_0000999", "model_final", None])
def test_a_folder_copied_without_its_times_goes_on_from_the_same(tmp_path, tagged, copied_last):
    # A training of 1,000 iterations, continued to 1,500 and there tagged or ended.
    iterations = {
        "model_0000249": 249,
        "model_0000499": 499,
        "model_0000999": 999,
        "model_final": 999,
    }
    iterations[tagged] = 1499
    for name, iteration in iterations.items():
        Checkpointer(_model(), str(tmp_path)).save(name, iteration=iteration)
    now = time.time()
    for file in tmp_path.iterdir():
        seconds = 20 if file.stem in (copied_last, "model_0000249") else 0
        os.utime(file, (now + seconds, now + seconds))
    assert _resume(tmp_path)[0]["iteration"] == 1499
    (tmp_path / f"{tagged}.pth").write_bytes(b"PK\3\4")
    assert _resume(tmp_path)[0]["iteration"] == 999


def test_one_that_would_run_code_is_not_passed_over(tmp_path):
    _save(tmp_path, "model_0000009")
    torch.save({"model": {"weight": random.Random()}}, tmp_path / "model_0000019.pth")
    (tmp_path / "last_checkpoint").write_text("model_0000019.pth")
    with pytest.raises(UnsafeCheckpointError, match=r"model_0000019.pth is refused"):
        _resume(tmp_path)


SAVE_TWICE = """
import sys
from torch import nn
from dnl_det.checkpoint import Checkpointer
checkpointer = Checkpointer(nn.Linear(300, 300), sys.argv[1])
checkpointer.save("model_0000009", iteration=9)
if sys.argv[2] == "limit":
    import resource
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
try:
    checkpointer.save("model_0000019", iteration=19)
except OSError as error:
    print(error)
"""


def _assert_older_is_intact(folder, printed):
    assert "model_0000019.pth could not be written" in printed
    assert "Free space or make the folder writable" in printed
    assert {f.name for f in folder.iterdir()} == {"model_0000009.pth", "last_checkpoint"}
    assert read_checkpoint(folder / "model_0000009.pth")["iteration"] == 9


def test_a_file_that_may_not_grow_leaves_the_older_one(tmp_path, root):
    command = _run(SAVE_TWICE, tmp_path, "limit")
    run = subprocess.run(command, capture_output=True, text=True, check=True, cwd=root)
    _assert_older_is_intact(tmp_path, run.stdout)


def test_a_full_disk_leaves_the_older_one(tmp_path, root):
    mount = ["mount", "-t", "tmpfs", "-o", "size=500k", "tmpfs", str(tmp_path)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs the right to mount a small file system")
    try:
        command = _run(SAVE_TWICE, tmp_path, "full")
        run = subprocess.run(command, capture_output=True, text=True, check=True, cwd=root)
        _assert_older_is_intact(tmp_path, run.stdout)
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_an_error_while_writing_keeps_what_was_there(tmp_path):
    file = tmp_path / "some.txt"
    file.write_text("old")
    with suppress(KeyError), write_whole(file) as stream:
        stream.write(b"ne")
        raise KeyError
    assert [f.read_text() for f in tmp_path.iterdir()] == ["old"]
