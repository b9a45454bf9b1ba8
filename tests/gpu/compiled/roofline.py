"""The roofline: the least time that a GPU's data sheet allows for given work, never a timing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Work:
    """What a launch must do at least, however it is written.

    Attributes:
        bytes: Inputs read once and outputs written once.
        operations: Number by unit; a fused multiply-add is two.
    """

    bytes: int
    operations: Mapping[str, float]


@dataclass(frozen=True)
class Gpu:
    """Peak rates of one GPU, a second.

    Attributes:
        bandwidth: Bytes of global memory.
        peak: Operations by unit, dense.
    """

    bandwidth: float
    peak: Mapping[str, float]


# NVIDIA A100 Tensor Core GPU data sheet (80GB SXM); int32 from the Ampere architecture whitepaper.
A100 = Gpu(
    bandwidth=2039e9,
    peak={
        "int32": 19.5e12,
        "float32": 19.5e12,
        "float64": 9.7e12,
        "float64 tensor": 19.5e12,
        "half tensor": 312e12,
    },
)
# NVIDIA H100 Tensor Core GPU Architecture (whitepaper), tables for the SXM5 board.
H100 = Gpu(
    bandwidth=3350e9,
    peak={
        "int32": 33.5e12,
        "float32": 66.9e12,
        "float64": 33.5e12,
        "float64 tensor": 66.9e12,
        "half tensor": 989.4e12,
    },
)
GPUS = {"A100": A100, "H100": H100}


def floor_seconds(work: Work, gpu: Gpu) -> tuple[float, str]:
    """Lower bound of the time in seconds, and the resource that sets it."""
    times = {"memory": work.bytes / gpu.bandwidth}
    times |= {unit: n / gpu.peak[unit] for unit, n in work.operations.items()}
    limit = max(times, key=times.__getitem__)
    return times[limit], limit
