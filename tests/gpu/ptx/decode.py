"""From a parsed instruction to what runs it: modifiers all accounted for, operands checked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from tests.gpu.ptx import datatypes
from tests.gpu.ptx.errors import UnsupportedError
from tests.gpu.ptx.module import (
    Immediate,
    Instruction,
    Negated,
    Operand,
    Register,
    Sink,
    Special,
    Symbol,
)

if TYPE_CHECKING:
    from tests.gpu.ptx.group import Group
    from tests.gpu.ptx.kernel import Layout

Mask = np.ndarray | None
"""The threads that execute an instruction; None stands for all of a group."""

Operation = Callable[["Group", Mask], None]
Builder = Callable[[Instruction, "Layout"], Operation]
Fetch = Callable[["Group"], np.ndarray]

_Builder = TypeVar("_Builder", bound=Builder)


class Opcodes(dict[str, Builder]):
    """Builders by opcode; each subject fills one table of its own."""

    def register(self, *names: str) -> Callable[[_Builder], _Builder]:
        def add(builder: _Builder) -> _Builder:
            for name in names:
                self[name] = builder
            return builder

        return add


class Modifiers:
    """The modifiers of one instruction, each of which must be taken exactly once."""

    def __init__(self, instruction: Instruction) -> None:
        self._instruction = instruction
        self._left = list(instruction.modifiers)

    def flag(self, *names: str) -> bool:
        """Take any of these modifiers; say whether one was there."""
        found = [name for name in names if name in self._left]
        for name in found:
            self._left.remove(name)
        return bool(found)

    def choice(self, *names: str, default: str | None = None) -> str:
        """Take the one of these modifiers that is there."""
        for name in self._left:
            if name in names:
                self._left.remove(name)
                return name
        if default is None:
            raise self.unsupported(f"without any of {names}")
        return default

    def type(self, *allowed: str) -> str:
        """Take the first type that is left, one of `allowed` if any are named."""
        for name in self._left:
            if name in datatypes.WIDTHS:
                if allowed and name not in allowed:
                    break
                self._left.remove(name)
                return name
        raise self.unsupported("of this type")

    def rest(self) -> tuple[str, ...]:
        """Take all that is left, in its order."""
        left, self._left = tuple(self._left), []
        return left

    def finish(self) -> None:
        """Refuse the instruction if a modifier is left."""
        if self._left:
            raise self.unsupported(f"with {self._left}")

    def unsupported(self, why: str) -> UnsupportedError:
        return UnsupportedError(f"{self._instruction} {why} is not known to this machine")


@dataclass(frozen=True)
class Source:
    """An operand that is read: its numbers, and the registers whose definedness it has."""

    fetch: Fetch
    registers: tuple[int, ...] = ()


def count(instruction: Instruction, *allowed: int) -> None:
    """Refuse another number of operands."""
    if len(instruction.operands) not in allowed:
        raise UnsupportedError(f"{instruction}: {len(instruction.operands)} operands")


def source(
    instruction: Instruction, operand: Operand, type_name: str, layout: Layout, *, wider=False
) -> Source:
    """An operand read as `type_name`; a wider register only where the instruction truncates."""
    dtype = datatypes.arithmetic(type_name)
    width = datatypes.WIDTHS[type_name]
    match operand:
        case Register(index=index, type=held):
            return _register_source(instruction, index, held, type_name, wider=wider)
        case Negated(register=register) if type_name == "pred" and register.type == "pred":
            index = register.index
            return Source(lambda group: ~group.values[index], (index,))
        case Immediate():
            constant = _constant(instruction, operand, type_name)
            return Source(lambda group: constant)
        case Symbol(name=name) if width in (32, 64) and not datatypes.is_float(type_name):
            address = np.array([layout.address(instruction, name)], datatypes.storage(type_name))
            return Source(lambda group: address.view(dtype))
        case Special(name=name) if width == 32:
            return Source(lambda group: group.specials[name].view(dtype))
    raise UnsupportedError(f"{instruction}: operand {operand} as {type_name}")


def _register_source(
    instruction: Instruction, index: int, held: str, type_name: str, *, wider: bool
) -> Source:
    dtype = datatypes.arithmetic(type_name)
    stored = datatypes.storage(type_name)
    width = datatypes.WIDTHS[type_name]
    if (held == "pred") != (type_name == "pred"):
        raise UnsupportedError(f"{instruction}: a register of type {held} as {type_name}")
    if datatypes.WIDTHS[held] == width:
        if dtype is datatypes.storage(held):
            return Source(lambda group: group.values[index], (index,))
        return Source(lambda group: group.values[index].view(dtype), (index,))
    if wider and datatypes.WIDTHS[held] > width:
        return Source(lambda group: group.values[index].astype(stored).view(dtype), (index,))
    raise UnsupportedError(f"{instruction}: a register of type {held} as {type_name}")


def _constant(instruction: Instruction, operand: Immediate, type_name: str) -> np.ndarray:
    if type_name == "pred":
        return np.array([operand.value != 0])
    width = datatypes.WIDTHS[type_name]
    if operand.float_width not in (None, width):
        raise UnsupportedError(f"{instruction}: a constant of {operand.float_width} bits")
    if operand.float_width is None and datatypes.is_float(type_name) and operand.value:
        raise UnsupportedError(f"{instruction}: the integer {operand.value} as {type_name}")
    if not -(2**width) < operand.value < 2**width:
        raise UnsupportedError(f"{instruction}: {operand.value} does not fit {type_name}")
    bits = np.array([operand.value % 2**width], datatypes.unsigned(width))
    return bits.view(datatypes.arithmetic(type_name))


def destination(instruction: Instruction, operand: Operand, type_name: str) -> int | None:
    """The register that takes a result of `type_name`, of its very width; None for `_`."""
    match operand:
        case Sink():
            return None
        case Register(index=index, type=held) if (
            datatypes.WIDTHS[held] == datatypes.WIDTHS[type_name]
        ):
            return index
    raise UnsupportedError(f"{instruction}: result {operand} as {type_name}")


def elementwise(
    instruction: Instruction,
    layout: Layout,
    type_out: str,
    types_in: tuple[str, ...],
    function: Callable[..., np.ndarray],
) -> Operation:
    """An operation on each thread's own numbers: first operand the result, the others read."""
    count(instruction, len(types_in) + 1)
    into = destination(instruction, instruction.operands[0], type_out)
    sources = [
        source(instruction, operand, type_name, layout)
        for operand, type_name in zip(instruction.operands[1:], types_in, strict=True)
    ]
    return computed(into, type_out, sources, function)


def computed(
    into: int | None, type_out: str, sources: list[Source], function: Callable[..., np.ndarray]
) -> Operation:
    """Write `function` of the sources to a register."""
    stored = datatypes.storage(type_out)
    registers = tuple(index for x in sources for index in x.registers)
    fetches = tuple(x.fetch for x in sources)
    if into is None:
        return lambda group, mask: None

    if len(fetches) == 1:
        (only,) = fetches

        def run(group: Group, mask: Mask) -> None:
            result = function(only(group)).view(stored)
            group.write(into, result, mask, group.undefined(registers))

    elif len(fetches) == 2:
        first, second = fetches

        def run(group: Group, mask: Mask) -> None:
            result = function(first(group), second(group)).view(stored)
            group.write(into, result, mask, group.undefined(registers))

    else:

        def run(group: Group, mask: Mask) -> None:
            result = function(*[fetch(group) for fetch in fetches]).view(stored)
            group.write(into, result, mask, group.undefined(registers))

    return run
