"""Triton's interpreter made trustworthy: exact bfloat16, and every access to memory checked.

`TRITON_INTERPRET=1` runs kernels on CPU tensors with NumPy. As it comes it truncates conversions to
bfloat16, computes with the raw bits of bfloat16 numbers, and lets a kernel read or write anywhere
in the process. Within `trustworthy_interpreter()` none of this holds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
import triton.language as tl
from triton.runtime import interpreter
from triton.runtime.errors import InterpreterError
from triton.runtime.interpreter import GridExecutor, InterpreterBuilder, TensorHandle


class KernelMemoryError(Exception):
    """A kernel used memory that it must not use."""


class OutOfBoundsError(KernelMemoryError):
    """An access outside the elements of every tensor of the launch.

    Attributes:
        addresses: The addresses at fault.
    """

    def __init__(self, message: str, addresses: np.ndarray) -> None:
        super().__init__(message)
        self.addresses = addresses


class DataRaceError(KernelMemoryError):
    """Two accesses to one address whose order a GPU leaves open, one of them a write."""


@contextmanager
def trustworthy_interpreter() -> Iterator[None]:
    """Within it, launches compute exactly and raise `KernelMemoryError` on a stray access."""
    with exact_arithmetic(), checked_memory():
        yield


@contextmanager
def exact_arithmetic() -> Iterator[None]:
    """Within it, bfloat16 behaves as on a device, and integer arguments have their own width.

    Arithmetic on bfloat16 is done in float32 and rounded to nearest even; dot products accumulate
    in the accumulator's type; comparisons compare values.
    """
    with (
        _patched(
            InterpreterBuilder,
            cast_impl=_cast,
            create_fp_to_fp=_convert,
            create_dot=_dot,
            binary_op=_rounded_result,
            unary_op=_rounded_result,
            ternary_op=_rounded_result,
            create_fma=_rounded_result,
            create_rsqrt=_rounded_result,
            create_erf=_rounded_result,
        ),
        _patched(interpreter, _implicit_cvt=_argument),
    ):
        yield


@contextmanager
def checked_memory() -> Iterator[None]:
    """Within it, every launch raises on an access out of bounds or in a race.

    In bounds are the elements of the tensors given to the launch: the gaps of a strided view, and
    what lies beyond its edges in the same storage, are not. Which tensor a pointer was made from is
    not known, so a stray access that lands in another argument passes. Races are sought between
    programs, and between the lanes of one store.
    """
    memory: list[_Memory] = []

    def launch(original: Callable, executor: GridExecutor, *args: Any, **kwargs: Any) -> Any:
        tensors = [x for x in (*args, *kwargs.values()) if isinstance(x, torch.Tensor)]
        memory.append(_Memory(tensors))
        try:
            return original(executor, *args, **kwargs)
        except InterpreterError as error:
            fault = _root(error)
            if isinstance(fault, KernelMemoryError):
                raise fault from None
            raise
        finally:
            memory.pop()

    def checking(kind: str, mask_of: Callable[[tuple], np.ndarray | bool]) -> Callable:
        def access(
            original: Callable, builder: InterpreterBuilder, *args: Any, **kwargs: Any
        ) -> Any:
            pointers = args[1] if kind == "atomic" and args[0] in _RMW_OPS else args[0]
            memory[-1].check(kind, pointers, mask_of(args), _program(builder))
            return original(builder, *args, **kwargs)

        return access

    with (
        _patched(GridExecutor, __call__=launch),
        _patched(
            InterpreterBuilder,
            create_masked_load=checking("load", lambda args: args[1].data),
            create_masked_store=checking("store", lambda args: args[2].data),
            create_atomic_rmw=checking("atomic", lambda args: args[3].data),
            create_atomic_cas=checking("atomic", lambda args: True),
        ),
    ):
        yield


@contextmanager
def _patched(owner: Any, **replacements: Callable) -> Iterator[None]:
    """Replace members of `owner`; each replacement gets the original as its first argument."""

    def bind(original: Callable, replacement: Callable) -> Callable:
        def call(*args: Any, **kwargs: Any) -> Any:
            return replacement(original, *args, **kwargs)

        return call

    with ExitStack() as stack:
        for name, replacement in replacements.items():
            original = getattr(owner, name)
            setattr(owner, name, bind(original, replacement))
            stack.callback(setattr, owner, name, original)
        yield


_BITWISE = {np.bitwise_and, np.bitwise_or, np.bitwise_xor, np.left_shift, np.right_shift, np.where}
_RMW_OPS = tuple(InterpreterBuilder.ir_rmw_op_to_interpreter_rmw_op)


def _is_bfloat16(handle: Any) -> bool:
    return isinstance(handle, TensorHandle) and handle.dtype.scalar == tl.bfloat16


def _widened(handle: Any) -> Any:
    """The same numbers in float32; anything but bfloat16 as it is."""
    if not _is_bfloat16(handle):
        return handle
    bits = handle.data.view(np.uint16).astype(np.uint32) << np.uint32(16)
    return TensorHandle(bits.view(np.float32), tl.float32)


def _narrowed(values: np.ndarray) -> TensorHandle:
    """Numbers rounded to bfloat16, to nearest even, by way of float32 (as torch converts)."""
    wide = np.ascontiguousarray(values, dtype=np.float32)
    bits = wide.view(np.uint32)
    odd = (bits >> np.uint32(16)) & np.uint32(1)
    rounded = ((bits + np.uint32(0x7FFF) + odd) >> np.uint32(16)).astype(np.uint16)
    # The carry of a NaN's payload could turn it into an infinity.
    return TensorHandle(np.where(np.isnan(wide), np.uint16(0x7FC0), rounded), tl.bfloat16)


def _cast(
    original: Callable, builder: InterpreterBuilder, src: TensorHandle, dst_type: tl.dtype
) -> TensorHandle:
    wide = _widened(src)
    return (
        _narrowed(wide.data)
        if dst_type.scalar == tl.bfloat16
        else original(builder, wide, dst_type)
    )


def _convert(
    original: Callable,
    builder: InterpreterBuilder,
    src: TensorHandle,
    dst_type: tl.dtype,
    rounding_mode: Any,
) -> TensorHandle:
    to_nearest = rounding_mode == interpreter._ir.ROUNDING_MODE.RTNE
    if to_nearest and tl.bfloat16 in (src.dtype.scalar, dst_type.scalar):
        return builder.cast_impl(src, dst_type)
    return original(builder, src, dst_type, rounding_mode)


def _dot(
    original: Callable, builder: InterpreterBuilder, a: TensorHandle, b: TensorHandle, *rest: Any
) -> TensorHandle:
    return original(builder, _widened(a), _widened(b), *rest)


def _rounded_result(original: Callable, builder: InterpreterBuilder, *args: Any) -> TensorHandle:
    if not any(_is_bfloat16(x) for x in args) or any(callable(x) and x in _BITWISE for x in args):
        return original(builder, *args)
    result = original(builder, *(_widened(x) for x in args))
    if result.data.dtype == np.bool_:
        return TensorHandle(result.data, tl.int1)
    return _narrowed(result.data)


def _argument(original: Callable, arg: Any) -> Any:
    converted = original(arg)
    if isinstance(arg, int):
        # An argument between 2^31 and 2^32 is an int64 that the interpreter keeps as uint32.
        handle = converted.handle
        handle.data = handle.data.astype(interpreter._get_np_dtype(handle.dtype))
    return converted


def _root(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _program(builder: InterpreterBuilder) -> int:
    return int(np.ravel_multi_index(builder.grid_idx, builder.grid_dim))


_NOBODY = -1
_SEVERAL = -2


class _Memory:
    """The storages of one launch."""

    def __init__(self, tensors: list[torch.Tensor]) -> None:
        self._storages: dict[int, _Storage] = {}
        for tensor in tensors:
            if tensor.numel():
                storage = tensor.untyped_storage()
                self._storages.setdefault(storage.data_ptr(), _Storage(storage)).add(tensor)

    def check(
        self, kind: str, pointers: TensorHandle, mask: np.ndarray | bool, program: int
    ) -> None:
        itemsize = max(1, pointers.get_element_ty().primitive_bitwidth // 8)
        addresses, wanted = np.broadcast_arrays(pointers.data, mask)
        addresses = addresses[wanted.astype(bool)].astype(np.int64)
        stray = np.ones(addresses.shape, bool)
        for storage in self._storages.values():
            offsets = storage.elements(addresses, itemsize)
            stray &= offsets < 0
            storage.access(kind, offsets[offsets >= 0], itemsize, program)
        if stray.any():
            raise OutOfBoundsError(
                f"{kind} in program {program}: {stray.sum()} of {stray.size} lanes are outside "
                "the elements of every tensor",
                addresses[stray],
            )


class _Storage:
    """Who has read and written each byte of one storage."""

    def __init__(self, storage: torch.UntypedStorage) -> None:
        self._base = storage.data_ptr()
        self._size = storage.nbytes()
        self._starts: dict[int, np.ndarray] = {}
        self._users = {kind: np.full(self._size, _NOBODY) for kind in ("load", "store", "atomic")}

    def add(self, tensor: torch.Tensor) -> None:
        """Allow the elements of `tensor`."""
        itemsize = tensor.element_size()
        starts = self._starts.setdefault(itemsize, np.zeros(self._size, bool))
        offsets = torch.arange(0, self._size - itemsize + 1, itemsize).as_strided(
            tensor.shape, tensor.stride(), tensor.storage_offset()
        )
        starts[offsets.flatten().numpy()] = True

    def elements(self, addresses: np.ndarray, itemsize: int) -> np.ndarray:
        """Byte offsets of the addresses, -1 where no element of this size starts."""
        offsets = addresses - self._base
        inside = (offsets >= 0) & (offsets < self._size)
        starts = self._starts.get(itemsize)
        if starts is None:
            return np.full(offsets.shape, -1)
        return np.where(inside & starts[np.where(inside, offsets, 0)], offsets, -1)

    def access(self, kind: str, offsets: np.ndarray, itemsize: int, program: int) -> None:
        """Record an access; raise where it meets one of another program."""
        if kind == "store" and np.unique(offsets).size != offsets.size:
            raise DataRaceError(f"two lanes of one store in program {program} write one address")
        taken = (offsets[:, None] + np.arange(itemsize)).ravel()
        # Loads go with loads, and atomics with atomics.
        for other, users in self._users.items():
            if other == kind and kind != "store":
                continue
            strangers = users[taken]
            strangers = strangers[(strangers != _NOBODY) & (strangers != program)]
            if strangers.size:
                raise DataRaceError(
                    f"{kind} in program {program} races with {other} in program "
                    f"{'several' if strangers[0] == _SEVERAL else strangers[0]}"
                )
        users = self._users[kind]
        alone = (users[taken] == _NOBODY) | (users[taken] == program)
        users[taken] = np.where(alone, program, _SEVERAL)
