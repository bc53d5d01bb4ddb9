#!/usr/bin/env python3
"""Run on this machine's GPU: the tests that need one, the attention's benchmark, training steps.

Ends with one table, in Markdown, to paste into an issue. The logs stay in output/gpu_check.
"""

import argparse
import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from tabulate import tabulate

from dnl_det.analysis import machine
from dnl_det.data import ShapesOptions, write_shapes

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ROOT / "configs/COCO-InstanceSegmentation"
MODELS = {
    "no attention": "mask_rcnn_R_50_FPN_1x",
    "DNL c4 + c5": "mask_rcnn_R_50_FPN_dnl_c4_c5all_1x",
}
BACKENDS = ("plain", "chunked", "sdpa", "auto")
STEPS = 20
FAILED = "FAILED"
# Untrained, so with batch norm; images of 800 x 800 pixels, two a step.
UNTRAINED = (
    *("MODEL.WEIGHTS", "", "MODEL.RESNETS.NORM", "BN", "DATASETS.TRAIN", "('shapes_train',)"),
    *("DATASETS.TEST", "()", "INPUT.MIN_SIZE_TRAIN", "(800,)", "SOLVER.IMS_PER_BATCH", "2"),
    *("MODEL.ROI_HEADS.NUM_CLASSES", "10", "SOLVER.BASE_LR", "0.0025", "SEED", "0"),
)
Row = tuple[str, str]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("output/gpu_check"), metavar="DIR")
    parser.add_argument("--jobs", type=int, default=4, help="processes that run the tests")
    args = parser.parse_args()
    output = args.output
    if not torch.cuda.is_available():
        sys.exit(
            f"error: torch {torch.__version__} finds no CUDA device. Check nvidia-smi; for another "
            'build of torch see make help (TORCH="...").'
        )
    output.mkdir(parents=True, exist_ok=True)
    os.environ["DETECTRON2_DATASETS"] = str(output.absolute())
    if not (output / "shapes").exists():
        write_shapes(output / "shapes", ShapesOptions(num_train=64, num_val=8))

    rows = list(about())
    print("[1/3] the tests that need a GPU", flush=True)
    rows.append(("tests marked gpu", run_tests(output, args.jobs)))
    print("[2/3] the benchmark of the attention", flush=True)
    rows += benchmark(output)
    print(f"[3/3] {STEPS} training steps of each model, with and without AMP", flush=True)
    for name, config in MODELS.items():
        for amp in (False, True):
            title = f"{STEPS} steps, {name}, {'AMP' if amp else 'float32'}"
            found = training_steps(CONFIGS / f"{config}.yaml", amp, output / f"{config}_{amp}")
            rows.append((title, found))
    print("\n" + tabulate(rows, ["what", "found"], tablefmt="github"))
    return int(any(found.startswith(FAILED) for _, found in rows))


def about() -> Iterator[Row]:
    """The machine and the versions."""
    found = torch.cuda.get_device_properties(0)
    yield "GPU", f"{found.name}, {found.total_memory / 2**30:.0f} GiB, CUDA {torch.version.cuda}"
    known = machine()
    yield "software", f"torch {known['torch']}, Python {known['python']}, {known['system']}"


def run_tests(output: Path, jobs: int = 1) -> str:
    """pytest's last line."""
    with (output / "tests.txt").open("w") as log:
        command = [sys.executable, "-m", "pytest", "-m", "gpu", "-q", "-rfE", str(ROOT / "tests")]
        command += ["-n", str(jobs), "--dist", "worksteal"] if jobs > 1 else []
        one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}  # a process, as in make test
        status = subprocess.call(command, cwd=ROOT, env=one_thread, stdout=log, stderr=log)
    line = (output / "tests.txt").read_text().strip().splitlines()[-1].strip("= ")
    return f"{FAILED}: {line}" if status else line


def benchmark(output: Path) -> Iterator[Row]:
    """Times and memory of the attention by backend, and of the whole models, at 800 x 1344."""
    command = [sys.executable, "-m", "dnl_det", "benchmark", "--device", "cuda", "--repeats", "15"]
    command += ["--stages", "res3", "res4", "res5", "--sizes", "800x1344", "--backends", *BACKENDS]
    command += ["--models", *(str(CONFIGS / f"{config}.yaml") for config in MODELS.values())]
    if subprocess.call([*command, "--output", str(output)], cwd=ROOT):
        yield "benchmark", FAILED  # its error is on the terminal
        return
    measured = json.loads((output / "benchmark.json").read_text())["rows"]
    cases: dict[str, list[dict[str, Any]]] = {}
    for row in measured:
        cases.setdefault(f"{row['what']}, {row['mode']}", []).append(row)
    for case, of_backend in cases.items():
        yield (
            f"{case}, ms (MiB)",
            ", ".join(
                f"{row['backend']} {1e3 * row['seconds']:.2f}"
                + ("" if row["bytes"] is None else f" ({row['bytes'] / 2**20:.0f})")
                for row in of_backend
            ).strip(),
        )


def training_steps(
    config_file: Path, amp: bool, output: Path, overrides: Sequence[str] = UNTRAINED
) -> str:
    """Train ``STEPS`` iterations by train_net.py; ``FAILED`` where that fails.

    Returns:
        Median seconds of a step, the share spent waiting for data, the loss, and peak memory.
    """
    command = [sys.executable, str(ROOT / "train_net.py"), "--config-file", str(config_file)]
    command += ["OUTPUT_DIR", str(output), "SOLVER.MAX_ITER", str(STEPS), "SOLVER.STEPS", "()"]
    command += ["SOLVER.AMP.ENABLED", str(amp), *overrides]
    if subprocess.call(command, cwd=ROOT, stdout=subprocess.DEVNULL):
        return FAILED
    last = json.loads((output / "metrics.json").read_text().splitlines()[-1])
    if not math.isfinite(last["total_loss"]):
        return f"{FAILED}: loss {last['total_loss']}"
    memory = re.findall(r"max_mem: (\d+)M", (output / "log.txt").read_text())
    peak = f", {int(memory[-1]) / 1024:.1f} GiB" if memory else ""
    step, waiting = last["time"], last["data_time"] / last["time"]
    loss = f"loss {last['total_loss']:.2f}"
    return f"{step:.3f} s a step ({waiting:.0%} waiting for data), {loss}{peak}"


if __name__ == "__main__":
    sys.exit(main())
