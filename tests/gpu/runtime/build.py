"""The module of CUDA kernels as nvcc and the C++ compiler build it, linked to the fake runtime."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pybind11

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
CSRC = ROOT / "csrc"
CACHE = ROOT / "build" / "fake_runtime"
MODULE = "hessx_fake_cuda"
# PTX alone: the host's half is the same for every architecture, and ptxas takes longest.
_OPTIONS = (
    "-std=c++17",
    "-gencode=arch=compute_80,code=compute_80",
    "-Xcompiler=-fPIC,-fvisibility=hidden,-O0",
    f"-DHESSX_CUDA_MODULE={MODULE}",
    '-DHESSX_CUDA_DEVICE="cpu"',
    f"-I{sysconfig.get_path('include')}",
    f"-I{pybind11.get_include()}",
)
_BYTES = {"8": 1, "16": 2, "32": 4, "64": 8}


@dataclass(frozen=True)
class Kernel:
    """What the compiled code says of a kernel.

    Attributes:
        source: Name of its file, without .cu.
        argument_bytes: Size of each argument.
        max_threads: Threads of a block at most, by its launch bounds.
    """

    source: str
    argument_bytes: tuple[int, ...]
    max_threads: int


def build() -> Path:
    """Build the module if the sources have changed since.

    Returns:
        The folder with the module, and a .ptx for each source of kernels.
    """
    sources = [*CSRC.glob("*.cu"), *CSRC.glob("*.h"), CSRC / "bind_cuda.cpp", *HERE.iterdir()]
    texts = [path.read_bytes() for path in sorted(sources) if path.is_file()]
    key = hashlib.sha256(b"\0".join([sys.version.encode(), *texts])).hexdigest()[:16]
    target = CACHE / key
    if not target.exists():
        partial = CACHE / f"{key}.{os.getpid()}"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        _compile(partial)
        partial.rename(target)
    return target


def kernels(folder: Path) -> dict[str, Kernel]:
    """Read the kernels of a built module from its PTX."""
    found = {}
    entry = re.compile(r"\.entry (\w+)\((.*?)\)(.*?)\{", re.DOTALL)
    for path in folder.glob("*.ptx"):
        for name, arguments, bounds in entry.findall(path.read_text()):
            sizes = tuple(_BYTES[bits] for bits in re.findall(r"\.param \.[a-z](\d+)", arguments))
            (max_threads,) = re.findall(r"\.maxntid (\d+)", bounds)
            found[name] = Kernel(path.stem, sizes, int(max_threads))
    return found


def _compile(folder: Path) -> None:
    host = [CSRC / "bind_cuda.cpp", HERE / "fake_cudart.cpp"]
    sources = [*sorted(CSRC.glob("*.cu")), *host]
    objects = [folder / f"{path.stem}.o" for path in sources]
    commands = [
        ["nvcc", *_OPTIONS, "--keep", f"--keep-dir={folder}", "-c", str(path), "-o", str(target)]
        for path, target in zip(sources, objects, strict=True)
    ]
    with ThreadPoolExecutor(max_workers=2) as pool:
        list(pool.map(_run, commands))
    module = folder / f"{MODULE}{sysconfig.get_config_var('EXT_SUFFIX')}"
    # -z now: what the fake lacks of the runtime shows when the module is loaded.
    link = ["-shared", "-cudart=none", "-Xlinker=-z,now", "-o", str(module)]
    _run(["nvcc", *link, *map(str, objects)])
    for path in folder.iterdir():
        if path.suffix not in (".so", ".ptx"):
            path.unlink()


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{done.stderr}")
