"""What the budget catches: kernels over it, rows missing and stale."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

pytest.importorskip("triton")

from tests.gpu.compiled import budget
from tests.gpu.compiled.measure import Measurement
from tests.gpu.compiled.sass import Kernel

CODE = Counter({"LDG.E.128": 4, "STG.E.128": 2, "LDG.E": 1, "HMMA.16816.F32.BF16": 8, "FFMA": 3})
KERNEL = Kernel("kernel", registers=62, stack=0, local=0, shared=0, instructions=CODE)
MEASUREMENT = Measurement("launch", 80, threads=128, dynamic_shared=4096, kernel=KERNEL)
BUDGET = budget.rows_of([MEASUREMENT], {})


def changed(**members: object) -> Measurement:
    return replace(MEASUREMENT, kernel=replace(KERNEL, **members))


def with_code(**instructions: int) -> Measurement:
    names = {name.replace("_", "."): count for name, count in instructions.items()}
    return changed(instructions=CODE + Counter(names))


def test_a_kernel_keeps_to_its_own_row():
    assert budget.check([MEASUREMENT], BUDGET) == []


def test_registers_are_budgeted_as_the_hardware_gives_them():
    assert BUDGET["launch", "kernel", 80].registers == 64
    assert budget.check([changed(registers=64)], BUDGET) == []


@pytest.mark.parametrize(
    ("measurement", "complaint"),
    [
        (changed(registers=65), "registers 72 > 64"),
        (changed(stack=8), "stack 8 > 0"),
        (changed(local=8), "stack 8 > 0"),
        (changed(shared=1024), "shared 5120 > 4096"),
        (replace(MEASUREMENT, threads=160), "occupancy 46.8 < 50.0"),
        (changed(instructions=Counter({"LDG.E.64": 8, "STG.E.128": 2})), "load_bits 64 < 128"),
        (changed(instructions=Counter({"LDG.E.128": 4, "STG.E": 1})), "store_bits 32 < 128"),
        (with_code(STG_E_64=2), "narrow 3 > 1"),
        (with_code(HMMA_1688_F32_TF32=1), "tensor cores 'HMMA.BF16 HMMA.TF32'"),
        (changed(instructions=Counter({"LDG.E.128": 4, "STG.E.128": 2})), "tensor cores ''"),
        (with_code(STL=1), "1 accesses to local memory"),
    ],
)
def test_a_kernel_over_its_budget_is_reported(measurement, complaint):
    assert any(complaint in x for x in budget.check([measurement], BUDGET))


def test_a_kernel_without_a_row_is_reported():
    other = replace(MEASUREMENT, launch="other")
    assert budget.check([other], BUDGET) == ["other, kernel, 80: no row"]


def test_a_row_without_a_kernel_is_reported():
    stale = replace(BUDGET["launch", "kernel", 80], kernel="gone")
    problems = budget.check([MEASUREMENT], BUDGET | {stale.key: stale})
    assert problems == ["launch, gone, 80: no such kernel"]


def test_rows_of_what_was_not_measured_are_left_alone():
    row = BUDGET["launch", "kernel", 80]
    others = [replace(row, launch="other"), replace(row, capability=90)]
    assert budget.check([MEASUREMENT], BUDGET | {x.key: x for x in others}) == []


def test_exceptions_ask_for_a_reason():
    row = BUDGET["launch", "kernel", 80]
    assert budget.exceptions(row, contiguous=True) == []
    assert budget.exceptions(replace(row, stack=8), contiguous=False)
    assert budget.exceptions(replace(row, load_bits=64), contiguous=True)
    assert budget.exceptions(replace(row, load_bits=64), contiguous=False) == []
    assert budget.exceptions(replace(row, load_bits=0), contiguous=True) == []


def test_variants_share_the_loosest_row():
    narrow = changed(registers=90, instructions=Counter({"LDG.E.64": 8, "HMMA.16816.F32.BF16": 1}))
    rows = budget.rows_of([MEASUREMENT, narrow], {})
    assert budget.check([MEASUREMENT, narrow], rows) == []
    assert rows["launch", "kernel", 80].registers == 96


def test_a_budget_is_read_as_it_was_written(tmp_path):
    path = tmp_path / "budget.csv"
    rows = budget.rows_of([MEASUREMENT], {("launch", "kernel", 80): "a reason, with a comma"})
    budget.write(rows.values(), path)
    assert budget.read(path) == rows
