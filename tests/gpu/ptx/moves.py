"""Comparisons, selections and moves."""

from __future__ import annotations

import operator
from collections.abc import Callable

import numpy as np

from tests.gpu.ptx import datatypes
from tests.gpu.ptx.decode import (
    Mask,
    Modifiers,
    Opcodes,
    Operation,
    computed,
    count,
    destination,
    elementwise,
    source,
)
from tests.gpu.ptx.errors import UnsupportedError
from tests.gpu.ptx.module import Instruction, Pair, Sink, Vector
from tests.gpu.ptx.rounding import flushed

OPCODES = Opcodes()

_ORDERED = {
    "eq": operator.eq,
    "ne": operator.ne,
    "lt": operator.lt,
    "le": operator.le,
    "gt": operator.gt,
    "ge": operator.ge,
}
_UNSIGNED_NAMES = {"lo": "lt", "ls": "le", "hi": "gt", "hs": "ge"}
_BITS = ("b16", "b32", "b64")
_NUMBERS = (*(f"{kind}{width}" for kind in "us" for width in (16, 32, 64)), "f32", "f64")


def comparison(name: str, type_name: str) -> Callable[[np.ndarray, np.ndarray], np.ndarray] | None:
    """The comparison of this name for this type; None if it has none.

    Of floats the plain ones are false for NaN (`ne` too), those with a u at the end true.
    """
    if type_name in _BITS:
        return _ORDERED[name] if name in ("eq", "ne") else None
    if not datatypes.is_float(type_name):
        if type_name.startswith("u"):
            name = _UNSIGNED_NAMES.get(name, name)
        return _ORDERED.get(name)
    if name == "num":
        return lambda a, b: ~(np.isnan(a) | np.isnan(b))
    if name == "nan":
        return lambda a, b: np.isnan(a) | np.isnan(b)
    if name == "ne":
        return lambda a, b: (a != b) & ~(np.isnan(a) | np.isnan(b))
    if name in _ORDERED:
        return _ORDERED[name]
    if name.endswith("u") and name[:-1] in _ORDERED:
        compare = _ORDERED[name[:-1]]
        return lambda a, b: compare(a, b) | np.isnan(a) | np.isnan(b)
    return None


@OPCODES.register("setp")
def _set_predicate(instruction: Instruction, layout) -> Operation:
    modifiers = Modifiers(instruction)
    type_name = modifiers.type(*_BITS, *_NUMBERS)
    flush = modifiers.flag("ftz")
    combine_name = modifiers.choice("and", "or", "xor", default="")
    name, *left = modifiers.rest()
    compare = comparison(name, type_name)
    if compare is None or left or (flush and type_name != "f32"):
        raise modifiers.unsupported("in this form")
    count(instruction, 4 if combine_name else 3)
    into, *operands = instruction.operands
    first, second = (into.first, into.second) if isinstance(into, Pair) else (into, Sink())
    inputs = [source(instruction, x, type_name, layout) for x in operands[:2]]
    if combine_name:
        inputs.append(source(instruction, operands[2], "pred", layout))
    combine = {"and": operator.and_, "or": operator.or_, "xor": operator.xor}.get(combine_name)

    def result(*numbers: np.ndarray, opposite: bool) -> np.ndarray:
        a, b = (flushed(x) for x in numbers[:2]) if flush else numbers[:2]
        holds = compare(a, b) ^ opposite
        return combine(holds, numbers[2]) if combine else holds

    if isinstance(second, Sink):
        return computed(
            destination(instruction, first, "pred"),
            "pred",
            inputs,
            compare if not (flush or combine) else lambda *x: result(*x, opposite=False),
        )
    registers = tuple(index for x in inputs for index in x.registers)
    targets = [destination(instruction, x, "pred") for x in (first, second)]

    def run(group, mask: Mask) -> None:
        numbers = [x.fetch(group) for x in inputs]
        undefined = group.undefined(registers)
        # Both are computed before either is written: a target may be a source.
        both = [result(*numbers, opposite=opposite) for opposite in (False, True)]
        for target, value in zip(targets, both, strict=True):
            if target is not None:
                group.write(target, value, mask, undefined)

    return run


@OPCODES.register("selp")
def _select(instruction: Instruction, layout) -> Operation:
    modifiers = Modifiers(instruction)
    type_name = modifiers.type(*_BITS, *_NUMBERS)
    modifiers.finish()
    count(instruction, 4)
    into = destination(instruction, instruction.operands[0], type_name)
    a, b = (source(instruction, x, type_name, layout) for x in instruction.operands[1:3])
    which = source(instruction, instruction.operands[3], "pred", layout)
    stored = datatypes.storage(type_name)

    def run(group, mask: Mask) -> None:
        if into is None:
            return
        chosen = which.fetch(group)
        value = np.where(chosen, a.fetch(group), b.fetch(group)).view(stored)
        undefined = group.undefined(which.registers)
        of_a, of_b = group.undefined(a.registers), group.undefined(b.registers)
        if of_a is not None or of_b is not None:
            # The number that is not chosen may be undefined.
            of_chosen = np.where(chosen, of_a is not None and of_a, of_b is not None and of_b)
            undefined = of_chosen if undefined is None else undefined | of_chosen
        group.write(into, value, mask, undefined)

    return run


@OPCODES.register("mov")
def _move(instruction: Instruction, layout) -> Operation:
    modifiers = Modifiers(instruction)
    type_name = modifiers.type()
    modifiers.finish()
    count(instruction, 2)
    into, value = instruction.operands
    if isinstance(into, Vector):
        return _unpacked(instruction, into, type_name, layout)
    if isinstance(value, Vector):
        return _packed(instruction, value, type_name, layout)
    return elementwise(instruction, layout, type_name, (type_name,), lambda x: x)


def _part(instruction: Instruction, vector: Vector, type_name: str) -> str:
    """The type of one of the equal parts of a number."""
    width = datatypes.WIDTHS[type_name] // len(vector.items)
    if type_name not in _BITS or width not in (8, 16, 32):
        raise UnsupportedError(f"{instruction}: {len(vector.items)} parts")
    return f"b{width}"


def _unpacked(instruction: Instruction, into: Vector, type_name: str, layout) -> Operation:
    part = _part(instruction, into, type_name)
    width = datatypes.WIDTHS[part]
    targets = [destination(instruction, x, part) for x in into.items]
    whole = source(instruction, instruction.operands[1], type_name, layout)
    stored = datatypes.storage(part)

    def run(group, mask: Mask) -> None:
        bits = whole.fetch(group)
        undefined = group.undefined(whole.registers)
        for place, target in enumerate(targets):
            if target is not None:
                piece = (bits >> bits.dtype.type(place * width)).astype(stored)
                group.write(target, piece, mask, undefined)

    return run


def _packed(instruction: Instruction, value: Vector, type_name: str, layout) -> Operation:
    part = _part(instruction, value, type_name)
    width = datatypes.WIDTHS[part]
    stored = datatypes.storage(type_name)
    pieces = [source(instruction, x, part, layout) for x in value.items]

    def pack(*numbers: np.ndarray) -> np.ndarray:
        result = stored(0)
        for place, piece in enumerate(numbers):
            result = result | (piece.astype(stored) << stored(place * width))
        return result

    into = destination(instruction, instruction.operands[0], type_name)
    return computed(into, type_name, pieces, pack)
