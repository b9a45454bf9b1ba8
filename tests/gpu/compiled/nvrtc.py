"""The CUDA sources compiled by NVRTC, the compiler that CuPy uses at run time."""

from __future__ import annotations

import ctypes
import importlib.util
import shutil
from collections.abc import Sequence
from pathlib import Path


def library() -> Path | None:
    """Find NVRTC: in its Python package, else in the toolkit that nvcc belongs to."""
    package = importlib.util.find_spec("nvidia")
    folders = [Path(x) for x in package.submodule_search_locations or ()] if package else []
    nvcc = shutil.which("nvcc")
    if nvcc:
        folders.append(Path(nvcc).resolve().parents[1] / "lib64")
    found = (path for folder in folders for path in sorted(folder.rglob("libnvrtc.so*")))
    return next(found, None)


class Compiler:
    """NVRTC, loaded from a library."""

    def __init__(self, path: Path) -> None:
        # NVRTC opens this one by its name when it compiles, which finds it if it is loaded.
        for builtins in sorted(path.parent.glob("libnvrtc-builtins.so*")):
            ctypes.CDLL(str(builtins))
        self._library = ctypes.CDLL(str(path))
        self._library.nvrtcGetErrorString.restype = ctypes.c_char_p

    def cubin(self, source: Path, capability: int, options: Sequence[str]) -> bytes:
        """Compile a file for a compute capability.

        Raises:
            RuntimeError: If it does not compile; the message has the compiler's log.
        """
        program = ctypes.c_void_p()
        self._call(
            "CreateProgram",
            ctypes.byref(program),
            source.read_bytes(),
            source.name.encode(),
            0,
            None,
            None,
        )
        try:
            arguments = [f"--gpu-architecture=sm_{capability}", *options]
            encoded = (ctypes.c_char_p * len(arguments))(*(x.encode() for x in arguments))
            try:
                self._call("CompileProgram", program, len(arguments), encoded)
            except RuntimeError as error:
                log = self._read(program, "ProgramLog").decode()
                raise RuntimeError(f"{source.name}: {error}\n{log}") from None
            return self._read(program, "CUBIN")
        finally:
            self._call("DestroyProgram", ctypes.byref(program))

    def _read(self, program: ctypes.c_void_p, what: str) -> bytes:
        size = ctypes.c_size_t()
        self._call(f"Get{what}Size", program, ctypes.byref(size))
        buffer = ctypes.create_string_buffer(size.value)
        self._call(f"Get{what}", program, buffer)
        return buffer.raw

    def _call(self, function: str, *arguments: object) -> None:
        status = getattr(self._library, f"nvrtc{function}")(*arguments)
        if status != 0:
            raise RuntimeError(self._library.nvrtcGetErrorString(status).decode())
