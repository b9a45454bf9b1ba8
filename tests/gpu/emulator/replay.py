"""Launches recorded in the emulator and run again under the compiler's own sanitizers."""

from __future__ import annotations

import ctypes
import os
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.gpu.emulator.buffers import Buffer
from tests.gpu.emulator.module import EmulatedModule

SANITIZERS = ("address,undefined", "thread")

_OPTIONS = {
    # The first report is enough. Fibers are still there at the end: that is no leak to wait for.
    "ASAN_OPTIONS": "detect_leaks=0",
    "UBSAN_OPTIONS": "halt_on_error=1",
    "TSAN_OPTIONS": "halt_on_error=1:report_thread_leaks=0:atexit_sleep_ms=0",
}


@contextmanager
def recording(module: EmulatedModule, path: Path) -> Iterator[None]:
    """Within it, each launch of the module is appended to a file, with its arrays as they were."""
    previous = module.on_launch

    def write(name: str, signature: str, words: list[int], buffers: list[Buffer]) -> None:
        with path.open("ab") as file:
            file.write(struct.pack("<Q", len(name)) + name.encode())
            file.write(struct.pack(f"<{len(words)}Q", *words))
            file.write(struct.pack("<Q", len(buffers)))
            for buffer in buffers:
                file.write(struct.pack("<QQ", buffer.base, buffer.nbytes))
                file.write(ctypes.string_at(buffer.base, buffer.nbytes))

    module.on_launch = write
    try:
        yield
    finally:
        module.on_launch = previous


def replay(program: Path, recorded: Path, *, seed: int = 0) -> str:
    """Run recorded launches in a program of `build_replay`.

    Returns:
        What the sanitizers reported; empty if nothing was wrong.
    """
    done = subprocess.run(
        [str(program), str(seed), str(recorded)],
        env={**os.environ, **_OPTIONS},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode and not done.stderr:
        return f"exit status {done.returncode}"
    return done.stderr
