"""An emulated module: the kernels of a library that `build.py` made, as Python functions."""

from __future__ import annotations

import ctypes
import struct
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from tests.gpu.emulator.buffers import Buffer, Buffers
from tests.gpu.emulator.faults import KernelFault, source_lines


class _FaultPlace(ctypes.Structure):
    _fields_ = (
        ("in_thread", ctypes.c_bool),
        ("block", ctypes.c_uint * 3),
        ("thread", ctypes.c_uint * 3),
        ("address", ctypes.c_size_t),
        ("code", ctypes.c_uint32),
        ("other_code", ctypes.c_uint32),
    )


class EmulatedModule:
    """A provider of kernels that run on CPU tensors.

    Each kernel is an attribute, a function of `(grid, block, shared, device, stream, *arguments)`
    as in hessx._cuda. A launch may use the tensors whose addresses it gets, and no more of them
    than their elements: within `watching`, these are known by their calls of `data_ptr`.

    Attributes:
        seed: Of the order in which blocks and threads run; 0 is the order of their indices.
        max_steps: Accesses and calls after which a launch counts as endless.
        launched: How often each kernel was launched.
        on_launch: Called before each launch with the kernel's name, its signature, the arguments
            as words of 64 bits, and the buffers.
    """

    device = "cpu"
    description = "the emulator of tests/gpu/emulator"

    def __init__(self, library: Path) -> None:
        self.seed = 0
        self.max_steps = 300_000_000
        self.launched: Counter[str] = Counter()
        self.on_launch: Callable[[str, str, list[int], list[Buffer]], None] | None = None
        self._buffers = Buffers()
        self._path = library
        # Under the GIL: the emulator has one state.
        self._library = ctypes.PyDLL(str(library))
        self._declare()
        self._kernels = {}
        for index in range(self._library.emulator_kernel_count()):
            name = self._library.emulator_kernel_name(index).decode()
            signature = self._library.emulator_kernel_signature(index).decode()
            self._kernels[name] = (index, signature)

    def __getattr__(self, name: str) -> Callable[..., None]:
        kernels = self.__dict__.get("_kernels", {})
        if name not in kernels:
            raise AttributeError(f"{self._path} has no kernel {name!r}")
        return partial(self._launch, name)

    @property
    def kernels(self) -> tuple[str, ...]:
        """Names of the kernels."""
        return tuple(self._kernels)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Within it, tensors whose address is taken may be used by the launch that gets it."""
        with self._buffers.watching():
            yield

    def _declare(self) -> None:
        word, size = ctypes.c_uint64, ctypes.c_size_t
        functions: dict[str, tuple[Any, list[Any]]] = {
            "kernel_count": (ctypes.c_int, []),
            "kernel_name": (ctypes.c_char_p, [ctypes.c_int]),
            "kernel_signature": (ctypes.c_char_p, [ctypes.c_int]),
            "configure": (None, [ctypes.c_uint, word]),
            "add_buffer": (None, [size, size, size, ctypes.c_char_p, ctypes.c_char_p]),
            "get_written": (None, [size, ctypes.c_char_p]),
            "clear_buffers": (None, []),
            "launch": (ctypes.c_bool, [ctypes.c_int, ctypes.POINTER(word)]),
            "fault_kind": (ctypes.c_char_p, []),
            "fault_message": (ctypes.c_char_p, []),
            "fault_place": (None, [ctypes.POINTER(_FaultPlace)]),
        }
        for name, (result, arguments) in functions.items():
            function = getattr(self._library, f"emulator_{name}")
            function.restype = result
            function.argtypes = arguments

    def _launch(self, name: str, *args: int | float) -> None:
        index, signature = self._kernels[name]
        if len(args) != len(signature):
            raise TypeError(f"{name} takes {len(signature)} arguments, got {len(args)}")
        words = [_word(letter, arg) for letter, arg in zip(signature, args, strict=True)]
        buffers = self._buffers.of_launch(args)
        if self.on_launch:
            self.on_launch(name, signature, words, buffers)
        self.launched[name] += 1
        library = self._library
        library.emulator_configure(self.seed, self.max_steps)
        for buffer in buffers:
            library.emulator_add_buffer(
                buffer.base, buffer.nbytes, buffer.granule, buffer.allowed, buffer.written
            )
        try:
            if not library.emulator_launch(index, (ctypes.c_uint64 * len(words))(*words)):
                raise self._fault(name)
            for buffer in buffers:
                if buffer.written is not None:
                    written = ctypes.create_string_buffer(buffer.n_granules)
                    library.emulator_get_written(buffer.base, written)
                    self._buffers.remember_written(buffer, written.raw)
        finally:
            library.emulator_clear_buffers()

    def _fault(self, kernel: str) -> KernelFault:
        place = _FaultPlace()
        self._library.emulator_fault_place(ctypes.byref(place))
        kind = self._library.emulator_fault_kind().decode()
        message = self._library.emulator_fault_message().decode()
        if not place.in_thread:
            return KernelFault(kind, message, kernel)
        return KernelFault(
            kind,
            message,
            kernel,
            tuple(place.block),
            tuple(place.thread),
            place.address,
            source_lines(self._path, place.code),
            source_lines(self._path, place.other_code),
        )


def _word(letter: str, value: int | float) -> int:
    """The 64 bits in which a kernel's argument is passed; raises where it does not fit."""
    try:
        return int.from_bytes(struct.pack(f"={letter}", value).ljust(8, b"\0"), "little")
    except struct.error as error:
        raise TypeError(f"{value!r} is no argument of type {letter!r}: {error}") from None
