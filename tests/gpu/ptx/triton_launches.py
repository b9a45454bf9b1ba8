"""Triton launches on CPU tensors: compiled for a GPU that is not there, then run by the machine."""

from __future__ import annotations

import inspect
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import triton
from triton.runtime.jit import JITFunction

from tests.gpu.offline import compiled_launches
from tests.gpu.ptx import machine
from tests.gpu.ptx.errors import LaunchError
from tests.gpu.ptx.kernel import load

_CAPABILITY = 80


@contextmanager
def executed_launches() -> Iterator[None]:
    """Within it every launch compiles its kernel for sm_80 and runs the PTX on its CPU tensors.

    The project's own launch code runs. Kernels may touch the elements of the tensors of the
    launch and nothing else.
    """
    with compiled_launches(_CAPABILITY) as kernels:
        compile_only = JITFunction.run

        def compile_and_run(self, *args, grid, warmup, **kwargs):
            compile_only(self, *args, grid=grid, warmup=warmup, **kwargs)
            execute(kernels[-1], _arguments(self, args, kwargs), grid)

        JITFunction.run = compile_and_run
        try:
            yield
        finally:
            JITFunction.run = compile_only


def _arguments(function: JITFunction, args: tuple, kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a launch by name, without its options."""
    signature = inspect.signature(function.fn)
    own = {name: value for name, value in kwargs.items() if name in signature.parameters}
    bound = signature.bind(*args, **own)
    bound.apply_defaults()
    return bound.arguments


def execute(
    kernel: triton.compiler.CompiledKernel, arguments: dict[str, Any], grid: tuple[int, ...]
) -> None:
    """Run a compiled kernel.

    Args:
        kernel: What Triton compiled.
        arguments: The arguments of the launch by name.
        grid: Programs along x, y, z.

    Raises:
        LaunchError: If the arguments are not those the kernel was specialised for.
        KernelError: If the kernel does what it must not do.
    """
    metadata = kernel.metadata
    if metadata.global_scratch_size or metadata.num_ctas != 1:
        raise LaunchError(f"{metadata.name}: scratch memory and clusters are not known here")
    _check_specialisation(kernel, arguments)
    names = [name for name, type_name in kernel.src.signature.items() if type_name != "constexpr"]
    bits = [_bits(kernel.src.signature[name], arguments[name]) for name in names]
    # Two pointers to scratch memory that this kernel does not use.
    bits += [0, 0]
    tensors = [arguments[name] for name in names if isinstance(arguments[name], torch.Tensor)]
    machine.launch(
        load(kernel.asm["ptx"], metadata.name),
        grid,
        (32 * metadata.num_warps,),
        bits,
        tensors,
        dynamic_shared=metadata.shared,
    )


def _check_specialisation(
    kernel: triton.compiler.CompiledKernel, arguments: dict[str, Any]
) -> None:
    """Compare the arguments with what the compiler took for granted."""
    names = list(kernel.src.signature)
    for (place, *_), assumptions in kernel.src.attrs.items():
        name = names[place]
        value = arguments[name]
        number = value.data_ptr() if isinstance(value, torch.Tensor) else value
        for kind, divisor in assumptions:
            if kind != "tt.divisibility":
                raise LaunchError(f"{kernel.metadata.name}: assumption {kind} is not known here")
            if number % divisor:
                raise LaunchError(
                    f"{kernel.metadata.name} takes {name} for a multiple of {divisor}: {number:#x}"
                )
    for (place, *_), constant in kernel.src.constants.items():
        name = names[place]
        if isinstance(arguments[name], int) and arguments[name] != constant:
            raise LaunchError(
                f"{kernel.metadata.name} was compiled for {name} = {constant}, "
                f"got {arguments[name]}"
            )


def _bits(type_name: str, value: Any) -> int:
    """The bits in which a launch passes an argument."""
    if type_name.startswith("*"):
        return value.data_ptr()
    if type_name in ("fp32", "fp64"):
        code = {"fp32": "<f", "fp64": "<d"}[type_name]
        return int.from_bytes(struct.pack(code, value), "little")
    if type_name[0] in "iu" and type_name[1:].isdigit():
        return int(value) % 2 ** max(8, int(type_name[1:]))
    raise LaunchError(f"arguments of type {type_name} are not known here")
