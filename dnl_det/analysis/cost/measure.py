"""Time, memory and multiply-adds of a call, on a CPU or a GPU."""

import ctypes
import gc
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

Run = Callable[[], Any]
WARM_UP = 1
"""Calls before those that are timed."""


@dataclass(frozen=True)
class Timing:
    """Seconds of a call over its repetitions."""

    median: float
    shortest: float
    longest: float


def time_together(runs: Mapping[str, Run], repeats: int, device: str = "cpu") -> dict[str, Timing]:
    """Time several calls in turns, so that what disturbs the machine disturbs all of them.

    Args:
        runs: a name for each call; each is made once beforehand, to warm up.
        repeats: calls that count.
        device: where they compute; the end of each call on ``cuda`` is waited for.
    """
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(WARM_UP + repeats):
        for name, run in runs.items():
            _wait(device)
            start = time.perf_counter()
            run()
            _wait(device)
            if turn >= WARM_UP:
                seconds[name].append(time.perf_counter() - start)
    return {
        name: Timing(statistics.median(values), min(values), max(values))
        for name, values in seconds.items()
    }


def extra_peak_memory(run: Run, device: str = "cpu") -> int | None:
    """Peak memory of a call in bytes, without what was allocated before and what it returns.

    On a CPU it is the process' resident memory as Linux accounts for it; None where that account
    does not exist or may not be reset. On a GPU it is what torch allocates.
    """
    run()  # what is set up once does not count
    gc.collect()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        result = run()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before - _bytes(result)
    with suppress(OSError, AttributeError):  # glibc alone can be asked to return free memory
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    try:
        Path("/proc/self/clear_refs").write_text("5")  # reset the peak
    except OSError:
        return None
    before = _resident("VmRSS")
    result = run()
    return max(_resident("VmHWM") - before - _bytes(result), 0)


def count_multiply_adds(model: nn.Module, inputs: Tensor | Sequence[Any]) -> int:
    """Multiply-adds of convolutions, linear layers and matrix products, those of attention too.

    A multiply-add is two floating-point operations. The count does not depend on the backend of
    the attention. The model is called once, in the mode it is in.

    Args:
        model: any module, or a part of a detector of detectron2, which itself takes dictionaries.
        inputs: its arguments.
    """
    with FlopCounterMode(display=False) as counter:
        model(*([inputs] if isinstance(inputs, Tensor) else inputs))
    return int(counter.get_total_flops() // 2)


def machine(device: str = "cpu") -> dict[str, Any]:
    """What measurements depend on: processor, threads, versions."""
    return {
        "device": torch.cuda.get_device_name() if device.startswith("cuda") else _processor(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "system": platform.platform(),
    }


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def _resident(field: str) -> int:
    return 1024 * int(_field("/proc/self/status", field).split()[0])  # in kB there


def _bytes(result: Any) -> int:
    return sum(leaf.nbytes for leaf in tree_leaves(result) if isinstance(leaf, Tensor))


def _processor() -> str:
    with suppress(OSError, StopIteration):
        return _field("/proc/cpuinfo", "model name")
    return platform.processor() or platform.machine()


def _field(file: str, name: str) -> str:
    """The value of the first line ``name: value``."""
    lines = (line.partition(":") for line in Path(file).read_text().splitlines())
    return next(value.strip() for key, _, value in lines if key.strip() == name)
