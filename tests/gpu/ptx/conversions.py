"""The instruction cvt, and conversions of addresses."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tests.gpu.ptx import datatypes
from tests.gpu.ptx.decode import (
    Modifiers,
    Opcodes,
    Operation,
    Source,
    computed,
    count,
    destination,
    elementwise,
    source,
)
from tests.gpu.ptx.errors import UnsupportedError
from tests.gpu.ptx.module import Instruction, Register
from tests.gpu.ptx.rounding import (
    flushed,
    from_bfloat16,
    narrowed,
    saturated,
    to_bfloat16,
    to_tf32,
)

OPCODES = Opcodes()

_INTEGERS = tuple(f"{kind}{width}" for kind in "us" for width in (8, 16, 32, 64))
_FLOATS = ("f16", "bf16", "f32", "f64")
_TO_INTEGRAL = {"rni": np.rint, "rzi": np.trunc, "rmi": np.floor, "rpi": np.ceil}


@OPCODES.register("cvt")
def _convert(instruction: Instruction, layout) -> Operation:
    modifiers = Modifiers(instruction)
    rounding = modifiers.choice("rn", "rz", "rm", "rp", "rna", *_TO_INTEGRAL, default="")
    flush, saturate = modifiers.flag("ftz"), modifiers.flag("sat")
    to, of = modifiers.rest() if len(instruction.modifiers) >= 2 else ("", "")
    if (to, of) in (("bf16x2", "f32"), ("f16x2", "f32")) and rounding == "rn":
        if flush or saturate:
            raise modifiers.unsupported("in this form")
        return _converted_pair(instruction, layout, to)
    if (to, of) == ("tf32", "f32") and rounding == "rna" and not (flush or saturate):
        return elementwise(instruction, layout, "tf32", ("f32",), _bits_of(to_tf32))
    function = conversion(to, of, rounding, saturate=saturate)
    if function is None or (flush and "f32" not in (to, of)):
        raise modifiers.unsupported("in this form")
    return _wide_operands(instruction, layout, to, of, _flushing(function, to, of, flush))


def conversion(to: str, of: str, rounding: str, *, saturate: bool = False) -> Callable | None:
    """The conversion between two types; None if this rounding is not known for them."""
    if of in _INTEGERS and to in _INTEGERS:
        return _between_integers(to, saturate) if not rounding else None
    if of in _INTEGERS and to in ("f32", "f64", "f16"):
        # NumPy converts to the nearest even number.
        dtype = datatypes.arithmetic(to)
        return (lambda x: x.astype(dtype)) if rounding == "rn" and not saturate else None
    if of in _FLOATS and to in _INTEGERS:
        if rounding not in _TO_INTEGRAL:
            return None
        return lambda x: to_integer(_TO_INTEGRAL[rounding](_as_numbers(x, of)), to, of)
    if of in _FLOATS and to in _FLOATS:
        function = _between_floats(to, of, rounding)
        if function is None or not saturate:
            return function
        return (lambda x: saturated(function(x))) if to in ("f32", "f64") else None
    return None


def _as_numbers(x: np.ndarray, of: str) -> np.ndarray:
    return from_bfloat16(x) if of == "bf16" else x


def _bits_of(function: Callable) -> Callable:
    return lambda x: function(x).view(np.uint32)


def _between_integers(to: str, saturate: bool) -> Callable:
    dtype = datatypes.arithmetic(to)
    if not saturate:
        # To more bits with the sign of the source, to fewer by dropping bits.
        return lambda x: x.astype(dtype)
    limits = np.iinfo(dtype)

    def clamp(x: np.ndarray) -> np.ndarray:
        own = np.iinfo(x.dtype)
        low, high = max(limits.min, own.min), min(limits.max, own.max)
        return np.clip(x, x.dtype.type(low), x.dtype.type(high)).astype(dtype)

    return clamp


def to_integer(x: np.ndarray, to: str, of: str) -> np.ndarray:
    """Integral floats clamped to the range of an integer type.

    NaN becomes 0, but the smallest signed number of its bits where 64 bits are involved.
    """
    dtype = datatypes.arithmetic(to)
    limits = np.iinfo(dtype)
    below = x < float(limits.min)
    # The largest integer of 64 bits rounds up to a float that is out of range already.
    above = x >= float(limits.max) if datatypes.WIDTHS[to] == 64 else x > float(limits.max)
    nan = np.isnan(x)
    inside = np.where(below | above | nan, x.dtype.type(0), x).astype(dtype)
    result = np.where(below, dtype(limits.min), np.where(above, dtype(limits.max), inside))
    width = datatypes.WIDTHS[to]
    of_nan = 1 << (width - 1) if width == 64 or of == "f64" else 0
    bits = np.array([of_nan], datatypes.unsigned(width)).view(dtype)
    return np.where(nan, bits, result)


def _between_floats(to: str, of: str, rounding: str) -> Callable | None:
    if to == of:
        integral = _TO_INTEGRAL.get(rounding)
        return integral if to in ("f32", "f64") else None
    if to == "bf16":
        return to_bfloat16 if of == "f32" and rounding == "rn" else None
    if of == "bf16":
        return from_bfloat16 if to == "f32" and not rounding else None
    order = ("f16", "f32", "f64")
    if order.index(to) > order.index(of):
        dtype = datatypes.arithmetic(to)
        return (lambda x: x.astype(dtype)) if not rounding else None
    if to == "f32":
        return (lambda x: narrowed(x, rounding)) if rounding in ("rn", "rz", "rm", "rp") else None
    return (lambda x: x.astype(np.float16)) if rounding == "rn" else None


def _flushing(function: Callable, to: str, of: str, flush: bool) -> Callable:
    if not flush:
        return function

    def convert(x: np.ndarray) -> np.ndarray:
        result = function(flushed(x) if of == "f32" else x)
        return flushed(result) if to == "f32" else result

    return convert


def _wide_operands(
    instruction: Instruction, layout, to: str, of: str, function: Callable
) -> Operation:
    """cvt reads the low bits of a wider register, and extends into one."""
    count(instruction, 2)
    target, operand = instruction.operands
    read = source(instruction, operand, of, layout, wider=True)
    if not isinstance(target, Register) or target.type == "pred":
        raise UnsupportedError(f"{instruction}: result {target}")
    if datatypes.WIDTHS[target.type] == datatypes.WIDTHS[to]:
        return computed(target.index, to, [read], function)
    if datatypes.is_float(to) or datatypes.WIDTHS[target.type] < datatypes.WIDTHS[to]:
        raise UnsupportedError(f"{instruction}: result of type {target.type}")
    extended = f"{to[0]}{datatypes.WIDTHS[target.type]}"
    dtype = datatypes.arithmetic(extended)
    return computed(target.index, extended, [read], lambda x: function(x).astype(dtype))


def _converted_pair(instruction: Instruction, layout, to: str) -> Operation:
    count(instruction, 3)
    upper, lower = (source(instruction, x, "f32", layout) for x in instruction.operands[1:])

    def bits(x: np.ndarray) -> np.ndarray:
        half = to_bfloat16(x) if to == "bf16x2" else x.astype(np.float16).view(np.uint16)
        return half.astype(np.uint32)

    into = destination(instruction, instruction.operands[0], to)
    return computed(into, "b32", [upper, lower], lambda a, b: (bits(a) << np.uint32(16)) | bits(b))


@OPCODES.register("cvta")
def _convert_address(instruction: Instruction, layout) -> Operation:
    modifiers = Modifiers(instruction)
    to_space = modifiers.flag("to")
    space = modifiers.choice("global", "shared", "local", "const")
    modifiers.type("u64")
    modifiers.finish()
    count(instruction, 2)
    into, operand = instruction.operands
    read: Source = source(instruction, operand, "u64", layout)
    window = np.uint64(layout.window(space))
    function = (lambda x: x - window) if to_space else (lambda x: x + window)
    return computed(destination(instruction, into, "u64"), "u64", [read], function)
