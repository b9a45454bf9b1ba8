"""Asynchronous copies into shared memory, cp.async: on their way until a thread waits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tests.gpu.ptx import datatypes
from tests.gpu.ptx.decode import Mask, Modifiers, Opcodes, Operation, Source, count, source
from tests.gpu.ptx.errors import UnsupportedError
from tests.gpu.ptx.memory import address_of
from tests.gpu.ptx.module import Immediate, Instruction

if TYPE_CHECKING:
    from tests.gpu.ptx.group import Group

OPCODES = Opcodes()

_UNCOMMITTED = -1


@dataclass
class _Copy:
    """What the threads of one instruction have on its way; the arrays run over those threads."""

    threads: np.ndarray
    offsets: np.ndarray
    numbers: np.ndarray
    group: np.ndarray


class AsyncCopies:
    """Copies that have not arrived yet, each in a commit group of its thread.

    Data arrives no sooner than it must: when the thread that asked for it waits. It is read from
    global memory when it is asked for.
    """

    def __init__(self, threads: int) -> None:
        self._groups = np.zeros(threads, np.int64)
        self._copies: list[_Copy] = []

    def begin(self, threads: np.ndarray, offsets: np.ndarray, numbers: np.ndarray) -> None:
        """Add copies that belong to no commit group yet."""
        group = np.full(threads.size, _UNCOMMITTED, np.int64)
        self._copies.append(_Copy(threads, offsets, numbers, group))

    def commit(self, mask: Mask) -> None:
        """Close a commit group in each thread of the mask."""
        for copy in self._copies:
            closing = copy.group == _UNCOMMITTED
            if mask is not None:
                closing &= mask[copy.threads]
            copy.group = np.where(closing, self._groups[copy.threads], copy.group)
        self._groups = self._groups + (1 if mask is None else mask)

    def wait(self, group: Group, mask: Mask, left: int) -> None:
        """Let all copies arrive but those of the last `left` groups."""
        self._arrive(
            group,
            mask,
            lambda copy: (
                (copy.group != _UNCOMMITTED) & (copy.group < self._groups[copy.threads] - left)
            ),
        )

    def wait_all(self, group: Group, mask: Mask) -> None:
        """Let all copies arrive, committed or not."""
        self._arrive(group, mask, lambda copy: np.ones(copy.threads.size, bool))

    def _arrive(self, group: Group, mask: Mask, due) -> None:
        rest = []
        for copy in self._copies:
            here = due(copy)
            if mask is not None:
                here &= mask[copy.threads]
            if here.any():
                threads = group.threads(copy.threads[here])
                group.shared.end_copy(copy.offsets[here], copy.numbers[here], threads)
            if not here.all():
                left = ~here
                rest.append(
                    _Copy(
                        copy.threads[left],
                        copy.offsets[left],
                        copy.numbers[left],
                        copy.group[left],
                    )
                )
        self._copies = rest


@OPCODES.register("cp")
def _copy(instruction: Instruction, layout) -> Operation:
    modifiers = Modifiers(instruction)
    if not modifiers.flag("async"):
        raise modifiers.unsupported("of this kind")
    kind = modifiers.choice("commit_group", "wait_group", "wait_all", default="copy")
    if kind != "copy":
        modifiers.finish()
        return _copy_control(instruction, kind)
    modifiers.choice("ca", "cg")
    modifiers.flag("L2::64B", "L2::128B", "L2::256B")
    if modifiers.rest() != ("shared", "global"):
        raise modifiers.unsupported("between these memories")
    count(instruction, 3, 4)
    into, of, size, *source_size = instruction.operands
    if not isinstance(size, Immediate) or size.value not in (4, 8, 16):
        raise UnsupportedError(f"{instruction}: a copy of {size} bytes")
    to = address_of(instruction, into, "shared", layout)
    at = address_of(instruction, of, "global", layout)
    wanted = source(instruction, (source_size or [size])[0], "u32", layout)
    return _copying(instruction, size.value, to, at, wanted)


def copy_bytes(instruction: Instruction) -> int | None:
    """The size of an asynchronous copy, None for another instruction."""
    if instruction.opcode != "cp" or len(instruction.operands) < 3:
        return None
    return instruction.operands[2].value


def _copying(instruction: Instruction, size: int, to: Source, at: Source, wanted: Source):
    item = min(size, 8)

    def run(group, mask: Mask) -> None:
        registers = (*to.registers, *at.registers, *wanted.registers)
        group.expect_defined(registers, mask, "an operand of a copy")
        indices = group.indices(mask)
        threads = group.threads(indices)
        bytes_read = group.everywhere(wanted.fetch(group))[indices]
        whole = bytes_read == size
        if not (whole | (bytes_read == 0)).all():
            raise UnsupportedError(f"{instruction}: part of a number")
        numbers = np.zeros((indices.size, size // item), datatypes.unsigned(8 * item))
        if whole.any():
            some = slice(None) if whole.all() else np.flatnonzero(whole)
            addresses = group.everywhere(at.fetch(group))[indices][some]
            readers = group.threads(indices[some])
            numbers[some] = group.memory.load(addresses, item, size // item, readers)
        shared = group.everywhere(to.fetch(group))[indices]
        offsets = group.shared.begin_copy(group.slots[indices], shared, size, threads)
        group.copies.begin(indices, offsets, numbers)

    return run


def _copy_control(instruction: Instruction, kind: str) -> Operation:
    if kind == "commit_group":
        count(instruction, 0)
        return lambda group, mask: group.copies.commit(mask)
    if kind == "wait_all":
        count(instruction, 0)
        return lambda group, mask: group.copies.wait_all(group, mask)
    count(instruction, 1)
    left = instruction.operands[0]
    if not isinstance(left, Immediate):
        raise UnsupportedError(f"{instruction}: the number of groups must be a constant")
    return lambda group, mask: group.copies.wait(group, mask, left.value)
