"""The CUDA kernels without a CUDA toolkit: CuPy compiles their sources (NVRTC) when first used.

The stand-in for the compiled module ``hessx._cuda`` where that was not built, or not for the GPU
at hand. CuPy keeps what it compiled on disk, in its own cache.
"""

from __future__ import annotations

import hashlib
import importlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

# Nothing that trades accuracy for speed: no --use_fast_math.
OPTIONS = ("-std=c++17",)

# Kernels may use this much shared memory without asking for more.
_DEFAULT_SHARED_BYTES = 48 * 1024
_TYPES: dict[str, type[np.generic]] = {
    "int64_t": np.int64,
    "int": np.int32,
    "float": np.float32,
    "double": np.float64,
}
_ADDRESS: type[np.generic] = np.uint64


def source_folder() -> Path:
    """Return the folder of the CUDA sources: in the package, or beside it in a source tree."""
    package = Path(__file__).parent
    installed = package / "_csrc"
    return installed if installed.is_dir() else package.parent / "csrc"


@cache
def signatures() -> dict[str, dict[str, type[np.generic]]]:
    """Read names and types of each kernel's arguments, which ``csrc/cuda_kernels.h`` declares."""
    header = (source_folder() / "cuda_kernels.h").read_text()
    declared = re.findall(r"__global__ void (\w+)\(([^)]*)\)", header)
    return {
        kernel: dict(_named_type(declaration) for declaration in declarations.split(","))
        for kernel, declarations in declared
    }


def source_of(kernel: str) -> Path:
    """Return the file that defines a kernel: ``hessx_<op>_<what>`` is in ``<op>.cu``."""
    files = [
        path for path in source_folder().glob("*.cu") if kernel.startswith(f"hessx_{path.stem}_")
    ]
    return max(files, key=lambda path: len(path.stem))


def options() -> tuple[str, ...]:
    """Return the compiler's options."""
    folder = source_folder()
    sources = sorted([*folder.glob("*.cu"), *folder.glob("*.h")])
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()
    # CuPy's cache knows a compilation by source and options, not by what the source includes.
    return (*OPTIONS, f"-I{folder}", f"-DHESSX_SOURCES={digest}")


@dataclass(frozen=True)
class TorchStream:
    """A stream of torch's, under the protocol by which CuPy takes streams of others."""

    address: int

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, self.address


class CupyKernels:
    """The kernels as attributes, each called as those of ``hessx._cuda`` are.

    Attributes:
        device: Type of the tensors that the kernels take.
    """

    device = "cuda"

    def __init__(self) -> None:
        """Import CuPy.

        Raises:
            ImportError: If it is not installed, or too old.
        """
        self._cupy = importlib.import_module("cupy")
        if not hasattr(self._cupy.cuda.Stream, "from_external"):
            raise ImportError(f"CuPy 14 or later is needed, found {self._cupy.__version__}")
        self._kernels: dict[str, Any] = {}
        self._lock = Lock()

    def __getattr__(self, name: str) -> Callable[..., None]:
        if name not in signatures():
            raise AttributeError(f"there is no CUDA kernel {name!r}")
        return partial(self._launch, name)

    def _launch(
        self, name: str, grid: int, block: int, shared: int, device: int, stream: int, *args: Any
    ) -> None:
        types = signatures()[name]
        if len(args) != len(types):
            raise TypeError(f"{name} takes {len(types)} arguments, got {len(args)}")
        values = tuple(to(arg) for to, arg in zip(types.values(), args, strict=True))
        cuda = self._cupy.cuda
        # One thread at a time: another one must neither compile the same kernel nor lower its
        # limit of shared memory before the launch.
        with self._lock, cuda.Device(device), cuda.Stream.from_external(TorchStream(stream)):
            kernel = self._kernel(name)
            if shared > _DEFAULT_SHARED_BYTES:
                kernel.max_dynamic_shared_size_bytes = shared
            kernel((grid,), (block,), values, shared_mem=shared)

    def _kernel(self, name: str) -> Any:
        if name not in self._kernels:
            path = source_of(name)
            module = self._cupy.RawModule(code=path.read_text(), options=options(), backend="nvrtc")
            try:
                self._kernels[name] = module.get_function(name)
            except self._cupy.cuda.compiler.CompileException as error:
                raise RuntimeError(f"CuPy could not compile {path.name}: {error}") from error
        return self._kernels[name]


def _named_type(declaration: str) -> tuple[str, type[np.generic]]:
    *of_type, name = declaration.replace("*", " * ").split()
    return name, _ADDRESS if "*" in of_type else _TYPES[of_type[-1]]
