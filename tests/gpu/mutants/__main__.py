"""Plant mistakes in every Triton and CUDA kernel and count those that the checks catch.

    python -m tests.gpu.mutants [--only PART_OF_A_KERNELS_NAME] [--sample N] [--processes N]

It fails if less than 95 % of the mutants that change behaviour are caught, and if the list of
survivors beside this file is not what was found.
"""

from __future__ import annotations

import argparse
import os
import sys
import time

# Triton decides when it is imported. One thread: two processes share the machine.
os.environ.update(TRITON_INTERPRET="1", OMP_NUM_THREADS="1")

from tests.gpu.mutants import report, runner, survivors


def _say(text: str) -> None:
    print(text, flush=True)


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="part of the names of the kernels to take")
    parser.add_argument("--sample", type=int, default=0, help="try only so many, all to be caught")
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    begin = time.monotonic()
    reasons = survivors.read()
    mutants = runner.all_mutants(arguments.only)
    if not mutants:
        parser.error(f"no kernel's name contains {arguments.only!r}")
    if arguments.sample:
        chosen = runner.sample(mutants, arguments.sample, reasons)
        results = runner.run_sample(chosen, reasons, arguments.processes, _say)
    else:
        results = runner.run(mutants, reasons, arguments.processes, _say)
    for line in report.table(results):
        _say(line)
    kernels = set() if arguments.sample else {kernel for kernel, _, _ in reasons}
    whole = {kernel for kernel in kernels if arguments.only in kernel}
    failures = list(report.complaints(results, reasons, whole))
    for failure in failures:
        _say(failure)
    _say(f"{time.monotonic() - begin:.0f} s")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
