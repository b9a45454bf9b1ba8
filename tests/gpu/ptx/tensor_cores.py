"""Matrix instructions: ldmatrix and mma.

Products are summed in float64 and rounded once (float64 ones term by term, as the device does);
for the other types a device's sum may err by more, in an order that is not documented.
"""

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
from tests.gpu.ptx.errors import UnsupportedError
from tests.gpu.ptx.memory import address_of
from tests.gpu.ptx.module import Instruction, Operand, Vector
from tests.gpu.ptx.races import WARP
from tests.gpu.ptx.rounding import fma64, from_bfloat16
from tests.gpu.ptx.warps import active_lanes, by_warp

OPCODES = Opcodes()

_LANES = np.arange(WARP)
_FOURTHS, _IN_FOURTH = _LANES // 4, _LANES % 4


def _items(instruction: Instruction, operand: Operand, number: int) -> tuple[Operand, ...]:
    items = operand.items if isinstance(operand, Vector) else (operand,)
    if len(items) != number:
        raise UnsupportedError(f"{instruction}: {len(items)} registers instead of {number}")
    return items


@OPCODES.register("ldmatrix")
def _load_matrices(instruction: Instruction, layout) -> Operation:
    modifiers = Modifiers(instruction)
    for name in ("sync", "aligned", "m8n8"):
        modifiers.choice(name)
    number = {"x1": 1, "x2": 2, "x4": 4}[modifiers.choice("x1", "x2", "x4")]
    transposed = modifiers.flag("trans")
    modifiers.choice("shared")
    modifiers.flag("cta")
    modifiers.type("b16")
    modifiers.finish()
    count(instruction, 2)
    targets = [
        destination(instruction, x, "b32")
        for x in _items(instruction, instruction.operands[0], number)
    ]
    where = address_of(instruction, instruction.operands[1], "shared", layout)
    # Lanes 8 i to 8 i + 7 point to the rows of matrix i.
    pointing = np.arange(WARP) < 8 * number

    def run(group, mask: Mask) -> None:
        lanes = active_lanes(group, mask)
        use = (lanes & pointing).ravel()
        group.expect_defined(where.registers, use, "an address")
        indices = np.flatnonzero(use)
        addresses = group.everywhere(where.fetch(group))[indices]
        threads = group.threads(indices)
        rows, missing = group.shared.load(group.slots[indices], addresses, 2, 8, threads)
        warps = np.flatnonzero(lanes.any(axis=1))
        matrices = rows.reshape(warps.size, number, 8, 8)
        undefined = None if missing is None else missing.reshape(matrices.shape)
        for matrix, target in enumerate(targets):
            if target is not None:
                value = np.zeros((lanes.shape[0], WARP), np.uint32)
                value[warps] = _fragment(matrices[:, matrix], transposed)
                spread = None
                if undefined is not None:
                    spread = np.zeros(lanes.shape, bool)
                    pair = _pair(undefined[:, matrix], transposed)
                    spread[warps] = pair[0] | pair[1]
                group.write(target, value.ravel(), mask, None if spread is None else spread.ravel())

    return run


def _pair(matrix: np.ndarray, transposed: bool) -> tuple[np.ndarray, np.ndarray]:
    """The two neighbours in a row that each lane gets."""
    if transposed:
        matrix = matrix.swapaxes(1, 2)
    return matrix[:, _FOURTHS, 2 * _IN_FOURTH], matrix[:, _FOURTHS, 2 * _IN_FOURTH + 1]


def _fragment(matrix: np.ndarray, transposed: bool) -> np.ndarray:
    low, high = _pair(matrix, transposed)
    return low.astype(np.uint32) | (high.astype(np.uint32) << np.uint32(16))


@OPCODES.register("mma")
def _multiply(instruction: Instruction, layout) -> Operation:
    modifiers = Modifiers(instruction)
    for name in ("sync", "aligned", "row", "col"):
        modifiers.choice(name)
    shape, *kinds = modifiers.rest()
    count(instruction, 4)
    match shape, tuple(kinds):
        case "m8n8k4", ("f64", "f64", "f64", "f64"):
            return _double(instruction, layout)
        case "m16n8k16" | "m16n8k8", ("f32", ("bf16" | "f16") as kind, other, "f32"):
            if other == kind:
                return _half(instruction, layout, kind, 2 if shape == "m16n8k16" else 1)
        case "m16n8k8", ("f32", "tf32", "tf32", "f32"):
            return _tf32(instruction, layout)
    raise modifiers.unsupported("in this form")


def _run(
    targets: list[int | None],
    sources: list[Source],
    multiply: Callable[[list[np.ndarray]], list[np.ndarray]],
    stored: type[np.generic],
) -> Operation:
    """Multiply fragments given by warp; where one number is undefined the warp's result is."""
    registers = tuple(index for x in sources for index in x.registers)

    def run(group, mask: Mask) -> None:
        parts = multiply([by_warp(group, x.fetch(group)) for x in sources])
        undefined = group.undefined(registers)
        if undefined is not None:
            touched = by_warp(group, undefined) & active_lanes(group, mask)
            undefined = np.repeat(touched.any(axis=1), WARP)
        for target, part in zip(targets, parts, strict=True):
            if target is not None:
                group.write(target, part.ravel().view(stored), mask, undefined)

    return run


def _operands(
    instruction: Instruction, layout, sizes: tuple[int, int, int], kinds: tuple[str, str]
) -> tuple[list[int | None], list[Source]]:
    """The registers of the result, and those of a, b and the addend one after the other."""
    of_factor, of_result = kinds
    result, *inputs = instruction.operands
    targets = [
        destination(instruction, x, of_result) for x in _items(instruction, result, sizes[2])
    ]
    sources = [
        source(instruction, x, kind, layout)
        for operand, number, kind in zip(
            inputs, sizes, (of_factor, of_factor, of_result), strict=True
        )
        for x in _items(instruction, operand, number)
    ]
    return targets, sources


def _double(instruction: Instruction, layout) -> Operation:
    targets, sources = _operands(instruction, layout, (1, 1, 2), ("f64", "f64"))

    def multiply(parts: list[np.ndarray]) -> list[np.ndarray]:
        a = parts[0].reshape(-1, 8, 4)
        b = parts[1].reshape(-1, 8, 4).swapaxes(1, 2)
        total = np.empty((len(a), 8, 8))
        for place in (0, 1):
            total[:, _FOURTHS, 2 * _IN_FOURTH + place] = parts[2 + place]
        for k in range(4):
            total = fma64(a[:, :, k, None], b[:, None, k, :], total)
        return [total[:, _FOURTHS, 2 * _IN_FOURTH + place] for place in (0, 1)]

    return _run(targets, sources, multiply, np.uint64)


def _half(instruction: Instruction, layout, kind: str, halves: int) -> Operation:
    """Shapes m16n8k8 and m16n8k16: one or two halves along k."""
    targets, sources = _operands(instruction, layout, (2 * halves, halves, 4), ("b32", "f32"))

    def numbers(bits: np.ndarray, upper: int) -> np.ndarray:
        half = (bits >> np.uint32(16 * upper)).astype(np.uint16)
        wide = from_bfloat16(half) if kind == "bf16" else half.view(np.float16)
        return wide.astype(np.float64)

    def multiply(parts: list[np.ndarray]) -> list[np.ndarray]:
        warps = len(parts[0])
        a, b = np.empty((warps, 16, 8 * halves)), np.empty((warps, 8 * halves, 8))
        for upper in (0, 1):
            columns = 2 * _IN_FOURTH + upper
            for i in range(2 * halves):
                part = numbers(parts[i], upper)
                a[:, _FOURTHS + 8 * (i % 2), columns + 8 * (i // 2)] = part
            for i in range(halves):
                b[:, columns + 8 * i, _FOURTHS] = numbers(parts[2 * halves + i], upper)
        return _added(a @ b, parts[3 * halves :])

    return _run(targets, sources, multiply, np.uint32)


def _tf32(instruction: Instruction, layout) -> Operation:
    targets, sources = _operands(instruction, layout, (4, 2, 4), ("b32", "f32"))
    kept = np.uint32(0xFFFFE000)

    def multiply(parts: list[np.ndarray]) -> list[np.ndarray]:
        warps = len(parts[0])
        a, b = np.empty((warps, 16, 8)), np.empty((warps, 8, 8))
        factors = [(bits & kept).view(np.float32).astype(np.float64) for bits in parts[:6]]
        for i in range(4):
            a[:, _FOURTHS + 8 * (i % 2), _IN_FOURTH + 4 * (i // 2)] = factors[i]
        for i in range(2):
            b[:, _IN_FOURTH + 4 * i, _FOURTHS] = factors[4 + i]
        return _added(a @ b, parts[6:])

    return _run(targets, sources, multiply, np.uint32)


def _added(product: np.ndarray, addends: list[np.ndarray]) -> list[np.ndarray]:
    """The four parts of a 16 by 8 result with their addends, rounded to float32."""
    results = []
    for i, addend in enumerate(addends):
        part = product[:, _FOURTHS + 8 * (i // 2), 2 * _IN_FOURTH + i % 2]
        results.append((part + addend).astype(np.float32))
    return results
