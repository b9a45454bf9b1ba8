"""The best explanation for all squares: closed-form second moment against least squares on a list.

Large pictures: conjugate gradients, with their iterations, residual and the memory that they add to
the process; then where a factor begins to pay. Small ones: one right-hand side once the factor is
there, against torch.linalg.lstsq on all squares and against normal equations solved anew. Run with
``python -m bench.squares``.
"""

from __future__ import annotations

import resource
import time

import torch
from torch import Tensor

from bench.common import compare, machine, parser, print_row
from hessx.solve.least_squares.square_factor import clear_cache
from hessx.solve.least_squares.squares import SquareMoments

DENSE = [(28, range(1, 11)), (32, range(1, 16))]
CROSSOVER = (28, 40, 48, 56, 64)
LARGE = [(64, range(1, 11)), (112, range(10, 31)), (224, range(1, 16)), (224, range(10, 31))]


def differences_of(squares: SquareMoments) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(1, squares.count, generator=generator, dtype=torch.float64)


def bench_dense(p: int, sides: range) -> None:
    """Moment and solve of one explanation; no speed is reported unless the solutions agree."""
    squares = SquareMoments(p, p, sides)
    differences = differences_of(squares)
    clear_cache()
    start = time.perf_counter()
    found = squares.solve(squares.moment(differences))
    first = time.perf_counter() - start
    z = squares.dots(torch.eye(p * p, dtype=torch.float64)).mT.contiguous()

    def lstsq() -> Tensor:
        return torch.linalg.lstsq(z, differences.mT).solution.mT

    def normal_equations() -> Tensor:
        return torch.linalg.solve(z.mT @ z, z.mT @ differences.mT).mT

    expected = lstsq()
    error = ((found.solution - expected).norm() / expected.norm()).item()
    assert error < 1e-8
    times = compare(
        {
            "lstsq": lstsq,
            "normal equations": normal_equations,
            "conjugate gradients": lambda: squares.solve(
                squares.moment(differences), method="conjugate gradients"
            ),
            "hessx": lambda: squares.solve(squares.moment(differences)),
        },
        2.0,
    )
    print_row(f"{p} x {p}, {sides[0]} to {sides[-1]}", times, 1e-3)
    print(
        f"{'':<26} {squares.count} squares, condition {found.condition:.1e}, first call "
        f"{first * 1e3:.0f} ms, difference from lstsq {error:.1e}"
    )


def bench_large(p: int, sides: range) -> None:
    squares = SquareMoments(p, p, sides)
    differences = differences_of(squares)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    found = squares.solve(squares.moment(differences))
    seconds = time.perf_counter() - start
    added = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(
        f"{f'{p} x {p}, {sides[0]} to {sides[-1]}':<26} {squares.count} squares, {seconds:.2f} s, "
        f"{found.iterations} iterations, residual {found.residual.max():.1e}, "
        f"ridge {found.ridge:.1e}, {added / 1024:.0f} MB more",
        flush=True,
    )


def bench_crossover(p: int) -> None:
    """The factor, a solve with it, and conjugate gradients in the place of both."""
    squares = SquareMoments(p, p, range(1, 11))
    rhs = squares.moment(differences_of(squares))
    clear_cache()
    start = time.perf_counter()
    squares.solve(rhs, method="cholesky")
    first = time.perf_counter() - start
    times = compare(
        {
            "conjugate gradients": lambda: squares.solve(rhs, method="conjugate gradients"),
            "solve": lambda: squares.solve(rhs, method="cholesky"),
        }
    )
    print_row(f"{p} x {p}, 1 to 10", times, 1e-3, f"factor {first * 1e3:.0f}")


def main() -> None:
    parser(__doc__).parse_args()
    print(machine())
    torch.set_num_threads(1)
    print("conjugate gradients, 1 thread")
    # First, so that no matrix has made room for them.
    for p, sides in LARGE:
        bench_large(p, sides)
    print("conjugate gradients against a factor, milliseconds, 1 thread")
    for p in CROSSOVER:
        bench_crossover(p)
    print("moment and solve, milliseconds, 1 thread; in brackets: times faster than lstsq")
    for p, sides in DENSE:
        bench_dense(p, sides)


if __name__ == "__main__":
    main()
