"""The fake runtime as Python sees it: its module as provider of kernels, and what was launched."""

from __future__ import annotations

import ctypes
import importlib.util
import struct
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np

from hessx import nvrtc
from tests.gpu.runtime.build import MODULE, Kernel, build, kernels

_MAX_ARGUMENTS = 32


class _Launch(ctypes.Structure):
    """As in fake_cudart.cpp."""

    _fields_ = [
        ("kernel", ctypes.c_char * 128),
        ("grid", ctypes.c_uint * 3),
        ("block", ctypes.c_uint * 3),
        ("shared", ctypes.c_size_t),
        ("stream", ctypes.c_uint64),
        ("device", ctypes.c_int),
        ("arguments", ctypes.c_uint64 * _MAX_ARGUMENTS),
    ]


@dataclass(frozen=True)
class Launch:
    """A launch that the runtime accepted.

    Attributes:
        kernel: Name of the kernel.
        grid: Blocks along x; they are 1 along y and z.
        block: Threads of a block, likewise.
        shared: Bytes of dynamic shared memory.
        stream: Address of the stream.
        device: Index of the device.
        arguments: By name, as csrc/cuda_kernels.h declares them; addresses for pointers.
    """

    kernel: str
    grid: int
    block: int
    shared: int
    stream: int
    device: int
    arguments: dict[str, int | float]


class FakeRuntime:
    """The built module over the fake runtime.

    Attributes:
        module: The provider of kernels.
        kernels: What the compiled code says of each kernel.
    """

    def __init__(self) -> None:
        """Build and load the module; it has no launches yet."""
        folder = build()
        (path,) = folder.glob("*.so")
        self.module = _load(path)
        self.kernels = kernels(folder)
        self._library = ctypes.CDLL(str(path))
        self._library.hessx_fake_launch.restype = ctypes.POINTER(_Launch)
        for name, kernel in self.kernels.items():
            self._declare(name, kernel)

    def launches(self) -> list[Launch]:
        """List the launches since the last `forget`."""
        count = self._library.hessx_fake_launches()
        return [_decoded(self._library.hessx_fake_launch(i).contents) for i in range(count)]

    def fail_next(self, status: int) -> None:
        """Let the next launch fail with an error code of CUDA's."""
        self._library.hessx_fake_fail(status)

    def forget(self) -> None:
        """Forget launches, attributes and the current device."""
        self._library.hessx_fake_forget()

    def _declare(self, name: str, kernel: Kernel) -> None:
        sizes = kernel.argument_bytes
        self._library.hessx_fake_declare(
            name.encode(), (ctypes.c_size_t * len(sizes))(*sizes), len(sizes), kernel.max_threads
        )


def _load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(MODULE, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _decoded(launch: _Launch) -> Launch:
    assert tuple(launch.grid)[1:] == tuple(launch.block)[1:] == (1, 1)
    kernel = launch.kernel.decode()
    arguments = {
        name: _value(of_type, bits)
        for (name, of_type), bits in zip(
            nvrtc.signatures()[kernel].items(), launch.arguments, strict=False
        )
    }
    return Launch(
        kernel,
        launch.grid[0],
        launch.block[0],
        launch.shared,
        launch.stream,
        launch.device,
        arguments,
    )


def _value(of_type: type[np.generic], bits: int) -> int | float:
    """Read a number from the lowest bytes of an argument."""
    return np.frombuffer(struct.pack("<Q", bits), of_type, count=1).item()
