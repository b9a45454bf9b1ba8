"""Compiling CUDA sources for the CPU."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
CSRC = ROOT / "csrc"
CACHE = ROOT / "build" / "emulator"

_COMMON = [
    *("-std=c++17", "-g1", "-fPIC"),
    # Modules loaded side by side must not share the shared memory of their kernels.
    *("-fvisibility=hidden", "-fno-gnu-unique", "-fno-extern-tls-init"),
    f"-I{HERE / 'include'}",
    f"-I{CSRC}",
]
_RUNTIME = [*_COMMON, "-O2", "-Wall", "-Wextra", "-Werror"]
_BINDINGS = [
    *_COMMON,
    "-O0",
    "-DHESSX_CUDA_MODULE=hessx_cuda",
    '-DHESSX_CUDA_DEVICE="cpu"',
    *("-include", "cuda_runtime.h"),
]
# -O1, so that no access is merged into a vector's. What is never set gets a pattern, which makes
# results wrong each time. (Warnings of it come and go with the optimiser.)
_KERNELS = [
    *_COMMON,
    *("-O1", "-ffp-contract=off", "-fno-strict-aliasing", "-ftrivial-auto-var-init=pattern"),
    *("-x", "c++", "-include", "cuda_runtime.h"),
]
# Not vptr, which needs a library.
_CHECKED = ["-fsanitize=thread", "-fsanitize=undefined", "-fno-sanitize=vptr"]


class BuildError(Exception):
    """A source does not compile; the message is the compiler's."""


@dataclass(frozen=True)
class Sources:
    """CUDA sources, and the C++ that enters their kernels into a table.

    Attributes:
        kernels: Files of kernels.
        bindings: Files that call `m.def` of pybind11, as csrc/bind_cuda.cpp, or `add_kernel`.
        include: Folders searched before csrc, where changed headers may lie.
    """

    kernels: tuple[Path, ...]
    bindings: tuple[Path, ...] = ()
    include: tuple[Path, ...] = ()


def project_sources() -> Sources:
    """The project's own."""
    return Sources(tuple(sorted(CSRC.glob("*.cu"))), (CSRC / "bind_cuda.cpp",))


def build_module(sources: Sources, options: Sequence[str] = ()) -> Path:
    """A shared library that checks each access of the kernels; built if it is not there yet.

    Args:
        sources: What to compile.
        options: Further options for the kernels, such as macros.

    Raises:
        BuildError: If a source does not compile.
    """
    include = [f"-I{folder}" for folder in sources.include]
    parts = [
        *_compilations(sorted((HERE / "runtime").glob("*.cpp")), _RUNTIME),
        *_compilations(sources.bindings, [*include, *_BINDINGS]),
        *_compilations(sources.kernels, [*include, *_KERNELS, *_CHECKED, *options], checked=True),
    ]
    return _link(parts, ["-shared", "-Wl,-Bsymbolic", "-Wl,-z,defs"], "module.so")


def build_replay(sources: Sources, sanitizers: str) -> Path:
    """An executable that replays recorded launches under the compiler's sanitizers.

    Args:
        sources: What to compile.
        sanitizers: As -fsanitize takes them: "address,undefined" or "thread".
    """
    include = [f"-I{folder}" for folder in sources.include]
    sanitize = [f"-fsanitize={sanitizers}"]
    if "undefined" in sanitizers:
        sanitize.append("-fno-sanitize=vptr")
    # These two files are what the sanitizers' libraries bring.
    own = {"instrumentation.cpp", "undefined.cpp", "interface.cpp"}
    runtime = [path for path in sorted((HERE / "runtime").glob("*.cpp")) if path.name not in own]
    parts = [
        *_compilations([*runtime, HERE / "replay" / "main.cpp"], _RUNTIME),
        *_compilations(sources.bindings, [*include, *_BINDINGS]),
        *_compilations(sources.kernels, [*include, *_KERNELS, *sanitize]),
    ]
    return _link(parts, sanitize, "replay")


@dataclass(frozen=True)
class _Compilation:
    source: Path
    options: tuple[str, ...]
    checked: bool

    def run(self) -> Path:
        """The object file, compiled if what the compiler would read has changed."""
        key = _key(self._preprocessed(), " ".join(self.options).encode())
        target = CACHE / f"{self.source.stem}-{key}.o"
        if not target.exists():
            CACHE.mkdir(parents=True, exist_ok=True)
            partial = target.with_suffix(f".{os.getpid()}.o")
            _run([_compiler(), *self.options, "-c", str(self.source), "-o", str(partial)])
            if self.checked:
                _rename_library_functions(partial)
            partial.replace(target)
        return target

    def _preprocessed(self) -> bytes:
        return _run([_compiler(), *self.options, "-E", str(self.source)])


def _compilations(
    sources: Sequence[Path], options: Sequence[str], *, checked: bool = False
) -> list[_Compilation]:
    return [_Compilation(source, tuple(options), checked) for source in sources]


def _link(parts: Sequence[_Compilation], options: Sequence[str], name: str) -> Path:
    with ThreadPoolExecutor(max_workers=2) as pool:
        objects = list(pool.map(_Compilation.run, parts))
    key = _key(*(str(path).encode() for path in objects), " ".join(options).encode())
    target = CACHE / f"{key}-{name}"
    if not target.exists():
        partial = target.with_suffix(f".{os.getpid()}")
        _run([_compiler(), *map(str, objects), *options, "-o", str(partial)])
        partial.replace(target)
    return target


def _rename_library_functions(compiled: Path) -> None:
    """Kernels' copies of memory are checked too: instrumentation.cpp has them."""
    names = ("memcpy", "memmove", "memset")
    renamed = [f"--redefine-sym={name}=emulator_{name}" for name in names]
    _run(["objcopy", *renamed, str(compiled)])


def _compiler() -> str:
    return os.environ.get("CXX", "g++")


def _key(*parts: bytes) -> str:
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:20]


def _run(command: Sequence[str]) -> bytes:
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode:
        raise BuildError(f"{' '.join(command)}\n{done.stderr.decode(errors='replace')}")
    return done.stdout
