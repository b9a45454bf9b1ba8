"""One entry of a module made ready to run: variables laid out, instructions compiled."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from tests.gpu.ptx import (
    control,
    conversions,
    copies,
    datatypes,
    floats,
    integers,
    memory,
    moves,
    tensor_cores,
    warps,
)
from tests.gpu.ptx.control import Flow, Kind
from tests.gpu.ptx.decode import Operation
from tests.gpu.ptx.errors import UnsupportedError
from tests.gpu.ptx.module import Entry, Instruction, Module, Register, Variable
from tests.gpu.ptx.parser import parse

_OPCODES = {
    **floats.OPCODES,
    **integers.OPCODES,
    **moves.OPCODES,
    **conversions.OPCODES,
    **memory.OPCODES,
    **copies.OPCODES,
    **warps.OPCODES,
    **tensor_cores.OPCODES,
    **control.OPCODES,
}

# Where a generic address finds these memories: far above what a process can own.
_WINDOWS = {"shared": 2**60, "local": 2**61}
_WINDOW_BYTES = 2**32


class Layout:
    """Where the variables and parameters of a kernel are.

    Attributes:
        arguments: The bits of each parameter in the launch that runs.
        static_shared: Bytes of shared memory that the kernel declares.
        local: Bytes of local memory of a thread.
        buffers: The variables in global and constant memory.
    """

    def __init__(self, module: Module, entry: Entry) -> None:
        self.arguments: dict[str, int] = {}
        self._widths = {x.name: datatypes.WIDTHS[x.type] for x in entry.parameters}
        self._addresses: dict[str, int] = {}
        self.buffers: dict[str, np.ndarray] = {}
        variables = [*module.variables, *entry.variables]
        self.static_shared = self._stacked([x for x in variables if x.space == "shared" and x.size])
        self.local = self._stacked([x for x in variables if x.space == "local"])
        for variable in variables:
            if variable.space == "shared" and not variable.size:
                # All variables without a size are the one block that the launch brings.
                align = max(variable.align, 16)
                self.static_shared = -(-self.static_shared // align) * align
                self._addresses[variable.name] = self.static_shared
            elif variable.space in ("global", "const"):
                self._addresses[variable.name] = self._placed(variable)

    def _stacked(self, variables: list[Variable]) -> int:
        end = 0
        for variable in variables:
            end = -(-end // variable.align) * variable.align
            self._addresses[variable.name] = end
            end += variable.size
        return end

    def _placed(self, variable: Variable) -> int:
        align = max(16, variable.align)
        buffer = np.zeros(variable.size + align, np.uint8)
        start = -buffer.ctypes.data % align
        place = buffer[start : start + variable.size]
        place[: len(variable.data)] = np.frombuffer(variable.data, np.uint8)
        self.buffers[variable.name] = place
        return place.ctypes.data

    def address(self, instruction: Instruction, name: str) -> int:
        """The address of a variable in its own memory."""
        if name not in self._addresses:
            raise UnsupportedError(f"{instruction}: there is no variable {name}")
        return self._addresses[name]

    def parameter_width(self, name: str) -> int:
        """Bits of a parameter; 0 for an unknown one."""
        return self._widths.get(name, 0)

    def window(self, space: str) -> int:
        """Where the generic addresses of a memory begin."""
        return _WINDOWS.get(space, 0)

    def spaces(self, addresses: np.ndarray) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
        """The parts of generic addresses: memory, which of them, and addresses in it."""
        left = np.ones(addresses.size, bool)
        for space, start in _WINDOWS.items():
            inside = (addresses >= start) & (addresses < start + _WINDOW_BYTES)
            left &= ~inside
            if inside.any():
                chosen = np.flatnonzero(inside)
                yield space, chosen, addresses[chosen] - np.uint64(start)
        if left.any():
            chosen = np.flatnonzero(left)
            yield "global", chosen, addresses[chosen]


@dataclass(frozen=True)
class Step:
    """One instruction, compiled."""

    instruction: Instruction
    flow: Flow
    operation: Operation | None
    guard: Register | None
    negated: bool


@dataclass(frozen=True)
class Kernel:
    """A kernel that can be launched.

    Attributes:
        shared_granule: Bytes of a number, and of an access, that all accesses to shared memory
            are multiples of.
        global_granule: Bytes that all accesses to global memory are multiples of.
    """

    entry: Entry
    layout: Layout
    steps: tuple[Step, ...]
    shared_granule: tuple[int, int]
    global_granule: int

    @property
    def register_types(self) -> list[str]:
        return [register.type for register in self.entry.registers]


@lru_cache(maxsize=256)
def load(text: str, name: str | None = None) -> Kernel:
    """Compile the kernel of this name, or the only one.

    Raises:
        UnsupportedError: If anything in it is not known to the machine.
    """
    module = parse(text)
    if name is None:
        (name,) = module.entries
    entry = module.entries[name]
    layout = Layout(module, entry)
    steps = tuple(_step(x, entry, layout) for x in entry.instructions)
    shared_item, shared_access = _smallest(entry, ("shared", "generic"))
    _, global_access = _smallest(entry, ("global", "const", "generic"))
    return Kernel(entry, layout, steps, (shared_item, shared_access), global_access)


def _step(instruction: Instruction, entry: Entry, layout: Layout) -> Step:
    flow = control.flow(instruction, entry, layout)
    operation = None
    if flow.kind in (Kind.PLAIN, Kind.COLLECTIVE):
        builder = _OPCODES.get(instruction.opcode)
        if builder is None:
            raise UnsupportedError(f"{instruction} is not known to this machine")
        operation = builder(instruction, layout)
    guard = instruction.guard
    if guard is not None and guard.type != "pred":
        raise UnsupportedError(f"{instruction}: guard of type {guard.type}")
    return Step(instruction, flow, operation, guard, instruction.negated)


def _smallest(entry: Entry, spaces: tuple[str, ...]) -> tuple[int, int]:
    """The fewest bytes of a number and of an access in these memories."""
    items, accesses = [16], [16]
    for instruction in entry.instructions:
        if access := memory.access_bytes(instruction):
            space, item, size = access
            if space in spaces:
                items.append(item)
                accesses.append(size)
        if size := copies.copy_bytes(instruction):
            items.append(min(size, 8))
            accesses.append(size)
    return min(items), min(accesses)
