"""The total-variation program of LEG-TV: all solvers against HiGHS on the plain sparse form."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor

import hessx
from hessx.backends import missing
from hessx.solve.tv import TVSolution, program, solve_tv
from hessx.solve.tv.certificate import difference, dual_value, largest
from tests.references.total_variation import differences, pictures, sparse_optimum

SOLVERS = [
    pytest.param(
        "network-simplex", marks=pytest.mark.skipif(bool(missing("native")), reason="no C++")
    ),
    "highs",
    "first-order",
]
SIZES = [(1, 6), (7, 1), (2, 2), (3, 8), (9, 6)]
LEVELS = (0.0, 1e-6, 0.05, 0.3, 0.9, 1.0, 1.4)
TOL = 1e-9


def edge_values(g: Tensor) -> Tensor:
    """D g, by the reference's dense matrix: ``(..., p1, p2)`` to ``(..., m)``."""
    d = torch.from_numpy(differences(*g.shape[-2:]))
    return g.flatten(-2) @ d.mT


def radii(estimate: Tensor) -> Tensor:
    """Radii from 0 to beyond the one from which on the solution is 0."""
    return largest(difference(estimate))[:, None] * torch.tensor(LEVELS).double()


def check(solved: TVSolution, estimate: Tensor, radius: Tensor, tol: float = TOL) -> None:
    """What every solution must be: feasible, of mean 0, with a certificate that holds."""
    unit = edge_values(estimate).abs().amax(-1)[:, None]
    offset = edge_values(solved.solution - estimate[:, None]).abs().amax(-1)
    # Some roundings of numbers of the size of the estimate.
    rounding = 1e-14 * estimate.abs().amax((1, 2))[:, None] + 1e-14 * unit
    assert torch.all(offset <= radius + rounding)
    # The network simplex takes the mean off in its fixed point, of 2^-45 of the largest difference.
    assert torch.all(solved.solution.mean((2, 3)).abs() <= rounding + 2.0**-42 * unit)
    total = edge_values(solved.solution).abs().sum(-1)
    torch.testing.assert_close(solved.objective, total, rtol=1e-12, atol=1e-13 * unit.max().item())
    divergence = solved.flow @ torch.from_numpy(differences(*estimate.shape[1:]))
    scale = solved.flow.abs().amax(-1).clamp(min=1)
    assert torch.all(divergence.abs().amax(-1) <= 1e-12 * scale)
    assert torch.all((solved.gap >= 0) & (solved.gap <= tol))


@cache
def optima(size: tuple[int, int]) -> np.ndarray:
    """What HiGHS finds for the pictures and radii of `test_optimum`, ``(5, M)``."""
    estimate = pictures(*size, seed=sum(size))
    programs = zip(estimate.numpy(), radii(estimate).numpy(), strict=True)
    return np.array([[sparse_optimum(g, r) for r in row] for g, row in programs])


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("size", SIZES)
def test_optimum(solver, size):
    estimate = pictures(*size, seed=sum(size))
    radius = radii(estimate)
    solved = solve_tv(estimate, radius, solver=solver, tol=TOL)
    check(solved, estimate, radius)
    assert solved.solver == solver
    best = optima(size)
    # HiGHS keeps its bounds to 1e-10 of the largest of some tens of differences.
    unit = edge_values(estimate).abs().sum(-1).numpy()[:, None]
    np.testing.assert_allclose(solved.objective.numpy() / unit, best / unit, atol=1e-8)


@pytest.mark.slow
@pytest.mark.parametrize("solver", SOLVERS)
def test_optimum_on_500_grids(solver):
    """Grids from 2 x 2 to 28 x 28, radii from 1e-6 to 1 of the largest."""
    rng = np.random.default_rng(0)
    for seed in range(100):
        p1, p2 = rng.integers(2, 29, 2)
        estimate = pictures(p1, p2, seed)
        level = rng.choice([1.0, 0.5, 0.25, 0.1, 0.05, 0.01, 1e-6])
        radius = largest(difference(estimate))[:, None] * level
        solved = solve_tv(estimate, radius, solver=solver, tol=TOL)
        check(solved, estimate, radius)
        for row in range(5):
            best = sparse_optimum(estimate[row].numpy(), radius[row].item())
            unit = difference(estimate[row]).abs().sum().item()
            assert solved.objective[row].item() == pytest.approx(best, rel=1e-8, abs=1e-9 * unit)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("size", SIZES)
def test_ends(solver, size):
    estimate = pictures(*size, seed=0)
    solved = solve_tv(estimate, radii(estimate), solver=solver)
    centred = estimate - estimate.mean((1, 2), keepdim=True)
    torch.testing.assert_close(solved.solution[:, 0], centred, rtol=1e-15, atol=1e-15)
    for level in (-2, -1):
        assert not solved.solution[:, level].any()
        assert not solved.objective[:, level].any()
        assert not solved.gap[:, level].any()


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_radius_that_is_a_rounding_short_of_the_last(solver):
    """The optimum is a rounding above 0: its relative gap says nothing, and nothing hangs."""
    estimate = pictures(6, 5, seed=9)
    radius = largest(difference(estimate))[:, None] * (1 - 2.0**-52)
    solved = solve_tv(estimate, radius, solver=solver, tol=TOL)
    check(solved, estimate, radius, tol=1.0)
    # A unit of the network simplex' fixed point is 2^-45 of the largest difference.
    assert torch.all(solved.objective <= 2.0**-42 * difference(estimate).abs().sum(1)[:, None])
    assert torch.all(solved.iterations < 1000)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("size", [(1, 1), (1, 4), (3, 3)])
def test_a_constant_estimate(solver, size):
    solved = solve_tv(torch.full((2, *size), 7.0), torch.tensor([[0.0, 1.0]] * 2), solver=solver)
    for x in (solved.solution, solved.objective, solved.gap, solved.iterations):
        assert not x.any()
    assert solved.solution.shape == (2, 2, *size)
    assert solved.flow.shape == (2, 2, len(differences(*size)))


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize(("n", "levels"), [(0, 2), (2, 0)])
def test_empty(solver, n, levels):
    solved = solve_tv(torch.zeros(n, 3, 4), torch.zeros(n, levels), solver=solver)
    assert solved.solution.shape == (n, levels, 3, 4)
    assert solved.flow.shape == (n, levels, 17)
    assert solved.gap.shape == solved.objective.shape == solved.iterations.shape == (n, levels)


@pytest.mark.parametrize("solver", SOLVERS)
def test_scale_and_constants(solver):
    """Objectives scale with the estimate, and constants change nothing."""
    estimate = pictures(5, 6, seed=1)[:2]
    radius = radii(estimate)[:, 2:5]
    solved = solve_tv(estimate, radius, solver=solver, tol=TOL)
    for factor in (1e-12, 1e12):
        scaled = solve_tv(factor * (estimate + 0.25), factor * radius, solver=solver, tol=TOL)
        torch.testing.assert_close(scaled.objective, factor * solved.objective, rtol=1e-8, atol=0)


@pytest.mark.parametrize("solver", SOLVERS)
def test_single_precision_is_solved_in_double(solver):
    estimate = pictures(5, 4, seed=2)[:2].float()
    radius = radii(estimate.double())[:, 2:4].float()
    single = solve_tv(estimate, radius, solver=solver, tol=TOL)
    double = solve_tv(estimate.double(), radius.double(), solver=solver, tol=TOL)
    assert single.solution.dtype == single.flow.dtype == single.objective.dtype == torch.float64
    assert torch.equal(single.solution, double.solution)


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_row_does_not_depend_on_the_others(solver):
    estimate = pictures(6, 5, seed=3)
    radius = radii(estimate)
    whole = solve_tv(estimate, radius, solver=solver, tol=TOL)
    for row in (0, 3):
        alone = solve_tv(
            estimate[row : row + 1], radius[row : row + 1, 2:4], solver=solver, tol=TOL
        )
        # Products of matrices round as the batch's size has it.
        tolerance = 1e-6 if solver == "first-order" else 0
        torch.testing.assert_close(
            alone.solution[0], whole.solution[row, 2:4], rtol=tolerance, atol=tolerance
        )
        assert torch.equal(alone.iterations[0], whole.iterations[row, 2:4])


def test_auto_is_exact_on_the_cpu():
    estimate = pictures(4, 4, seed=4)
    solved = solve_tv(estimate, radii(estimate))
    native = hessx.backends.choose("cpu", ("native", "reference")) == "native"
    assert solved.solver == ("network-simplex" if native else "highs")
    check(solved, estimate, radii(estimate))


def test_the_first_order_method_stops_at_its_tolerance_and_its_limit():
    estimate = pictures(8, 8, seed=5)[[0, 1, 3, 4]]
    radius = radii(estimate)[:, 3:4]
    loose, tight = (
        solve_tv(estimate, radius, solver="first-order", tol=tol) for tol in (1e-3, 1e-9)
    )
    assert torch.all(loose.gap <= 1e-3)
    assert torch.all(tight.gap <= 1e-9)
    assert torch.all(loose.iterations < tight.iterations)
    stopped = solve_tv(estimate, radius, solver="first-order", tol=1e-9, max_iterations=7)
    assert torch.all(stopped.iterations == 7)
    check(stopped, estimate, radius, tol=1.0)
    # The bound of the relative gap holds where the method was stopped early.
    best = tight.objective
    assert torch.all((stopped.objective - best) / stopped.objective <= stopped.gap + 1e-12)
    assert torch.all(stopped.gap > 1e-4)


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_gradient_is_not_recorded(solver):
    estimate = pictures(3, 3, seed=6).requires_grad_()
    assert not solve_tv(estimate, torch.ones(5, 1), solver=solver).solution.requires_grad


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"estimate": [[1.0]]}, TypeError, "estimate must be a tensor"),
        (
            {"estimate": torch.ones(1, 2, 2, dtype=torch.int64)},
            TypeError,
            "estimate must be float32",
        ),
        ({"estimate": torch.ones(2, 2)}, ValueError, r"estimate must be \(N, p1, p2\)"),
        ({"estimate": torch.ones(1, 0, 2)}, ValueError, r"estimate must be \(N, p1, p2\)"),
        ({"estimate": torch.full((1, 2, 2), torch.nan)}, ValueError, "estimate must be finite"),
        ({"estimate": torch.full((1, 2, 2), torch.inf)}, ValueError, "estimate must be finite"),
        ({"radius": torch.ones(1)}, ValueError, r"radius must be \(N, M\) with N = 1"),
        ({"radius": torch.ones(2, 1)}, ValueError, r"radius must be \(N, M\) with N = 1"),
        ({"radius": torch.tensor([[torch.nan]])}, ValueError, "radius must be finite, got nan"),
        ({"radius": torch.tensor([[torch.inf]])}, ValueError, "radius must be finite, got inf"),
        ({"radius": torch.tensor([[1.0, -0.5]])}, ValueError, "radius must be >= 0, got -0.5"),
        ({"radius": 1.0}, TypeError, "radius must be a tensor"),
        ({"solver": "simplex"}, ValueError, "solver must be one of"),
        ({"tol": 0.0}, ValueError, "tol must be > 0"),
        ({"tol": float("nan")}, ValueError, "tol must be > 0"),
        ({"max_iterations": 0}, ValueError, "max_iterations must be >= 1, got 0"),
    ],
)
def test_errors(changes, error, message):
    arguments = {"estimate": torch.ones(1, 2, 2), "radius": torch.ones(1, 1), **changes}
    with pytest.raises(error, match=message):
        solve_tv(**arguments)


@pytest.mark.skipif(not missing("native"), reason="C++ is there")
def test_the_network_simplex_needs_cpp():
    with pytest.raises(RuntimeError):
        solve_tv(torch.ones(1, 2, 2), torch.ones(1, 1), solver="network-simplex")


def test_a_backend_forced_around_the_call_is_kept():
    with hessx.backend("reference"):
        solved = solve_tv(torch.ones(1, 2, 2), torch.ones(1, 1))
        assert solved.solver == "highs"
        assert hessx.backends.choose("cpu") == "reference"


@pytest.mark.parametrize("limit", [1, 100])
def test_certificates_are_made_for_some_edges_at_a_time(monkeypatch, limit):
    """For a row at least, and with the same results."""
    estimate = pictures(4, 5, seed=7)
    m, radius = len(differences(4, 5)), radii(estimate)
    whole = solve_tv(estimate, radius)
    sizes = []

    def watched(flow: Tensor, *arguments: Tensor) -> Tensor:
        sizes.append(flow.numel())
        return dual_value(flow, *arguments)

    monkeypatch.setattr(program, "dual_value", watched)
    monkeypatch.setattr(program, "_EDGES_AT_ONCE", limit)
    parts = solve_tv(estimate, radius)
    assert max(sizes) <= max(limit, m)
    assert sum(sizes) == radius.numel() * m
    for name in ("solution", "objective", "gap", "flow", "iterations"):
        assert torch.equal(getattr(parts, name), getattr(whole, name)), name
