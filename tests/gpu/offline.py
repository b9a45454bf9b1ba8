"""Compile Triton launches for a GPU that is not there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import triton
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction


class _AbsentGpu:
    """The part of Triton's driver that a compilation asks: which GPU it is for."""

    def __init__(self, capability: int) -> None:
        self._target = GPUTarget("cuda", capability, 32)

    def get_current_target(self) -> GPUTarget:
        return self._target

    def get_current_device(self) -> int:
        return self._target.arch

    def get_current_stream(self, device: int) -> int:
        return 0


@contextmanager
def compiled_launches(capability: int) -> Iterator[list[triton.compiler.CompiledKernel]]:
    """Within it every launch compiles its kernel for `capability` (80, 90, ...) and stops there.

    The project's own launch code runs, on CPU tensors: the kernels are compiled with the
    specialisations, tiles and options that a GPU would get. Yields the list they are added to.
    """
    kernels = []
    run = JITFunction.run

    def compile_only(self, *args, grid, warmup, **kwargs):
        if min(grid) < 1:
            raise ValueError(f"{self.__name__}: grid must be >= 1 along each axis, got {grid}")
        kernels.append(run(self, *args, grid=grid, warmup=True, **kwargs))

    JITFunction.run = compile_only
    # Not by reset_active(): that looks for a real driver, which is an error where there is none.
    active = driver._active
    driver.set_active(_AbsentGpu(capability))
    try:
        yield kernels
    finally:
        driver._active = active
        JITFunction.run = run
