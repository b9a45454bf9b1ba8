"""Floating-point instructions on float32 and float64.

Every result is rounded once. Approximate instructions (`.approx`, `.full`) compute the true value
and round it, which lies within the bounds that PTX documents: 1 to 2 units in the last place for
division, reciprocals and roots, 2^-22 for ex2 and lg2, 2^-20.9 absolute for sin and cos. A device
may differ from them by that much, so tolerances must leave room for it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tests.gpu.ptx import datatypes
from tests.gpu.ptx.decode import Modifiers, Opcodes, Operation, elementwise
from tests.gpu.ptx.module import Instruction
from tests.gpu.ptx.rounding import flushed, fma32, fma64, saturated

OPCODES = Opcodes()
ARITHMETIC = Opcodes()
"""Opcodes that integers have too."""

_CANONICAL_NAN = np.uint32(0x7FFFFFFF)


def _finished(
    modifiers: Modifiers, type_name: str, function: Callable, *, saturate: bool = False
) -> Callable:
    """The function with the flushing and clamping that the modifiers ask for."""
    flush = modifiers.flag("ftz")
    modifiers.finish()
    if flush and type_name != "f32":
        raise modifiers.unsupported("with .ftz")

    def adjusted(*numbers: np.ndarray) -> np.ndarray:
        if flush:
            numbers = tuple(flushed(x) for x in numbers)
        result = function(*numbers)
        if saturate:
            result = saturated(result)
        return flushed(result) if flush else result

    return adjusted if flush or saturate else function


def _build(
    instruction: Instruction,
    layout,
    function: Callable[[str], Callable],
    arity: int,
    *flags: str,
    rounded: bool = False,
) -> Operation:
    """An operation on float32 or float64; rounded ones are known to nearest even only."""
    modifiers = Modifiers(instruction)
    modifiers.flag(*flags, *(("rn",) if rounded else ()))
    saturate = rounded and modifiers.flag("sat")
    type_name = modifiers.type("f32", "f64")
    if saturate and type_name != "f32":
        raise modifiers.unsupported("with .sat")
    function = _finished(modifiers, type_name, function(type_name), saturate=saturate)
    return elementwise(instruction, layout, type_name, (type_name,) * arity, function)


@ARITHMETIC.register("add", "sub", "mul")
def _add(instruction: Instruction, layout) -> Operation:
    function = {"add": np.add, "sub": np.subtract, "mul": np.multiply}[instruction.opcode]
    return _build(instruction, layout, lambda _: function, 2, rounded=True)


@OPCODES.register("fma")
@ARITHMETIC.register("mad")
def _fused(instruction: Instruction, layout) -> Operation:
    fused = {"f32": fma32, "f64": fma64}
    return _build(instruction, layout, fused.__getitem__, 3, rounded=True)


@ARITHMETIC.register("div")
def _divide(instruction: Instruction, layout) -> Operation:
    return _build(instruction, layout, lambda _: np.divide, 2, "rn", "full", "approx")


@OPCODES.register("sqrt")
def _root(instruction: Instruction, layout) -> Operation:
    return _build(instruction, layout, lambda _: np.sqrt, 1, "rn", "approx")


@OPCODES.register("rcp")
def _reciprocal(instruction: Instruction, layout) -> Operation:
    if instruction.modifiers == ("approx", "ftz", "f64"):
        return elementwise(instruction, layout, "f64", ("f64",), _coarse(np.reciprocal))
    return _build(instruction, layout, lambda _: np.reciprocal, 1, "rn", "approx")


@OPCODES.register("rsqrt")
def _reciprocal_root(instruction: Instruction, layout) -> Operation:
    if instruction.modifiers == ("approx", "ftz", "f64"):
        return elementwise(instruction, layout, "f64", ("f64",), _coarse(_rsqrt))
    return _build(instruction, layout, lambda _: _widely(_rsqrt), 1, "approx")


def _rsqrt(x: np.ndarray) -> np.ndarray:
    return 1 / np.sqrt(x)


def _coarse(function: Callable) -> Callable:
    """On the upper halves of float64 numbers, the lower half of the result 0."""
    upper = np.uint64(0xFFFFFFFF00000000)
    smallest_normal = np.finfo(np.float64).tiny

    def of_upper_half(x: np.ndarray) -> np.ndarray:
        x = (x.view(np.uint64) & upper).view(np.float64)
        x = np.where(np.abs(x) < smallest_normal, np.copysign(0.0, x), x)
        result = function(x)
        result = np.where(np.abs(result) < smallest_normal, np.copysign(0.0, result), result)
        return (result.view(np.uint64) & upper).view(np.float64)

    return of_upper_half


def _widely(function: Callable) -> Callable:
    """Computed in float64 and rounded."""
    return lambda x: function(x.astype(np.float64)).astype(x.dtype)


@OPCODES.register("ex2", "lg2", "sin", "cos", "tanh")
def _approximate(instruction: Instruction, layout) -> Operation:
    function = {
        "ex2": np.exp2,
        "lg2": np.log2,
        "sin": np.sin,
        "cos": np.cos,
        "tanh": np.tanh,
    }[instruction.opcode]
    modifiers = Modifiers(instruction)
    modifiers.choice("approx")
    type_name = modifiers.type("f32")
    function = _finished(modifiers, type_name, _widely(function))
    return elementwise(instruction, layout, type_name, (type_name,), function)


@ARITHMETIC.register("neg", "abs")
def _sign(instruction: Instruction, layout) -> Operation:
    function = np.negative if instruction.opcode == "neg" else np.abs
    return _build(instruction, layout, lambda _: function, 1)


@ARITHMETIC.register("min", "max")
def _extreme(instruction: Instruction, layout) -> Operation:
    modifiers = Modifiers(instruction)
    propagate = modifiers.flag("NaN")
    type_name = modifiers.type("f32", "f64")
    if propagate and type_name != "f32":
        raise modifiers.unsupported("with .NaN")
    function = smallest if instruction.opcode == "min" else largest
    finished = _finished(modifiers, type_name, _with_nan(function) if propagate else function)
    return elementwise(instruction, layout, type_name, (type_name, type_name), finished)


def smallest(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The smaller one, -0 below +0; a number rather than NaN."""
    bits = datatypes.unsigned(8 * a.dtype.itemsize)
    zeros = (a == 0) & (b == 0)
    return np.where(zeros, (a.view(bits) | b.view(bits)).view(a.dtype), np.fmin(a, b))


def largest(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The larger one, -0 below +0; a number rather than NaN."""
    bits = datatypes.unsigned(8 * a.dtype.itemsize)
    zeros = (a == 0) & (b == 0)
    return np.where(zeros, (a.view(bits) & b.view(bits)).view(a.dtype), np.fmax(a, b))


def _with_nan(function: Callable) -> Callable:
    def extreme(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        nan = np.isnan(a) | np.isnan(b)
        return np.where(nan, _CANONICAL_NAN.view(np.float32), function(a, b))

    return extreme


@OPCODES.register("copysign")
def _copysign(instruction: Instruction, layout) -> Operation:
    # The first source gives the sign.
    return _build(instruction, layout, lambda _: lambda sign, x: np.copysign(x, sign), 2)


@OPCODES.register("testp")
def _test(instruction: Instruction, layout) -> Operation:
    modifiers = Modifiers(instruction)
    what = modifiers.choice("finite", "infinite", "number", "notanumber")
    type_name = modifiers.type("f32", "f64")
    modifiers.finish()
    function = {
        "finite": np.isfinite,
        "infinite": np.isinf,
        "number": lambda x: ~np.isnan(x),
        "notanumber": np.isnan,
    }[what]
    return elementwise(instruction, layout, "pred", (type_name,), function)
