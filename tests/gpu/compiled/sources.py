"""The CUDA sources compiled to cubins by nvcc, for GPUs that are not there."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
CSRC = ROOT / "csrc"
_CACHE = ROOT / "build" / "cubins"
# As csrc/cuda.cmake builds them.
_OPTIONS = ("-O3", "-std=c++17", "-DNDEBUG")


def cuda_sources() -> list[Path]:
    """List the CUDA sources of the project."""
    return sorted(CSRC.glob("*.cu"))


def has_nvcc() -> bool:
    """Say whether CUDA's compiler is on the path."""
    return shutil.which("nvcc") is not None


@cache
def nvcc_cubins(capability: int) -> tuple[bytes, ...]:
    """Compile every CUDA source of the project to a cubin for `capability` (80, 90, ...).

    Cubins are kept in the folder of the build, under a name made of all that goes into them.
    """
    sources = cuda_sources()
    folder = _CACHE / f"sm_{capability}-{_fingerprint()}"
    if not folder.exists():
        _CACHE.mkdir(parents=True, exist_ok=True)
        # Whole or not at all: an interrupted run must not leave half a folder under that name.
        scratch = Path(tempfile.mkdtemp(dir=_CACHE))
        run_nvcc(sources, capability, scratch)
        scratch.rename(folder)
    return tuple((folder / f"{source.stem}.cubin").read_bytes() for source in sources)


def run_nvcc(sources: Sequence[Path], capability: int, folder: Path) -> None:
    """Compile each source to a cubin of its name in `folder`."""
    command = ["nvcc", "-cubin", f"-arch=sm_{capability}", *_OPTIONS]
    # One compiler a source: a single call would compile them one after the other.
    running = [
        subprocess.Popen([*command, str(source), "-o", str(folder / f"{source.stem}.cubin")])
        for source in sources
    ]
    failed = [str(x.args[-3]) for x in running if x.wait() != 0]
    if failed:
        raise RuntimeError(f"nvcc could not compile {', '.join(failed)} for sm_{capability}")


def _fingerprint() -> str:
    """Hash the compiler's version, its options and all that CUDA sources may include."""
    version = subprocess.run(["nvcc", "--version"], check=True, capture_output=True).stdout
    digest = hashlib.sha256(version + repr(_OPTIONS).encode())
    for path in sorted([*CSRC.glob("*.cu"), *CSRC.glob("*.h")]):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:16]
