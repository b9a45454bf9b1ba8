"""The budget: what each kernel may take of a GPU, kept in a file so that a change is seen."""

from __future__ import annotations

import csv
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from tests.gpu.compiled.measure import Measurement

PATH = Path(__file__).parents[1] / "budget.csv"

# The hardware gives registers to a warp by 256: this many a thread.
_REGISTER_UNIT = 8
_MAX_REGISTERS = 255

Key = tuple[str, str, int]


@dataclass(frozen=True)
class Row:
    """What one kernel of one launch may take on one compute capability.

    Attributes:
        launch: Name of the launch.
        kernel: Entry point.
        capability: Compute capability, 80 for 8.0.
        registers: At most, of a thread.
        stack: Bytes of local memory at most, of a thread.
        shared: Bytes at most, of a block.
        occupancy: Percent at least.
        load_bits: Width at least of the widest load from global memory; 0 where none is.
        store_bits: The same of stores.
        narrow: Number at most of accesses to global memory of less than 128 bits.
        tensor_cores: Their instructions, exactly these.
        reason: Why this kernel may have a stack, or no access of 128 bits to contiguous rows.
    """

    launch: str
    kernel: str
    capability: int
    registers: int
    stack: int
    shared: int
    occupancy: float
    load_bits: int
    store_bits: int
    narrow: int
    tensor_cores: str
    reason: str = ""

    @property
    def key(self) -> Key:
        """What the row is about."""
        return self.launch, self.kernel, self.capability


def row_of(measurement: Measurement, reason: str = "") -> Row:
    """Make the row that a measurement just keeps to."""
    kernel = measurement.kernel
    loads, stores = kernel.global_loads, kernel.global_stores
    registers = math.ceil(kernel.registers / _REGISTER_UNIT) * _REGISTER_UNIT
    return Row(
        measurement.launch,
        kernel.name,
        measurement.capability,
        min(registers, _MAX_REGISTERS),
        kernel.stack + kernel.local,
        measurement.shared,
        math.floor(1000 * measurement.occupancy) / 10,
        max(loads, default=0),
        max(stores, default=0),
        sum(count for bits, count in (loads + stores).items() if bits < 128),
        " ".join(sorted(kernel.tensor_cores)),
        reason,
    )


def rows_of(measurements: Iterable[Measurement], reasons: Mapping[Key, str]) -> dict[Key, Row]:
    """Make the rows of a budget; variants of a kernel in one launch share a row."""
    variants: defaultdict[Key, list[Row]] = defaultdict(list)
    for measurement in measurements:
        row = row_of(measurement)
        variants[row.key].append(row)
    return {key: _loosest(rows, reasons.get(key, "")) for key, rows in variants.items()}


def _loosest(rows: list[Row], reason: str) -> Row:
    """Join variants of a kernel, which one launch specialises for sizes and alignments."""
    most, least = {}, {}
    for name in ("registers", "stack", "shared", "narrow"):
        most[name] = max(getattr(row, name) for row in rows)
    for name in ("occupancy", "load_bits", "store_bits"):
        least[name] = min(getattr(row, name) for row in rows)
    cores = {row.tensor_cores for row in rows}
    if len(cores) > 1:
        raise ValueError(f"variants of {rows[0].key} differ in tensor cores: {sorted(cores)}")
    return Row(*rows[0].key, **most, **least, tensor_cores=cores.pop(), reason=reason)


def violations(row: Row, measurement: Measurement) -> list[str]:
    """List what in a measurement breaks its row."""
    measured = row_of(measurement)
    broken = [
        f"{name} {getattr(measured, name)} > {getattr(row, name)}"
        for name in ("registers", "stack", "shared", "narrow")
        if getattr(measured, name) > getattr(row, name)
    ]
    broken += [
        f"{name} {getattr(measured, name)} < {getattr(row, name)}"
        for name in ("occupancy", "load_bits", "store_bits")
        if getattr(measured, name) < getattr(row, name)
    ]
    if measured.tensor_cores != row.tensor_cores:
        broken.append(f"tensor cores {measured.tensor_cores!r}, not {row.tensor_cores!r}")
    # Spills have no bytes of their own in some reports; the instructions do not lie.
    if measurement.kernel.local_accesses and not row.stack:
        broken.append(f"{measurement.kernel.local_accesses} accesses to local memory")
    return [f"{', '.join(map(str, row.key))}: {text}" for text in broken]


def check(measurements: Iterable[Measurement], budget: Mapping[Key, Row]) -> list[str]:
    """List every kernel over its budget or without a row, and every row without a kernel.

    Rows of launches and capabilities that were not measured are left alone.
    """
    measurements = list(measurements)
    problems = []
    seen = set()
    for measurement in measurements:
        key = (measurement.launch, measurement.kernel.name, measurement.capability)
        seen.add(key)
        if key in budget:
            problems += violations(budget[key], measurement)
        else:
            problems.append(f"{', '.join(map(str, key))}: no row")
    measured = {(x.launch, x.capability) for x in measurements}
    stale = [key for key in budget if (key[0], key[2]) in measured and key not in seen]
    return problems + [f"{', '.join(map(str, key))}: no such kernel" for key in stale]


def exceptions(row: Row, *, contiguous: bool) -> list[str]:
    """List what in a row needs a reason: a stack, and narrow access to contiguous rows."""
    needed = []
    if row.stack:
        needed.append(f"a stack of {row.stack} bytes")
    if contiguous:
        for kind in ("load", "store"):
            bits = getattr(row, f"{kind}_bits")
            if 0 < bits < 128:
                needed.append(f"{kind}s of {bits} bits")
    return needed


def read(path: Path = PATH) -> dict[Key, Row]:
    """Read a budget."""
    numbers = {field.name: float for field in fields(Row) if field.type == "float"}
    numbers |= {field.name: int for field in fields(Row) if field.type == "int"}
    with path.open(newline="") as file:
        rows = [
            Row(**{name: numbers.get(name, str)(value) for name, value in line.items()})
            for line in csv.DictReader(file)
        ]
    return {row.key: row for row in rows}


def write(rows: Iterable[Row], path: Path = PATH) -> None:
    """Write a budget, sorted, so that a change of one kernel is a change of one line."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [x.name for x in fields(Row)], lineterminator="\n")
        writer.writeheader()
        for row in sorted(rows, key=lambda row: row.key):
            writer.writerow(asdict(row))
