"""nvcc's PTX of the project's CUDA sources, behind the interface of `hessx._cuda`."""

from __future__ import annotations

import hashlib
import os
import struct
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest
import torch

from tests.gpu.compiled.sources import CSRC, ROOT, cuda_sources
from tests.gpu.ptx import machine
from tests.gpu.ptx.errors import LaunchError
from tests.gpu.ptx.kernel import Kernel, load
from tests.gpu.ptx.parser import parse

_CACHE = ROOT / "build" / "ptx"
_COMMAND = ("nvcc", "-ptx", "-arch=sm_80", "-O3", "-std=c++17", "-DNDEBUG")


@cache
def ptx_provider() -> PtxProvider:
    """The machine as a provider of CUDA kernels, for `tests.gpu.providers.use`."""
    texts = [ptx_of(source) for source in cuda_sources()]
    return PtxProvider({name: load(text, name) for text in texts for name in parse(text).entries})


def ptx_of(source: Path) -> str:
    """What nvcc makes of a source; kept in the folder of the build under a hash of its inputs."""
    version = subprocess.run(["nvcc", "--version"], check=True, capture_output=True).stdout
    digest = hashlib.sha256(version + " ".join(_COMMAND).encode())
    for path in (source, *sorted(CSRC.glob("*.h"))):
        digest.update(path.name.encode() + path.read_bytes())
    kept = _CACHE / f"{source.stem}-{digest.hexdigest()[:16]}.ptx"
    if not kept.exists():
        _CACHE.mkdir(parents=True, exist_ok=True)
        # Renamed when whole: an interrupted run must leave nothing under that name.
        with tempfile.TemporaryDirectory(dir=_CACHE) as scratch:
            made = Path(scratch) / kept.name
            subprocess.run([*_COMMAND, str(source), "-o", str(made)], check=True)
            os.replace(made, kept)
    return kept.read_text()


class PtxProvider:
    """One function a kernel, which takes a launch and runs it on CPU tensors.

    A launch passes addresses, not tensors. Within `watching()` the tensors whose addresses the
    launch code asks for are noted: their elements are what the kernel may use.
    """

    device = "cpu"

    def __init__(self, kernels: dict[str, Kernel]) -> None:
        self._kernels = kernels
        self._seen: list[tuple[int, torch.Tensor]] = []

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Note the tensors whose addresses are asked for."""
        data_ptr = torch.Tensor.data_ptr

        def noted(tensor: torch.Tensor) -> int:
            address = data_ptr(tensor)
            self._seen.append((address, tensor))
            return address

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch.Tensor, "data_ptr", noted)
            try:
                yield
            finally:
                self._seen.clear()

    def __getattr__(self, name: str) -> Callable[..., None]:
        if name not in self._kernels:
            raise AttributeError(f"there is no CUDA kernel {name}")
        kernel = self._kernels[name]

        def run(
            grid: int, block: int, shared: int, device: int, stream: int, *arguments: int | float
        ) -> None:
            tensors = [tensor for address, tensor in self._seen if address in arguments]
            parameters = kernel.entry.parameters
            if len(arguments) != len(parameters):
                raise LaunchError(f"{name} takes {len(parameters)} arguments, got {len(arguments)}")
            bits = [_bits(p.type, x) for p, x in zip(parameters, arguments, strict=True)]
            try:
                machine.launch(kernel, (grid,), (block,), bits, tensors, dynamic_shared=shared)
            finally:
                # The machine asks for addresses too.
                self._seen.clear()

        return run


def _bits(type_name: str, value: int | float) -> int:
    """The bits in which a launch passes an argument."""
    if type_name in ("f32", "f64"):
        code = "<f" if type_name == "f32" else "<d"
        return int.from_bytes(struct.pack(code, value), "little")
    return int(value) % 2 ** int(type_name[1:])
