"""What every benchmark uses: side-by-side timings, and the machine and versions they stand for."""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

import hessx


def parser(description: str | None) -> argparse.ArgumentParser:
    """Make a parser of arguments with the option --device."""
    made = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--device", type=_device, default="cpu", help="cpu (the default) or cuda")
    return made


def _device(name: str) -> torch.device:
    device = torch.device(name)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise argparse.ArgumentTypeError("torch finds no GPU")
    return device


def machine(device: torch.device | str = "cpu") -> str:
    """Describe processor or GPU, system and versions in a few lines."""
    lines = [f"{_processor()}, {os.cpu_count()} cores, {platform.system()}", str(hessx.info()), ""]
    if torch.device(device).type == "cuda":
        lines.insert(0, f"{torch.cuda.get_device_name(device)}, CUDA {torch.version.cuda}")
    return "\n".join(lines)


def thread_counts(device: torch.device) -> tuple[int, ...]:
    """Numbers of threads to measure with: on a GPU they make no difference."""
    return (1, 2) if device.type == "cpu" else (torch.get_num_threads(),)


def compare(
    candidates: Mapping[str, Callable[[], object]],
    seconds: float = 0.3,
    device: torch.device | str = "cpu",
) -> dict[str, float]:
    """Time functions side by side and give the median seconds of each.

    One call of each in turn, so that a change of the machine's speed meets all of them alike.

    Args:
        candidates: Functions by name.
        seconds: Time to spend on all of them together; each is called 3 times at least.
        device: Where they run. Calls that only queue work for a GPU are timed by that GPU, from
            the first kernel to the last.
    """
    timed = _timed_by_gpu if torch.device(device).type == "cuda" else _timed
    for function in candidates.values():
        function()
    times: dict[str, list[float]] = {name: [] for name in candidates}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or min(map(len, times.values())) < 3:
        for name, function in candidates.items():
            times[name].append(timed(function))
    return {name: statistics.median(values) for name, values in times.items()}


def _timed(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def _timed_by_gpu(function: Callable[[], object]) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    function()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1e3


def print_row(label: str, times: Mapping[str, float], unit: float, suffix: str = "") -> None:
    """Print the medians in a unit of seconds, and the ratio of each to the first."""
    first = next(iter(times.values()))
    cells = [f"{name} {t / unit:9.3f} ({first / t:4.2f}x)" for name, t in times.items()]
    print(f"{label:<26}", "  ".join(cells), suffix, flush=True)


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
