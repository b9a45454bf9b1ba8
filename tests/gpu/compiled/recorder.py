"""CUDA launches written down instead of run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True)
class CudaLaunch:
    """What the launch code asks for: a kernel by name, threads and shared bytes of a block."""

    kernel: str
    threads: int
    shared: int


@dataclass
class Recorder:
    """Kernels that only record how they are launched; a provider for `tests.gpu.providers.use`."""

    device: str = "cpu"
    launches: list[CudaLaunch] = field(default_factory=list)

    def __getattr__(self, kernel: str) -> Callable[..., None]:
        if not kernel.startswith("hessx_"):
            raise AttributeError(kernel)

        def record(grid: int, block: int, shared: int, *rest: float) -> None:
            self.launches.append(CudaLaunch(kernel, block, shared))

        return record
