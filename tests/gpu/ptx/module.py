"""What the parser makes of PTX text."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Register:
    """A declared register: its place in the register file and its type."""

    name: str
    index: int
    type: str


@dataclass(frozen=True)
class Special:
    """A register that the device fills, such as `%tid.x`."""

    name: str


@dataclass(frozen=True)
class Negated:
    """A predicate taken the other way round."""

    register: Register


@dataclass(frozen=True)
class Immediate:
    """A constant: an integer, or the bits of a float with their width."""

    value: int
    float_width: int | None = None


@dataclass(frozen=True)
class Symbol:
    """The address of a variable."""

    name: str


@dataclass(frozen=True)
class Sink:
    """A result that is thrown away, `_`."""


@dataclass(frozen=True)
class Address:
    """`[base + offset]`."""

    base: Register | Symbol | Immediate
    offset: int


@dataclass(frozen=True)
class Vector:
    """`{a, b, ...}`."""

    items: tuple[Operand, ...]


@dataclass(frozen=True)
class Pair:
    """Two results, `a|b`."""

    first: Register | Sink
    second: Register | Sink


Operand = Register | Special | Negated | Immediate | Symbol | Sink | Address | Vector | Pair


@dataclass(frozen=True)
class Instruction:
    """One instruction; `guard` and `negated` are what stands after the @."""

    opcode: str
    modifiers: tuple[str, ...]
    operands: tuple[Operand, ...]
    guard: Register | None
    negated: bool
    line: int

    def __str__(self) -> str:
        return f"{'.'.join((self.opcode, *self.modifiers))} (line {self.line})"


@dataclass(frozen=True)
class Variable:
    """A variable in shared, local, global or constant memory; size 0 is what the launch brings."""

    name: str
    space: str
    align: int
    size: int
    data: bytes = b""


@dataclass(frozen=True)
class Parameter:
    """A parameter of a kernel."""

    name: str
    type: str


@dataclass
class Entry:
    """A kernel."""

    name: str
    parameters: list[Parameter] = field(default_factory=list)
    registers: list[Register] = field(default_factory=list)
    variables: list[Variable] = field(default_factory=list)
    instructions: list[Instruction] = field(default_factory=list)
    labels: dict[str, int] = field(default_factory=dict)
    required_threads: tuple[int, ...] | None = None
    most_threads: tuple[int, ...] | None = None


@dataclass
class Module:
    """The kernels of one text and the variables they share."""

    entries: dict[str, Entry] = field(default_factory=dict)
    variables: list[Variable] = field(default_factory=list)
