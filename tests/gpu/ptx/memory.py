"""Loads, stores and atomic operations."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tests.gpu.ptx import datatypes
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
from tests.gpu.ptx.errors import UnsupportedError
from tests.gpu.ptx.module import Address, Instruction, Register, Sink, Symbol, Vector

OPCODES = Opcodes()

_SPACES = ("global", "shared", "local", "const", "param")
_NUMBERS = tuple(name for name in datatypes.WIDTHS if name not in ("pred", "tf32"))
# Hints to caches, and orders that a machine whose threads take turns keeps anyway.
_HARMLESS = (
    *("weak", "volatile", "ca", "cg", "cs", "cv", "lu", "wb", "wt", "nc"),
    *("L1::evict_normal", "L1::evict_first", "L1::evict_last", "L1::no_allocate"),
    *("L2::64B", "L2::128B", "L2::256B"),
)


def address_of(instruction: Instruction, operand, space: str, layout) -> Source:
    """The addresses of an operand in brackets."""
    if not isinstance(operand, Address):
        raise UnsupportedError(f"{instruction}: {operand} is no address")
    offset = np.uint64(operand.offset % 2**64)
    base = operand.base
    if isinstance(base, Register):
        if base.type not in ("b64", "u64", "s64") and (
            space != "shared" or base.type not in ("b32", "u32", "s32")
        ):
            raise UnsupportedError(f"{instruction}: an address of type {base.type}")
        index = base.index
        width = datatypes.WIDTHS[base.type]

        def fetch(group) -> np.ndarray:
            # An address of 32 bits wraps around in 32 bits.
            total = group.values[index].astype(np.uint64, copy=False) + offset
            return total & np.uint64(0xFFFFFFFF) if width == 32 else total

        return Source(fetch, (index,))
    named = isinstance(base, Symbol)
    start = layout.address(instruction, base.name) if named else base.value
    constant = np.array([(start + operand.offset) % 2**64], np.uint64)
    return Source(lambda group: constant)


def _access(instruction: Instruction) -> tuple[str, int, str]:
    """Space, vector length and type of a load or store."""
    modifiers = Modifiers(instruction)
    modifiers.flag(*_HARMLESS)
    space = modifiers.choice(*_SPACES, default="generic")
    if space == "shared":
        modifiers.flag("cta")
    items = {"v2": 2, "v4": 4, "": 1}[modifiers.choice("v2", "v4", default="")]
    type_name = modifiers.type(*_NUMBERS)
    modifiers.finish()
    count(instruction, 2)
    if items * datatypes.bytes_of(type_name) > 16:
        raise modifiers.unsupported("of more than 16 bytes")
    return space, items, type_name


def _items(instruction: Instruction, operand, items: int) -> tuple:
    listed = operand.items if isinstance(operand, Vector) else (operand,)
    if len(listed) != items:
        raise UnsupportedError(f"{instruction}: {len(listed)} registers for {items} numbers")
    return listed


def access_bytes(instruction: Instruction) -> tuple[str, int, int] | None:
    """Space, bytes of a number and bytes in all that an instruction uses memory by, or None."""
    if instruction.opcode in ("ld", "st"):
        space, items, type_name = _access(instruction)
        size = datatypes.bytes_of(type_name)
        return space, size, items * size
    if instruction.opcode in ("atom", "red"):
        space = next((x for x in instruction.modifiers if x in _SPACES), "generic")
        size = datatypes.bytes_of(instruction.modifiers[-1])
        return space, size, size
    if instruction.opcode == "ldmatrix":
        return "shared", 2, 16
    return None


@OPCODES.register("ld")
def _load(instruction: Instruction, layout) -> Operation:
    space, items, type_name = _access(instruction)
    into = [
        _extended_target(instruction, x, type_name)
        for x in _items(instruction, instruction.operands[0], items)
    ]
    if space == "param":
        return _load_parameter(instruction, layout, into, type_name)
    where = address_of(instruction, instruction.operands[1], space, layout)
    item = datatypes.bytes_of(type_name)
    dtype = datatypes.arithmetic(type_name)

    def run(group, mask: Mask) -> None:
        group.expect_defined(where.registers, mask, "an address")
        indices = group.indices(mask)
        addresses = group.everywhere(where.fetch(group))[indices]
        numbers, undefined = _load_from(group, layout, space, indices, addresses, item, items)
        for place, (target, extended) in enumerate(into):
            if target is not None:
                number = numbers[:, place].view(dtype).astype(extended, copy=False)
                _scatter(
                    group,
                    target,
                    number.view(f"u{number.dtype.itemsize}"),
                    indices,
                    mask,
                    None if undefined is None else undefined[:, place],
                )

    return run


def _extended_target(instruction: Instruction, operand, type_name: str):
    """The register that takes a loaded number, and the type it is extended to there."""
    if isinstance(operand, Sink):
        return None, datatypes.arithmetic(type_name)
    if not isinstance(operand, Register) or operand.type == "pred":
        raise UnsupportedError(f"{instruction}: result {operand}")
    width = datatypes.WIDTHS[operand.type]
    if width == datatypes.WIDTHS[type_name]:
        return operand.index, datatypes.arithmetic(type_name)
    if datatypes.is_float(type_name) or width < datatypes.WIDTHS[type_name]:
        raise UnsupportedError(f"{instruction}: result of type {operand.type}")
    signed = datatypes.is_signed(type_name)
    return operand.index, (datatypes.signed if signed else datatypes.unsigned)(width)


def _scatter(group, target: int, numbers, indices, mask: Mask, undefined: Mask) -> None:
    """Write numbers of the threads `indices`, which are those of `mask`, to a register."""
    if mask is None:
        group.write(target, numbers, None, undefined)
        return
    value = np.zeros(group.size, numbers.dtype)
    value[indices] = numbers
    spread = None
    if undefined is not None:
        spread = np.zeros(group.size, bool)
        spread[indices] = undefined
    group.write(target, value, mask, spread)


def _load_parameter(instruction: Instruction, layout, into: list, type_name: str) -> Operation:
    address = instruction.operands[1]
    if not (isinstance(address, Address) and isinstance(address.base, Symbol) and len(into) == 1):
        raise UnsupportedError(f"{instruction}: a parameter must be named")
    inside = layout.parameter_width(address.base.name) - 8 * address.offset
    if address.offset < 0 or datatypes.WIDTHS[type_name] > inside:
        raise UnsupportedError(f"{instruction}: more than the parameter holds")
    name = address.base.name
    ((target, extended),) = into
    dtype = datatypes.arithmetic(type_name)
    stored = datatypes.unsigned(8 * np.dtype(extended).itemsize)
    width = datatypes.unsigned(datatypes.WIDTHS[type_name])

    def run(group, mask: Mask) -> None:
        bits = layout.arguments[name] >> (8 * address.offset)
        number = np.array([bits], np.uint64).astype(width).view(dtype)
        group.write(target, number.astype(extended).view(stored), mask)

    return run


def _load_from(group, layout, space: str, indices, addresses, item: int, items: int):
    if space == "shared":
        threads = group.threads(indices)
        return group.shared.load(group.slots[indices], addresses, item, items, threads)
    if space == "local":
        return group.local.load(indices, addresses, item, items)
    if space == "generic":
        return _by_window(
            layout,
            addresses,
            item,
            items,
            lambda space, at, chosen: _load_from(
                group, layout, space, indices[chosen], at, item, items
            ),
        )
    return group.memory.load(addresses, item, items, group.threads(indices)), None


def _by_window(layout, addresses, item: int, items: int, load: Callable):
    numbers = np.zeros((addresses.size, items), datatypes.unsigned(8 * item))
    undefined = np.zeros((addresses.size, items), bool)
    for space, chosen, at in layout.spaces(addresses):
        numbers[chosen], missing = load(space, at, chosen)
        if missing is not None:
            undefined[chosen] = missing
    return numbers, undefined if undefined.any() else None


@OPCODES.register("st")
def _store(instruction: Instruction, layout) -> Operation:
    space, items, type_name = _access(instruction)
    if space in ("const", "param"):
        raise UnsupportedError(f"{instruction}: a store to {space} memory")
    where = address_of(instruction, instruction.operands[0], space, layout)
    bits = f"b{datatypes.WIDTHS[type_name]}"
    values = [
        source(instruction, x, bits, layout, wider=True)
        for x in _items(instruction, instruction.operands[1], items)
    ]
    dtype = datatypes.storage(bits)

    def run(group, mask: Mask) -> None:
        group.expect_defined(where.registers, mask, "an address")
        indices = group.indices(mask)
        addresses = group.everywhere(where.fetch(group))[indices]
        numbers = np.empty((indices.size, items), dtype)
        undefined = None
        for place, value in enumerate(values):
            numbers[:, place] = group.everywhere(value.fetch(group))[indices]
            missing = group.undefined(value.registers)
            if missing is not None:
                if undefined is None:
                    undefined = np.zeros(numbers.shape, bool)
                undefined[:, place] = group.everywhere(missing)[indices]
        _store_to(group, layout, space, indices, addresses, numbers, undefined)

    return run


def _store_to(group, layout, space: str, indices, addresses, numbers, undefined) -> None:
    if space == "shared":
        threads = group.threads(indices)
        group.shared.store(group.slots[indices], addresses, numbers, undefined, threads)
    elif space == "local":
        group.local.store(indices, addresses, numbers, undefined)
    elif space == "generic":
        for part, chosen, at in layout.spaces(addresses):
            missing = None if undefined is None else undefined[chosen]
            _store_to(group, layout, part, indices[chosen], at, numbers[chosen], missing)
    else:
        if undefined is not None and undefined.any():
            bad = np.zeros(group.size, bool)
            bad[indices] = undefined.any(axis=1)
            group.refuse(bad, "a number stored in global memory")
        group.memory.store(addresses, numbers, group.threads(indices))


_ATOMICS: dict[str, Callable] = {
    "add": np.add,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
    "exch": lambda old, new: new,
}


@OPCODES.register("atom", "red")
def _atomic(instruction: Instruction, layout) -> Operation:
    modifiers = Modifiers(instruction)
    modifiers.flag("relaxed", "cta", "gpu", "sys")
    space = modifiers.choice("global", "shared", default="generic")
    name = modifiers.choice("add", "and", "or", "xor", "exch", "min", "max", "cas")
    type_name = modifiers.type(*_NUMBERS)
    modifiers.finish()
    floats = datatypes.is_float(type_name)
    if type_name in ("f16", "bf16") or (floats and name != "add"):
        raise modifiers.unsupported("in this form")
    returns = instruction.opcode == "atom"
    operands = instruction.operands if returns else (Sink(), *instruction.operands)
    if len(operands) != (4 if name == "cas" else 3):
        raise modifiers.unsupported(f"with {len(operands)} operands")
    target = destination(instruction, operands[0], type_name)
    where = address_of(instruction, operands[1], space, layout)
    values = [source(instruction, x, type_name, layout) for x in operands[2:]]
    dtype = datatypes.arithmetic(type_name)
    item = datatypes.bytes_of(type_name)
    combine = _combination(name)
    registers = tuple(index for x in values for index in x.registers)

    def apply(cells: np.ndarray, at: np.ndarray, inputs: list[np.ndarray]) -> np.ndarray:
        numbers = cells.view(dtype)
        old = np.empty(at.size, dtype)
        # One after the other: several threads may meet at one address.
        for thread, place in enumerate(at):
            old[thread] = numbers[place]
            numbers[place] = combine(old[thread], *(x[thread] for x in inputs))
        return old

    def run(group, mask: Mask) -> None:
        group.expect_defined((*where.registers, *registers), mask, "an operand of an atomic")
        indices = group.indices(mask)
        addresses = group.everywhere(where.fetch(group))[indices]
        inputs = [group.everywhere(x.fetch(group))[indices] for x in values]
        old = np.empty(indices.size, dtype)
        spaces = layout.spaces(addresses) if space == "generic" else [(space, ..., addresses)]
        for part, chosen, at in spaces:
            threads = group.threads(indices[chosen] if chosen is not ... else indices)
            own = [x[chosen] for x in inputs]
            if part == "shared":
                slots = group.slots[indices][chosen]
                cells, places, missing = group.shared.atomic(slots, at, item, threads)
                if missing.any():
                    raise UnsupportedError(f"{instruction}: shared memory that nobody has written")
                old[chosen] = apply(cells, places, own)
            elif part == "local":
                raise UnsupportedError(f"{instruction}: an atomic operation on local memory")
            else:
                result = old[chosen]
                for some, cells, places in group.memory.atomic(at, item, threads):
                    result[some] = apply(cells, places, [x[some] for x in own])
                old[chosen] = result
        if target is not None:
            _scatter(group, target, old.view(f"u{item}"), indices, mask, None)

    return run


def _combination(name: str) -> Callable:
    if name == "cas":
        return lambda old, compare, new: new if old == compare else old
    if name in ("min", "max"):
        return min if name == "min" else max
    return _ATOMICS[name]
