"""What every benchmark uses: side-by-side timings, and the machine and versions they stand for."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import hessx


def machine() -> str:
    """Describe processor, system and versions in a few lines."""
    return f"{_processor()}, {os.cpu_count()} cores, {platform.system()}\n{hessx.info()}\n"


def compare(
    candidates: Mapping[str, Callable[[], object]], seconds: float = 0.3
) -> dict[str, float]:
    """Time functions side by side and give the median seconds of each.

    One call of each in turn, so that a change of the machine's speed meets all of them alike.

    Args:
        candidates: Functions by name.
        seconds: Time to spend on all of them together; each is called 3 times at least.
    """
    for function in candidates.values():
        function()
    times: dict[str, list[float]] = {name: [] for name in candidates}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or min(map(len, times.values())) < 3:
        for name, function in candidates.items():
            start = time.perf_counter()
            function()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


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
