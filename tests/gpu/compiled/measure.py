"""Launches compiled and read: what each kernel needs of the GPU it was compiled for."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache

import triton

from tests.gpu import providers
from tests.gpu.compiled import sass
from tests.gpu.compiled.occupancy import SHARED_RESERVED, WARP, occupancy
from tests.gpu.compiled.recorder import Recorder
from tests.gpu.offline import compiled_launches

CAPABILITIES = (80, 90, 100, 120)

CompiledTriton = dict[str, list[triton.compiler.CompiledKernel]]


@dataclass(frozen=True)
class Measurement:
    """One kernel of one launch, compiled for one compute capability.

    Attributes:
        launch: Name of the launch.
        capability: Compute capability, 80 for 8.0.
        threads: Threads of a block.
        dynamic_shared: Bytes of shared memory that the launch asks for, for a block.
        kernel: What was read from the cubin.
    """

    launch: str
    capability: int
    threads: int
    dynamic_shared: int
    kernel: sass.Kernel

    @property
    def shared(self) -> int:
        """Bytes of shared memory of a block, without what the system reserves."""
        static = self.kernel.shared
        if self.capability >= 90:
            # From here on a cubin may count what the system reserves of every block.
            static = max(0, static - SHARED_RESERVED)
        return self.dynamic_shared + static

    @property
    def occupancy(self) -> float:
        """Share of the warps that a multiprocessor can hold."""
        return occupancy(self.capability, self.threads, self.kernel.registers, self.shared)


def compile_triton(launches: Mapping[str, Callable[[], None]], capability: int) -> CompiledTriton:
    """Compile Triton launches by the project's own launch code: the kernels of each, by name."""
    compiled = {}
    with _fresh_cache():
        for name, launch in launches.items():
            with compiled_launches(capability) as kernels:
                launch()
            compiled[name] = kernels
            for kernel in kernels:
                _reading(kernel.asm["cubin"])
    return compiled


def measure_triton(compiled: CompiledTriton, capability: int) -> list[Measurement]:
    """Read compiled Triton launches."""
    return [
        Measurement(
            name,
            capability,
            kernel.metadata.num_warps * WARP,
            kernel.metadata.shared,
            _reading(kernel.asm["cubin"]).result()[kernel.metadata.name],
        )
        for name, kernels in compiled.items()
        for kernel in kernels
    ]


def measure_cuda(
    launches: Mapping[str, Callable[[], None]], capability: int, cubins: tuple[bytes, ...]
) -> list[Measurement]:
    """Read the kernels of CUDA launches in compiled sources."""
    kernels: dict[str, sass.Kernel] = {}
    for reading in [_reading(cubin) for cubin in cubins]:
        kernels |= reading.result()
    measurements = []
    for name, launch in launches.items():
        recorder = Recorder()
        with providers.use(recorder):
            launch()
        measurements += [
            Measurement(name, capability, x.threads, x.shared, kernels[x.kernel])
            for x in recorder.launches
        ]
    return measurements


# Kernels are read in the background, each once, while the next ones compile.
_READERS = ThreadPoolExecutor(os.cpu_count())


@cache
def _reading(cubin: bytes) -> Future[dict[str, sass.Kernel]]:
    return _READERS.submit(sass.read, cubin)


@contextmanager
def _fresh_cache() -> Iterator[None]:
    """Within it Triton compiles anew: a cache would hide that a kernel no longer compiles."""
    with tempfile.TemporaryDirectory() as folder, triton.knobs.cache.scope():
        triton.knobs.cache.dir = folder
        yield
