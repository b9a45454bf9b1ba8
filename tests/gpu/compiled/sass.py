"""What a compiler made of a kernel: the resources and machine instructions in a cubin."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections import Counter
from dataclasses import dataclass

import triton

# Widths that an instruction may name; one that names none moves 32 bits.
_WIDTHS = {"256": 256, "128": 128, "64": 64, "U16": 16, "S16": 16, "U8": 8, "S8": 8}
# LDGSTS copies from global to shared memory. LD and ST work on any memory.
_GLOBAL_LOADS = ("LDG", "LDGSTS", "LD")
_GLOBAL_STORES = ("STG", "ST")
_LOCAL = ("LDL", "STL")
_ATOMICS = ("ATOM", "ATOMG", "ATOMS", "RED", "REDG", "REDAS")
_TENSOR_CORE = re.compile(r"[A-Z]*MMA")
_INSTRUCTION = re.compile(r"/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P[T\d]\s+)?([A-Z][A-Z0-9_]*(?:\.\w+)*)")


@dataclass(frozen=True)
class Kernel:
    """One kernel of a cubin.

    Attributes:
        name: Its entry point.
        registers: 32-bit registers of a thread.
        stack: Bytes of a thread in local memory: spilled registers, and arrays that are indexed
            by what only the run knows.
        local: More bytes of a thread in local memory, as older compilers report them.
        shared: Bytes of a block in shared memory that the kernel itself declares.
        instructions: How often each instruction stands in the code, by its full name.
    """

    name: str
    registers: int
    stack: int
    local: int
    shared: int
    instructions: Counter[str]

    def count(self, *families: str) -> int:
        """Count the instructions of these families: what stands before the first dot."""
        return sum(n for name, n in self.instructions.items() if _family(name) in families)

    @property
    def global_loads(self) -> Counter[int]:
        """Number of loads from global memory by their width in bits."""
        return self._widths(_GLOBAL_LOADS)

    @property
    def global_stores(self) -> Counter[int]:
        """Number of stores to global memory by their width in bits."""
        return self._widths(_GLOBAL_STORES)

    @property
    def local_accesses(self) -> int:
        """Number of loads and stores of local memory, where spilled registers go."""
        return self.count(*_LOCAL)

    @property
    def atomics(self) -> int:
        """Number of atomic operations on global and shared memory."""
        return self.count(*_ATOMICS)

    @property
    def tensor_cores(self) -> frozenset[str]:
        """Instructions of the tensor cores: family, and the type of the factors where named."""
        names = set()
        for name in self.instructions:
            family, *rest = name.split(".")
            if _TENSOR_CORE.fullmatch(family):
                names.add(".".join([family, *(x for x in rest if x in ("BF16", "TF32"))]))
        return frozenset(names)

    def _widths(self, families: tuple[str, ...]) -> Counter[int]:
        widths: Counter[int] = Counter()
        for name, n in self.instructions.items():
            if _family(name) in families:
                widths[access_bits(name)] += n
        return widths


def access_bits(instruction: str) -> int:
    """Bits that a load or store moves for one thread."""
    return next((_WIDTHS[x] for x in instruction.split(".") if x in _WIDTHS), 32)


def read(cubin: bytes) -> dict[str, Kernel]:
    """Read every kernel of a cubin, by name."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        usage = _run(triton.knobs.nvidia.cuobjdump.path, "-res-usage", file.name)
        code = _instructions(_run(triton.knobs.nvidia.nvdisasm.path, "-c", file.name))
    kernels = {}
    for name, figures in re.findall(r"Function (\S+):\s*\n(.*)", usage):
        figure = {key: int(value) for key, value in re.findall(r"([A-Z]+):(\d+)", figures)}
        kernels[name] = Kernel(
            name, figure["REG"], figure["STACK"], figure["LOCAL"], figure["SHARED"], code[name]
        )
    return kernels


def _instructions(disassembly: str) -> dict[str, Counter[str]]:
    """Count the instructions in each section of code."""
    sections = re.split(r"^\.text\.(\S+):$", disassembly, flags=re.MULTILINE)
    return {
        name: Counter(_INSTRUCTION.findall(code))
        for name, code in zip(sections[1::2], sections[2::2], strict=True)
    }


def _family(instruction: str) -> str:
    return instruction.partition(".")[0]


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
