"""Branches, barriers and fences."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np

from tests.gpu.ptx.decode import Modifiers, Opcodes, Operation, Source, count
from tests.gpu.ptx.errors import KernelError, UnsupportedError
from tests.gpu.ptx.module import Entry, Immediate, Instruction, Symbol
from tests.gpu.ptx.warps import ALL_LANES, member_operand

OPCODES = Opcodes()
"""What control flow needs no part of the machine for."""


class Kind(Enum):
    """How the machine treats a step."""

    PLAIN = "each thread by itself"
    COLLECTIVE = "a warp together"
    BARRIER = "a block together"
    BRANCH = "go elsewhere"
    EXIT = "end"


@dataclass(frozen=True)
class Flow:
    """What the machine must know of an instruction that is not plain."""

    kind: Kind
    target: int = -1
    members: Source | None = None


_EVERY_LANE = Source(lambda group: np.array([ALL_LANES], np.uint32))


def flow(instruction: Instruction, entry: Entry, layout) -> Flow:
    """The kind of an instruction, its target and the lanes it needs."""
    match instruction.opcode:
        case "bra":
            return Flow(Kind.BRANCH, target=_target(instruction, entry))
        case "ret" | "exit":
            Modifiers(instruction).finish()
            count(instruction, 0)
            return Flow(Kind.EXIT)
        case "bar" | "barrier" if instruction.modifiers[:1] != ("warp",):
            _check_barrier(instruction)
            return Flow(Kind.BARRIER)
        case "bar" | "shfl" | "vote" | "redux":
            return Flow(Kind.COLLECTIVE, members=member_operand(instruction, layout))
        case "ldmatrix" | "mma":
            return Flow(Kind.COLLECTIVE, members=_EVERY_LANE)
    return Flow(Kind.PLAIN)


def _target(instruction: Instruction, entry: Entry) -> int:
    modifiers = Modifiers(instruction)
    modifiers.flag("uni")
    modifiers.finish()
    count(instruction, 1)
    label = instruction.operands[0]
    if not isinstance(label, Symbol) or label.name not in entry.labels:
        raise UnsupportedError(f"{instruction}: there is no label {label}")
    return entry.labels[label.name]


def _check_barrier(instruction: Instruction) -> None:
    modifiers = Modifiers(instruction)
    modifiers.flag("cta")
    modifiers.choice("sync")
    if instruction.opcode == "barrier":
        modifiers.flag("aligned")
    modifiers.finish()
    # A number of threads would make it a barrier of part of the block.
    count(instruction, 1)
    if not isinstance(instruction.operands[0], Immediate):
        raise UnsupportedError(f"{instruction}: the barrier must be a constant")


@OPCODES.register("bar")
def _warp_barrier(instruction: Instruction, layout) -> Operation:
    modifiers = Modifiers(instruction)
    modifiers.choice("warp")
    modifiers.choice("sync")
    modifiers.finish()
    count(instruction, 1)
    return lambda group, mask: group.pass_warp_barrier(mask)


@OPCODES.register("membar", "fence")
def _fence(instruction: Instruction, layout) -> Operation:
    modifiers = Modifiers(instruction)
    modifiers.flag("sc", "acq_rel", "cta", "gpu", "gl", "sys")
    modifiers.finish()
    count(instruction, 0)
    # Threads take turns here, so memory is in order; a fence alone orders no race away.
    return lambda group, mask: None


@OPCODES.register("trap")
def _trap(instruction: Instruction, layout) -> Operation:
    Modifiers(instruction).finish()

    def run(group, mask) -> None:
        raise KernelError("the kernel stops itself")

    return run
