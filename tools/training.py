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

ROOT = Path(__file__).resolve().parents[1]
PEAK_MEMORY = "peak_memory.txt"
# A line of detectron2's log: "... eta: 0:05:12  iter: 19  total_loss: 4.448  loss_cls: ..."
PROGRESS = re.compile(r"iter: (\d+)\s+total_loss: ([\d.]+|nan)")


def train(
    config_file: str,
    iterations: int,
    output: Path,
    overrides: Sequence[str] = ("SEED", "0"),
) -> dict[str, float]:
    """Train and evaluate, unless that was done.

    Args:
        config_file: a YAML file.
        iterations: of the training.
        output: ``OUTPUT_DIR``; from a checkpoint in it the training goes on.
        overrides: ``KEY, VALUE, ...``.

    Returns:
        What the last evaluation gave, such as ``bbox/AP``.
    """
    if (results := last_evaluation(output)) is not None:
        print(f"      found {output}/model_final.pth, trained before")
        return results
    command = [sys.executable, "-u", "-W", "ignore", str(ROOT / "train_net.py"), "--resume"]
    command += ["--config-file", config_file, "OUTPUT_DIR", str(output)]
    command += ["SOLVER.MAX_ITER", str(iterations), *overrides]
    _show_progress(command, iterations, output)
    results = last_evaluation(output)
    if results is None:
        sys.exit(f"error: {output}/metrics.json has no evaluation after the training")
    return results


def last_evaluation(output: Path) -> dict[str, Any] | None:
    """The results of a finished training in ``output``, or None."""
    if not (output / "model_final.pth").exists():
        return None
    lines = [json.loads(line) for line in (output / "metrics.json").read_text().splitlines()]
    return next((line for line in reversed(lines) if "bbox/AP" in line), None)


def peak_memory(output: Path) -> int | None:
    """Bytes of resident memory that the training in ``output`` took at most, or None."""
    file = output / PEAK_MEMORY
    return int(file.read_text()) if file.exists() else None


def _show_progress(command: list[str], iterations: int, output: Path) -> None:
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    printed = []
    # The training is to be told of it too.
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        with tqdm(total=iterations, unit="iter", desc="      train") as bar:
            for line in process.stdout:
                printed.append(line)
                if match := PROGRESS.search(line):
                    bar.update(int(match[1]) + 1 - bar.n)
                    bar.set_postfix(loss=match[2])
                elif "Start inference" in line:
                    bar.set_postfix_str("evaluating")
    except BaseException:
        process.terminate()  # the next call goes on from its last checkpoint
        process.wait()
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit("".join(printed[-30:]) + "error: the training ended; its last lines are above")
    # Linux counts in KiB, macOS in bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    (output / PEAK_MEMORY).write_text(str(usage.ru_maxrss * unit))
