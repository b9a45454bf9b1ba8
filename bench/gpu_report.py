"""What every GPU kernel was compiled to, and the least time that data sheets allow for its work.

Nothing here ran on a GPU. The kernels are compiled for GPUs that are not there and read from the
binary; the floors are bytes over bandwidth or operations over the peak rate, whichever is longer:
computed lower bounds on time, never timings.

Run with ``python -m bench.gpu_report``; ``--write-budget`` rewrites tests/gpu/budget.csv from what
was measured, and ``--only cross-`` restricts both to launches of a prefix.
"""

from __future__ import annotations

import argparse
import sys

from tests.gpu.compiled import budget
from tests.gpu.compiled.measure import (
    CAPABILITIES,
    Measurement,
    compile_triton,
    measure_cuda,
    measure_triton,
)
from tests.gpu.compiled.roofline import GPUS, floor_seconds
from tests.gpu.compiled.sources import has_nvcc, nvcc_cubins
from tests.gpu.launches import CUDA, LAUNCHES, TRITON


def measured(capability: int, prefix: str) -> list[Measurement]:
    """Compile and read the launches of a prefix for one compute capability."""
    compiled = compile_triton(
        {n: x.run for n, x in TRITON.items() if n.startswith(prefix)}, capability
    )
    measurements = measure_triton(compiled, capability)
    launches = {n: x.run for n, x in CUDA.items() if n.startswith(prefix)}
    if launches and has_nvcc():
        measurements += measure_cuda(launches, capability, nvcc_cubins(capability))
    return measurements


def print_kernels(capability: int, rows: list[budget.Row], measurements: list[Measurement]) -> None:
    """Print what each kernel takes of a GPU."""
    print(f"\nCompiled for sm_{capability}; widths in bits, narrow: accesses below 128 bits")
    print(
        f"{'launch':<28} {'kernel':<26} {'threads':>7} {'regs':>4} {'stack':>5} {'shared':>6} "
        f"{'occup.':>6} {'load':>4} {'store':>5} {'narrow':>6}  tensor cores"
    )
    exact = {(x.launch, x.kernel.name): x for x in measurements}
    for row in rows:
        measurement = exact[row.launch, row.kernel]
        print(
            f"{row.launch:<28} {row.kernel:<26} {measurement.threads:>7} "
            f"{measurement.kernel.registers:>4} {row.stack:>5} {row.shared:>6} "
            f"{row.occupancy:>5.1f}% {row.load_bits:>4} {row.store_bits:>5} {row.narrow:>6}  "
            f"{row.tensor_cores or '-'}",
            flush=True,
        )


def print_floors(prefix: str) -> None:
    """Print the roofline of each launch of a prefix."""
    print("\nFloor: lower bound on time computed from data sheets, never a timing")
    header = "".join(f" {name + ', us':>10} {'set by':<14}" for name in GPUS)
    print(f"{'launch':<28} {'MB':>8} {'G operations':>28} {header}")
    for name in (name for name in LAUNCHES if name.startswith(prefix)):
        work = LAUNCHES[name].work
        operations = ", ".join(f"{n / 1e9:.2f} {unit}" for unit, n in work.operations.items())
        floors = (floor_seconds(work, gpu) for gpu in GPUS.values())
        cells = "".join(f" {1e6 * seconds:>10.1f} {limit:<14}" for seconds, limit in floors)
        print(f"{name:<28} {work.bytes / 1e6:>8.2f} {operations:>28} {cells}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write-budget", action="store_true", help="rewrite tests/gpu/budget.csv")
    parser.add_argument("--only", default="", metavar="PREFIX", help="launches with this prefix")
    arguments = parser.parse_args()
    if not has_nvcc():
        print("The CUDA sources are left out: nvcc is not on the path.")
        if arguments.write_budget:
            sys.exit("A budget without them would be incomplete.")

    old = budget.read() if budget.PATH.exists() else {}
    reasons = {key: row.reason for key, row in old.items()}
    new: dict[budget.Key, budget.Row] = {}
    for capability in CAPABILITIES:
        measurements = measured(capability, arguments.only)
        rows = budget.rows_of(measurements, reasons)
        print_kernels(capability, list(rows.values()), measurements)
        new |= rows
        for problem in [] if arguments.write_budget else budget.check(measurements, old):
            print("over budget:", problem)
    print_floors(arguments.only)
    if arguments.write_budget:
        kept = {key: row for key, row in old.items() if not row.launch.startswith(arguments.only)}
        budget.write((kept | new).values())


if __name__ == "__main__":
    main()
