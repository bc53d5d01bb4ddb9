"""Time and memory of a call, on a CPU or a GPU."""

import ctypes
import gc
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

Run = Callable[[], Any]
# Calls before those that are timed.
WARM_UP = 1
_STATUS = Path("/proc/self/status")


@dataclass(frozen=True)
class Timing:
    """Seconds of a call: the median of some, the shortest and the longest."""

    median: float
    shortest: float
    longest: float


def time_together(runs: Mapping[str, Run], repeats: int, device: str = "cpu") -> dict[str, Timing]:
    """Time several calls in turns, so that what disturbs the machine disturbs all of them.

    Args:
        runs: a name for each call; each is made once beforehand, to warm up.
        repeats: calls that count.
        device: of what they compute; ``cuda`` is waited for.
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
    """Bytes that a call takes at most, beyond what stood before it and what it returns.

    On a CPU: the peak of the process' resident memory, of which Linux keeps account; None where
    there is none, or it may not be reset. On a GPU: what torch allocates.
    """
    run()  # what is set up once is not the call's
    gc.collect()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        result = run()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before - _bytes(result)
    with suppress(OSError, AttributeError):  # without glibc memory is given back as it likes
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    try:
        Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    except OSError:
        return None
    before = _resident("VmRSS")
    result = run()
    return max(_resident("VmHWM") - before - _bytes(result), 0)


def machine(device: str = "cpu") -> dict[str, Any]:
    """What figures depend on: processor, threads, versions."""
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
    for line in _STATUS.read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024  # written in kB
    raise RuntimeError(f"{_STATUS} has no {field}")


def _bytes(result: Any) -> int:
    if isinstance(result, torch.Tensor):
        return result.nbytes
    if isinstance(result, Mapping):
        return sum(map(_bytes, result.values()))
    if isinstance(result, tuple | list):
        return sum(map(_bytes, result))
    return 0


def _processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
