"""Instructions that the lanes of a warp execute together."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tests.gpu.ptx.decode import (
    Mask,
    Modifiers,
    Opcodes,
    Operation,
    Source,
    count,
    destination,
    source,
)
from tests.gpu.ptx.errors import ConvergenceError
from tests.gpu.ptx.module import Instruction, Pair, Sink
from tests.gpu.ptx.races import WARP

OPCODES = Opcodes()

_LANES = np.arange(WARP)
_BITS = np.uint32(1) << _LANES.astype(np.uint32)
ALL_LANES = 2**WARP - 1


def by_warp(group, value: np.ndarray) -> np.ndarray:
    """One row for each warp, one column for each lane."""
    return group.everywhere(value).reshape(-1, WARP)


def active_lanes(group, mask: Mask) -> np.ndarray:
    """Which lanes execute, by warp."""
    return by_warp(group, np.ones(1, bool) if mask is None else mask)


def members(group, mask: Mask, named: np.ndarray) -> np.ndarray:
    """The lanes named by each lane's member mask, by warp; each row those of its active lanes.

    Raises:
        ConvergenceError: If the lanes that execute name different masks or not themselves.
    """
    active = active_lanes(group, mask)
    masks = by_warp(group, named)
    first = masks[np.arange(len(masks)), active.argmax(axis=1)]
    if (active & (masks != first[:, None])).any():
        raise ConvergenceError("lanes of one warp name different member masks")
    lanes = (first[:, None] & _BITS) != 0
    if (active & ~lanes).any():
        raise ConvergenceError("a lane executes that its member mask does not name")
    return lanes & active.any(axis=1)[:, None]


def member_operand(instruction: Instruction, layout) -> Source:
    """The member mask of an instruction: its last operand."""
    return source(instruction, instruction.operands[-1], "b32", layout)


@OPCODES.register("shfl")
def _shuffle(instruction: Instruction, layout) -> Operation:
    modifiers = Modifiers(instruction)
    modifiers.choice("sync")
    mode = modifiers.choice("up", "down", "bfly", "idx")
    modifiers.type("b32")
    modifiers.finish()
    count(instruction, 5)
    into = instruction.operands[0]
    value_of, found_of = (into.first, into.second) if isinstance(into, Pair) else (into, Sink())
    target = destination(instruction, value_of, "b32")
    found = destination(instruction, found_of, "pred")
    value, by, clamp = (
        source(instruction, operand, kind, layout)
        for operand, kind in zip(instruction.operands[1:4], ("b32", "u32", "u32"), strict=True)
    )

    def run(group, mask: Mask) -> None:
        group.expect_defined((*by.registers, *clamp.registers), mask, "the lane of a shuffle")
        lane, inside = source_lane(
            mode,
            by_warp(group, by.fetch(group)).astype(np.int64),
            by_warp(group, clamp.fetch(group)).astype(np.int64),
        )
        active = active_lanes(group, mask)
        read = np.take_along_axis(active, lane, axis=1)
        if (active & ~read).any():
            raise ConvergenceError(f"{instruction}: a lane reads one that does not execute")
        result = np.take_along_axis(by_warp(group, value.fetch(group)), lane, axis=1).ravel()
        undefined = group.undefined(value.registers)
        if undefined is not None:
            undefined = np.take_along_axis(by_warp(group, undefined), lane, axis=1).ravel()
        if target is not None:
            group.write(target, result, mask, undefined)
        if found is not None:
            group.write(found, inside.ravel(), mask)

    return run


def source_lane(mode: str, by: np.ndarray, clamp: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The lane that each lane reads, and whether it lies in the lane's own segment."""
    segment = (clamp >> 8) & 31
    last = (_LANES & segment) | (clamp & 31 & ~segment)
    by = by & 31
    if mode == "up":
        lane = _LANES - by
        inside = lane >= last
    else:
        lane = {
            "down": _LANES + by,
            "bfly": _LANES ^ by,
            "idx": (_LANES & segment) | (by & ~segment),
        }[mode]
        inside = lane <= last
    return np.where(inside, lane, _LANES), inside


@OPCODES.register("vote")
def _vote(instruction: Instruction, layout) -> Operation:
    modifiers = Modifiers(instruction)
    modifiers.choice("sync")
    mode = modifiers.choice("all", "any", "uni", "ballot")
    out = modifiers.type("b32" if mode == "ballot" else "pred")
    modifiers.finish()
    count(instruction, 3)
    target = destination(instruction, instruction.operands[0], out)
    ballot = source(instruction, instruction.operands[1], "pred", layout)

    def run(group, mask: Mask) -> None:
        group.expect_defined(ballot.registers, mask, "a vote")
        lanes = active_lanes(group, mask)
        votes = by_warp(group, ballot.fetch(group))
        if target is not None:
            result = np.repeat(_counted(mode, votes, lanes), WARP)
            group.write(target, result, mask)

    return run


def _counted(mode: str, votes: np.ndarray, lanes: np.ndarray) -> np.ndarray:
    yes = votes & lanes
    if mode == "ballot":
        return np.where(yes, _BITS, np.uint32(0)).sum(axis=1, dtype=np.uint32)
    if mode == "any":
        return yes.any(axis=1)
    every = (votes | ~lanes).all(axis=1)
    return every if mode == "all" else every | ~yes.any(axis=1)


@OPCODES.register("redux")
def _reduce(instruction: Instruction, layout) -> Operation:
    modifiers = Modifiers(instruction)
    modifiers.choice("sync")
    name = modifiers.choice("add", "min", "max", "and", "or", "xor")
    bitwise = name in ("and", "or", "xor")
    type_name = modifiers.type(*(("b32",) if bitwise else ("u32", "s32")))
    modifiers.finish()
    count(instruction, 3)
    target = destination(instruction, instruction.operands[0], type_name)
    value = source(instruction, instruction.operands[1], type_name, layout)
    reduce: Callable = {
        "add": np.add,
        "min": np.minimum,
        "max": np.maximum,
        "and": np.bitwise_and,
        "or": np.bitwise_or,
        "xor": np.bitwise_xor,
    }[name]

    def run(group, mask: Mask) -> None:
        group.expect_defined(value.registers, mask, "a number of a warp's sum")
        lanes = active_lanes(group, mask)
        numbers = by_warp(group, value.fetch(group))
        result = np.zeros(len(lanes), numbers.dtype)
        for warp in np.flatnonzero(lanes.any(axis=1)):
            result[warp] = reduce.reduce(numbers[warp, lanes[warp]], dtype=numbers.dtype)
        if target is not None:
            group.write(target, np.repeat(result, WARP).view(np.uint32), mask)

    return run


@OPCODES.register("activemask")
def _active(instruction: Instruction, layout) -> Operation:
    modifiers = Modifiers(instruction)
    modifiers.type("b32")
    modifiers.finish()
    count(instruction, 1)
    target = destination(instruction, instruction.operands[0], "b32")

    def run(group, mask: Mask) -> None:
        lanes = active_lanes(group, mask)
        bits = np.where(lanes, _BITS, np.uint32(0)).sum(axis=1, dtype=np.uint32)
        group.write(target, np.repeat(bits, WARP), mask)

    return run
