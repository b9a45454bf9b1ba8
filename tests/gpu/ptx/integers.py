"""Integer and bitwise instructions."""

from __future__ import annotations

import numpy as np

from tests.gpu.ptx import datatypes
from tests.gpu.ptx.decode import Modifiers, Opcodes, Operation, elementwise
from tests.gpu.ptx.errors import UnsupportedError
from tests.gpu.ptx.floats import ARITHMETIC as FLOAT_ARITHMETIC
from tests.gpu.ptx.module import Immediate, Instruction

OPCODES = Opcodes()

_INTEGERS = ("u16", "u32", "u64", "s16", "s32", "s64")


def _shared_with_floats(instruction: Instruction, layout) -> Operation | None:
    """The same opcode on floats has its own builder."""
    last = instruction.modifiers[-1] if instruction.modifiers else ""
    if last in datatypes.WIDTHS and datatypes.is_float(last):
        return FLOAT_ARITHMETIC[instruction.opcode](instruction, layout)
    return None


@OPCODES.register("add", "sub", "min", "max", "div", "rem")
def _binary(instruction: Instruction, layout) -> Operation:
    if operation := _shared_with_floats(instruction, layout):
        return operation
    modifiers = Modifiers(instruction)
    type_name = modifiers.type(*_INTEGERS)
    modifiers.finish()
    function = {
        "add": np.add,
        "sub": np.subtract,
        "min": np.minimum,
        "max": np.maximum,
        "div": quotient,
        "rem": remainder,
    }[instruction.opcode]
    return elementwise(instruction, layout, type_name, (type_name, type_name), function)


@OPCODES.register("neg", "abs")
def _unary(instruction: Instruction, layout) -> Operation:
    if operation := _shared_with_floats(instruction, layout):
        return operation
    modifiers = Modifiers(instruction)
    type_name = modifiers.type("s16", "s32", "s64")
    modifiers.finish()
    function = np.negative if instruction.opcode == "neg" else np.abs
    return elementwise(instruction, layout, type_name, (type_name,), function)


def quotient(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a / b rounded to zero; of a division by zero, which PTX leaves open, all bits are 1."""
    zero = b == 0
    floor = a // np.where(zero, b.dtype.type(1), b)
    rest = a - floor * b
    towards_zero = floor + ((rest != 0) & ((a < 0) != (b < 0))).astype(a.dtype)
    return np.where(zero, ~a.dtype.type(0), towards_zero)


def remainder(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """What `quotient` leaves, with the sign of a; a itself for b = 0."""
    return np.where(b == 0, a, a - quotient(a, b) * b)


def high(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The upper half of a product of twice the width."""
    width = a.dtype.itemsize * 8
    if width < 64:
        wide = np.int64 if a.dtype.kind == "i" else np.uint64
        return ((a.astype(wide) * b.astype(wide)) >> wide(width)).astype(a.dtype)
    x, y = a.view(np.uint64), b.view(np.uint64)
    mask, half = np.uint64(0xFFFFFFFF), np.uint64(32)
    x0, x1, y0, y1 = x & mask, x >> half, y & mask, y >> half
    middle = x1 * y0 + ((x0 * y0) >> half)
    carry = (middle & mask) + x0 * y1
    result = x1 * y1 + (middle >> half) + (carry >> half)
    if a.dtype.kind == "i":
        result = result - np.where(a < 0, y, np.uint64(0)) - np.where(b < 0, x, np.uint64(0))
    return result.view(a.dtype)


def wide(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The product in twice the width."""
    double = np.dtype(f"{a.dtype.kind}{2 * a.dtype.itemsize}")
    return a.astype(double) * b.astype(double)


@OPCODES.register("mul", "mad")
def _multiply(instruction: Instruction, layout) -> Operation:
    if operation := _shared_with_floats(instruction, layout):
        return operation
    modifiers = Modifiers(instruction)
    part = modifiers.choice("lo", "hi", "wide")
    type_name = modifiers.type(*_INTEGERS)
    modifiers.finish()
    out = type_name
    if part == "wide":
        if datatypes.WIDTHS[type_name] == 64:
            raise modifiers.unsupported("of 64 bits")
        out = f"{type_name[0]}{2 * datatypes.WIDTHS[type_name]}"
    product = {"lo": np.multiply, "hi": high, "wide": wide}[part]
    if instruction.opcode == "mul":
        return elementwise(instruction, layout, out, (type_name, type_name), product)
    return elementwise(
        instruction, layout, out, (type_name, type_name, out), lambda a, b, c: product(a, b) + c
    )


@OPCODES.register("and", "or", "xor")
def _bitwise(instruction: Instruction, layout) -> Operation:
    modifiers = Modifiers(instruction)
    type_name = modifiers.type("pred", "b16", "b32", "b64")
    modifiers.finish()
    function = {"and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor}
    return elementwise(
        instruction, layout, type_name, (type_name, type_name), function[instruction.opcode]
    )


@OPCODES.register("not")
def _not(instruction: Instruction, layout) -> Operation:
    modifiers = Modifiers(instruction)
    type_name = modifiers.type("pred", "b16", "b32", "b64")
    modifiers.finish()
    return elementwise(instruction, layout, type_name, (type_name,), np.invert)


@OPCODES.register("shl", "shr")
def _shift(instruction: Instruction, layout) -> Operation:
    modifiers = Modifiers(instruction)
    kinds = "b" if instruction.opcode == "shl" else "bus"
    type_name = modifiers.type(*(f"{kind}{width}" for kind in kinds for width in (16, 32, 64)))
    modifiers.finish()
    function = shifted_left if instruction.opcode == "shl" else shifted_right
    return elementwise(instruction, layout, type_name, (type_name, "u32"), function)


def shifted_left(a: np.ndarray, by: np.ndarray) -> np.ndarray:
    """Shifts by the width or more leave 0."""
    width = a.dtype.itemsize * 8
    shifted = a << np.minimum(by, np.uint32(width - 1)).astype(a.dtype)
    return np.where(by < width, shifted, a.dtype.type(0))


def shifted_right(a: np.ndarray, by: np.ndarray) -> np.ndarray:
    """Shifts by the width or more leave nothing but the sign."""
    width = a.dtype.itemsize * 8
    shifted = a >> np.minimum(by, np.uint32(width - 1)).astype(a.dtype)
    return shifted if a.dtype.kind == "i" else np.where(by < width, shifted, a.dtype.type(0))


@OPCODES.register("shf")
def _funnel(instruction: Instruction, layout) -> Operation:
    modifiers = Modifiers(instruction)
    direction = modifiers.choice("l", "r")
    mode = modifiers.choice("wrap", "clamp")
    modifiers.type("b32")
    modifiers.finish()

    def function(low: np.ndarray, top: np.ndarray, by: np.ndarray) -> np.ndarray:
        by = by & np.uint32(31) if mode == "wrap" else np.minimum(by, np.uint32(32))
        both = (top.astype(np.uint64) << np.uint64(32)) | low
        if direction == "r":
            return (both >> by.astype(np.uint64)).astype(np.uint32)
        return ((both << by.astype(np.uint64)) >> np.uint64(32)).astype(np.uint32)

    return elementwise(instruction, layout, "b32", ("b32", "b32", "u32"), function)


@OPCODES.register("bfe")
def _extract(instruction: Instruction, layout) -> Operation:
    modifiers = Modifiers(instruction)
    type_name = modifiers.type("u32", "u64", "s32", "s64")
    modifiers.finish()
    return elementwise(instruction, layout, type_name, (type_name, "u32", "u32"), extracted)


def extracted(a: np.ndarray, position: np.ndarray, length: np.ndarray) -> np.ndarray:
    """The field of `length` bits at `position`, with the sign of its top bit if a is signed."""
    width = a.dtype.itemsize * 8
    position, length = position & np.uint32(255), length & np.uint32(255)
    bits = shifted_right(a.view(datatypes.unsigned(width)), position)
    # A field that sticks out over the top takes the sign of the whole.
    length = np.minimum(length, width - np.minimum(position, np.uint32(width - 1)))
    unused = (width - length).astype(np.uint32)
    if a.dtype.kind == "u":
        return shifted_right(shifted_left(bits, unused), unused)
    field = shifted_right(shifted_left(bits, unused).view(a.dtype), unused)
    outside = np.where((a < 0) & (length > 0), a.dtype.type(-1), a.dtype.type(0))
    return np.where(length == 0, a.dtype.type(0), np.where(position >= width, outside, field))


@OPCODES.register("bfi")
def _insert(instruction: Instruction, layout) -> Operation:
    modifiers = Modifiers(instruction)
    type_name = modifiers.type("b32", "b64")
    modifiers.finish()
    return elementwise(
        instruction, layout, type_name, (type_name, type_name, "u32", "u32"), inserted
    )


def inserted(
    field: np.ndarray, into: np.ndarray, position: np.ndarray, length: np.ndarray
) -> np.ndarray:
    """`into` with `length` bits from `position` on taken from the bottom of `field`."""
    one = into.dtype.type(1)
    position, length = position & np.uint32(255), length & np.uint32(255)
    ones = shifted_left(one, length) - one
    place = shifted_left(ones, position)
    return (into & ~place) | (shifted_left(field, position) & place)


@OPCODES.register("lop3")
def _lookup(instruction: Instruction, layout) -> Operation:
    modifiers = Modifiers(instruction)
    modifiers.type("b32")
    modifiers.finish()
    table = instruction.operands[-1]
    if not isinstance(table, Immediate):
        raise UnsupportedError(f"{instruction}: the table must be a constant")
    bits = table.value
    plain = Instruction(
        instruction.opcode,
        instruction.modifiers,
        instruction.operands[:-1],
        instruction.guard,
        instruction.negated,
        instruction.line,
    )

    def function(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
        result = np.zeros(np.broadcast_shapes(a.shape, b.shape, c.shape), np.uint32)
        for row in range(8):
            if bits >> row & 1:
                x = a if row & 4 else ~a
                y = b if row & 2 else ~b
                z = c if row & 1 else ~c
                result |= x & y & z
        return result

    return elementwise(plain, layout, "b32", ("b32", "b32", "b32"), function)


@OPCODES.register("prmt")
def _permute(instruction: Instruction, layout) -> Operation:
    modifiers = Modifiers(instruction)
    modifiers.type("b32")
    modifiers.finish()
    return elementwise(instruction, layout, "b32", ("b32", "b32", "b32"), permuted)


def permuted(a: np.ndarray, b: np.ndarray, selector: np.ndarray) -> np.ndarray:
    """Each byte one of the 8 of a and b, or its sign spread over the byte."""
    both = (b.astype(np.uint64) << np.uint64(32)) | a
    result = np.uint32(0)
    for place in range(4):
        choice = (selector >> np.uint32(4 * place)) & np.uint32(15)
        byte = (both >> ((choice & np.uint32(7)) * np.uint32(8)).astype(np.uint64)).astype(np.uint8)
        sign = np.where(byte & 0x80, np.uint8(255), np.uint8(0))
        chosen = np.where(choice & 8, sign, byte).astype(np.uint32)
        result = result | (chosen << np.uint32(8 * place))
    return result


@OPCODES.register("popc", "clz", "brev", "bfind")
def _count_bits(instruction: Instruction, layout) -> Operation:
    modifiers = Modifiers(instruction)
    kinds = ("u32", "u64", "s32", "s64") if instruction.opcode == "bfind" else ("b32", "b64")
    from_top = modifiers.flag("shiftamt")
    type_name = modifiers.type(*kinds)
    modifiers.finish()
    width = datatypes.WIDTHS[type_name]

    def top_bit(a: np.ndarray) -> np.ndarray:
        bits = np.where(a < 0, ~a, a)
        found = np.uint32(width - 1) - leading_zeros(bits.view(datatypes.unsigned(width)))
        return np.where((found < width) & from_top, np.uint32(width - 1) - found, found)

    function = {
        "popc": population,
        "clz": leading_zeros,
        "brev": reversed_bits,
        "bfind": top_bit,
    }[instruction.opcode]
    out = type_name if instruction.opcode == "brev" else "u32"
    return elementwise(instruction, layout, out, (type_name,), function)


def leading_zeros(a: np.ndarray) -> np.ndarray:
    """How many bits above the highest 1."""
    for shift in (1, 2, 4, 8, 16, 32)[: 5 if a.dtype.itemsize == 4 else 6]:
        a = a | (a >> a.dtype.type(shift))
    return population(~a)


def population(a: np.ndarray) -> np.ndarray:
    """How many bits are 1."""
    bits = np.unpackbits(a.view(np.uint8).reshape(*a.shape, -1), axis=-1)
    return bits.sum(axis=-1, dtype=np.uint32)


def reversed_bits(a: np.ndarray) -> np.ndarray:
    """The lowest bit first."""
    size = a.dtype.itemsize
    bits = np.unpackbits(a.view(np.uint8).reshape(-1, size), axis=1, bitorder="little")
    return np.packbits(bits[:, ::-1], axis=1, bitorder="little").reshape(-1).view(a.dtype)
