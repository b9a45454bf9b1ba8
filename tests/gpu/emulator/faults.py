"""What was wrong with a launch, as a Python exception."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

_INCLUDE = str(Path(__file__).parent / "include")


@dataclass(eq=False)
class KernelFault(Exception):  # noqa: N818 (what a kernel did; not what Python did)
    """A launch did what it must not do; nothing was run after that.

    Attributes:
        kind: "bounds", "alignment", "uninitialised", "race", "barrier", "mask", "deadlock",
            "endless", "undefined" or "launch".
        message: What was wrong.
        kernel: Name of the kernel.
        block: Index of the block, or None if no block ran.
        thread: Index of the thread in its block.
        address: The address at fault; 0 where no access was.
        source: Lines of the kernel's source, the innermost first.
        other_source: The same for the access that this one races with.
    """

    kind: str
    message: str
    kernel: str
    block: tuple[int, int, int] | None = None
    thread: tuple[int, int, int] | None = None
    address: int = 0
    source: tuple[str, ...] = ()
    other_source: tuple[str, ...] = ()

    def __str__(self) -> str:
        text = f"{self.kernel}: {self.kind}: {self.message}"
        if self.block is not None:
            text += f"; block {self.block}, thread {self.thread}"
        if self.address:
            text += f", address {self.address:#x}"
        if self.source:
            text += f", at {' from '.join(self.source)}"
        if self.other_source:
            text += f"; the other access at {' from '.join(self.other_source)}"
        return text


def source_lines(library: Path, offset: int) -> tuple[str, ...]:
    """Files and lines of a place in a library, the innermost inlined function first."""
    if offset == 0:
        return ()
    # What is known is where the call returns to, one past it.
    command = ["addr2line", "--inlines", "-e", str(library), hex(offset - 1)]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\n")
    places = (line.split(" (")[0] for line in lines if line and not line.startswith(_INCLUDE))
    return tuple(place.rsplit("/", 1)[-1] for place in places)
