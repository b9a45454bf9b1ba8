"""LEG-TV's linear program: the solvers of the library beside HiGHS and the program of the paper.

Run with ``python -m bench.leg_tv``. Pictures are estimates of a smooth model from 500 and 3000
samples. ``sparse`` is HiGHS' dual simplex on ``D g = up - down`` with bounds, ``faces`` is HiGHS on
the minimum-cost flow between the faces of the grid, ``first-order`` stops at a relative gap of
1e-6. The program as the paper writes it, with a dense ``D^{+T}`` and Sigma, is given to cvxpy with
HiGHS; it is run once (``--no-paper`` leaves it out). ``--large`` adds 112 x 112 and 224 x 224,
which take minutes.
"""

from __future__ import annotations

import math
import time
import warnings
from functools import partial

import numpy as np
import torch
from scipy import sparse
from scipy.optimize import linprog
from torch import Tensor

from bench.common import compare, machine, parser, print_row
from hessx import ops
from hessx.solve.tv import TVSolution, largest_bound, solve_tv, solve_tv_general
from hessx.solve.tv.certificate import difference, largest
from hessx.solve.tv.sparse_program import difference_matrix

VARIANCE = 0.1
K_L = (0.05, 0.1, 0.3)
# Seconds after which HiGHS gives up on a dense program.
TIME_LIMIT = 60


def estimates(p: int, n_samples: int, count: int) -> Tensor:
    """LEG of ``tanh(template . z / 10)`` with noise, ``(count, p, p)``; the template moves."""
    generator = torch.Generator().manual_seed(0)
    template = torch.zeros(p, p, dtype=torch.float64)
    template[p // 4 : p // 2, p // 4 : p // 2] = 1
    template[p // 2 : 3 * p // 4, p // 2 : p - 2] = -0.5
    covered = torch.zeros(count, p, p, dtype=torch.float64)
    templates = torch.stack([template.roll((i, 2 * i), (0, 1)) for i in range(count)])
    m = 2 * p * (p - 1)
    block = max(1, 2**22 // m)
    for first in range(0, n_samples, block):
        size = min(block, n_samples - first)
        edges = torch.randn(size, m, generator=generator, dtype=torch.float64)
        constant = torch.randn(size, 1, 1, generator=generator, dtype=torch.float64) / p
        z = math.sqrt(VARIANCE) * (ops.grid_difference_adjoint(edges, p, p) + constant)
        y = torch.tanh(torch.einsum("nij,cij->nc", z, templates) / 10)
        y += 0.05 * torch.randn(y.shape, generator=generator, dtype=torch.float64)
        covered += torch.einsum("nc,nij->cij", y, z)
    return ops.grid_spectral(covered / n_samples, -1.0, 1.0) / VARIANCE


def radii(estimate: Tensor, *levels: float) -> Tensor:
    """``K_L R_max`` of each picture, ``(N, M)``."""
    return largest(difference(estimate))[:, None] * torch.tensor(levels, dtype=torch.float64)


def sparse_form(estimate: Tensor, radius: Tensor) -> float:
    """The optimum of one picture by HiGHS on the plain sparse form."""
    d = difference_matrix(*estimate.shape[1:])
    m, p = d.shape
    centre = difference(estimate)[0].numpy()
    low, high = centre - radius.item(), centre + radius.item()
    ends = [
        np.stack([np.maximum(a, 0), np.maximum(b, 0)], 1) for a, b in ((low, high), (-high, -low))
    ]
    found = linprog(
        np.r_[np.zeros(p), np.ones(2 * m)],
        A_eq=sparse.hstack([d, -sparse.eye(m), sparse.eye(m)]),
        b_eq=np.zeros(m),
        bounds=np.vstack([np.tile([-np.inf, np.inf], (p, 1)), *ends]),
        method="highs-ds",
    )
    return found.fun


def paper_form(estimate: Tensor, bound: float) -> float:
    """The optimum of Eq. 4 as it is printed, by cvxpy and HiGHS."""
    import cvxpy

    p = estimate.numel()
    d = difference_matrix(*estimate.shape[1:]).toarray()
    sigma = VARIANCE * (d.T @ d + 1 / p)
    g = cvxpy.Variable(p)
    covered = sigma @ estimate.numpy().ravel()
    constraint = cvxpy.norm_inf(np.linalg.pinv(d).T @ (covered - sigma @ g)) <= bound
    program = cvxpy.Problem(cvxpy.Minimize(cvxpy.norm1(d @ g)), [constraint])
    options = {"method": "highs", "time_limit": TIME_LIMIT}
    with warnings.catch_warnings():
        # Where cvxpy multiplies 0 by the bounds of unbounded variables.
        warnings.simplefilter("ignore", RuntimeWarning)
        program.solve(solver=cvxpy.SCIPY, scipy_options=options)
    return math.nan if program.value is None else float(program.value)


def one_picture(p: int, n_samples: int, level: float, seconds: float) -> None:
    estimate = estimates(p, n_samples, 1)
    radius = radii(estimate, level)
    solvers = {
        "simplex": partial(solve_tv, estimate, radius, solver="network-simplex"),
        "faces": partial(solve_tv, estimate, radius, solver="highs"),
        "first-order": partial(solve_tv, estimate, radius, solver="first-order"),
    }
    candidates = {"sparse": partial(sparse_form, estimate, radius), **solvers}
    print_row(f"{p}x{p} n={n_samples} K_L={level}", compare(candidates, seconds), 1e-3)
    found = {name: solver() for name, solver in solvers.items()}
    cells = [f"{name} {described(solved)}" for name, solved in found.items()]
    print(f"   objective {candidates['sparse']():.9f}; and gap:", "  ".join(cells), flush=True)


def described(solved: TVSolution) -> str:
    """Objective, relative gap and iterations of one program."""
    gap, steps = solved.gap.item(), solved.iterations.item()
    return f"{solved.objective.item():.9f} {gap:.0e} ({steps})"


def many(count: int, levels: int, seconds: float) -> None:
    estimate = estimates(28, 3000, count)
    radius = radii(estimate, *np.geomspace(0.9, 0.05, levels) if levels > 1 else [0.1])
    candidates = {
        solver: partial(solve_tv, estimate, radius, solver=solver)
        for solver in ("first-order", "network-simplex")
    }
    print_row(f"28x28, {count} pictures, {levels} L", compare(candidates, seconds), 1e-3)


def paper(p: int) -> None:
    estimate = estimates(p, 3000, 1)
    radius = radii(estimate, 0.1)
    start = time.perf_counter()
    value = paper_form(estimate, VARIANCE * radius.item())
    seconds = time.perf_counter() - start
    exact = solve_tv(estimate, radius)
    print(f"{p}x{p} K_L=0.1: paper's program {seconds:.1f} s, objective {value:.9f};", end=" ")
    print(f"{exact.solver} {described(exact)}", flush=True)


def identity(p: int, level: float) -> None:
    estimate = estimates(p, 3000, 1)
    variance = torch.full((p * p,), VARIANCE, dtype=torch.float64)
    bound = level * largest_bound(estimate, variance=variance)[:, None]
    start = time.perf_counter()
    solved = solve_tv_general(estimate, bound, variance=variance)
    seconds = time.perf_counter() - start
    print(
        f"{p}x{p} K_L={level}, Sigma = {VARIANCE} I, HiGHS: {seconds:.2f} s,"
        f" objective {solved.objective.item():.9f}, gap {solved.gap.item():.0e}",
        flush=True,
    )


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--no-paper", action="store_true", help="without the paper's program")
    options.add_argument("--large", action="store_true", help="112 x 112 and 224 x 224 too")
    arguments = options.parse_args()
    torch.set_num_threads(1)
    print(machine())
    print("ms on 1 thread; in brackets: times faster than the first; iterations after the gap")
    for p in (14, 28):
        for n_samples in (500, 3000):
            for level in K_L:
                one_picture(p, n_samples, level, seconds=0.5)
    one_picture(56, 3000, 0.1, seconds=0.5)
    if arguments.large:
        for p in (112, 224):
            one_picture(p, 3000, 0.1, seconds=0.5)
    print("batches and paths")
    many(256, 1, seconds=0.5)
    many(1, 20, seconds=0.5)
    print("other covariances")
    identity(14, 0.1)
    identity(28, 0.1)
    if not arguments.no_paper:
        print("the program as the paper writes it: cvxpy and HiGHS, once")
        paper(14)
        paper(28)


if __name__ == "__main__":
    main()
