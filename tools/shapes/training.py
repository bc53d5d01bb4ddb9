"""Run train_net.py to its end, with a progress bar, going on where an earlier call was cut off."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from dnl_det.files import write_whole

ROOT = Path(__file__).resolve().parents[2]
# A line of detectron2's log: "... eta: 0:05:12  iter: 19  total_loss: 4.448  loss_cls: ..."
PROGRESS = re.compile(r"iter: (\d+)\s+total_loss: ([\d.]+|nan)")


def train(
    config_file: str, iterations: int, output: Path, overrides: Sequence[str] = ("SEED", "0")
) -> dict[str, Any]:
    """Train and evaluate, unless that was done. SIGTERM from now on ends the training too.

    Args:
        config_file: a YAML file.
        iterations: of the training.
        output: ``OUTPUT_DIR``; from a checkpoint in it the training goes on.
        overrides: ``KEY, VALUE, ...``.

    Returns:
        What the last evaluation gave, such as ``bbox/AP``; and ``peak_memory``, the bytes of
        resident memory that the process took at most.
    """
    done = output / "trained.json"
    if done.exists():
        print(f"      found {output}/model_final.pth, trained before")
    else:
        command = [sys.executable, "-u", "-W", "ignore", str(ROOT / "train_net.py"), "--resume"]
        command += ["--config-file", config_file, "OUTPUT_DIR", str(output)]
        command += ["SOLVER.MAX_ITER", str(iterations), *overrides]
        peak_memory = _run(command, iterations)
        lines = map(json.loads, reversed((output / "metrics.json").read_text().splitlines()))
        results = next(line for line in lines if "bbox/AP" in line)
        with write_whole(done) as file:
            file.write(json.dumps({**results, "peak_memory": peak_memory}).encode())
    found: dict[str, Any] = json.loads(done.read_text())
    return found


def _run(command: list[str], iterations: int) -> int:
    """Run a training; return its peak memory."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    printed = []
    try:
        with tqdm(total=iterations, unit="iter", desc="      train") as bar:
            for line in process.stdout:
                printed.append(line)
                if match := PROGRESS.search(line):
                    bar.update(int(match[1]) + 1 - bar.n)
                    bar.set_postfix(loss=match[2])
                elif "Start inference" in line:
                    bar.set_postfix_str("evaluating")
        _, status, usage = os.wait4(process.pid, 0)
    except BaseException:
        process.terminate()  # the next call goes on from its last checkpoint
        process.wait()
        raise
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit("".join(printed[-30:]) + "error: the training ended; its last lines are above")
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)  # macOS counts in bytes
