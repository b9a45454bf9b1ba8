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
from types import ModuleType
from typing import Any

import numpy as np
import torch

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

# One thread at a time, whoever made its CupyKernels: another one must neither compile the same
# kernel nor lower its limit of shared memory before the launch.
_LOCK = Lock()


def source_folder() -> Path:
    """Return the folder of the CUDA sources: in the package, or beside it in a source tree.

    Raises:
        FileNotFoundError: If they are in neither.
    """
    package = Path(__file__).parent
    folders = (package / "_csrc", package.parent / "csrc")
    for folder in folders:
        if (folder / "cuda_kernels.h").is_file():
            return folder
    raise FileNotFoundError(
        f"the CUDA sources of hessx are neither in {folders[0]} nor in {folders[1]}"
    )


@cache
def find_cupy() -> tuple[ModuleType | None, str | None]:
    """Import CuPy; give the module, or None and the reason why it cannot be used."""
    try:
        cupy = importlib.import_module("cupy")
    # Where it does not fit what is installed beside it, CuPy may fail with any error.
    except Exception as error:
        return None, f"CuPy, which compiles its kernels at run time, cannot be imported: {error}"
    if not hasattr(cupy.cuda.Stream, "from_external"):
        return None, f"CuPy 14 or later is needed, found {cupy.__version__}"
    return cupy, None


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
        """Import CuPy and look for the sources.

        Raises:
            ImportError: If CuPy is not installed, broken or too old.
            FileNotFoundError: If the sources are not there.
        """
        cupy, reason = find_cupy()
        if cupy is None:
            raise ImportError(reason)
        source_folder()
        self._cupy = cupy
        self._kernels: dict[str, Any] = {}

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
        with _LOCK, cuda.Device(device), cuda.Stream.from_external(TorchStream(stream)):
            kernel = self._kernel(name)
            if shared > _DEFAULT_SHARED_BYTES:
                kernel.max_dynamic_shared_size_bytes = shared
            kernel((grid,), (block,), values, shared_mem=shared)

    def _kernel(self, name: str) -> Any:
        if name not in self._kernels:
            path = source_of(name)
            code = path.read_text()
            try:
                module = self._cupy.RawModule(code=code, options=options(), backend="nvrtc")
                self._kernels[name] = module.get_function(name)
            # An NVRTC that cannot be loaded is another error than one that refuses the source.
            except Exception as error:
                raise RuntimeError(
                    f"CuPy could not compile {path.name} (the CuPy for this torch is the package "
                    f"{_package()}>=14): {error}"
                ) from error
        return self._kernels[name]


def _package() -> str:
    """Name the distribution of CuPy for the CUDA version of torch."""
    major = (torch.version.cuda or "13").partition(".")[0]
    return f"cupy-cuda{major}x"


def _named_type(declaration: str) -> tuple[str, type[np.generic]]:
    *of_type, name = declaration.replace("*", " * ").split()
    return name, _ADDRESS if "*" in of_type else _TYPES[of_type[-1]]
