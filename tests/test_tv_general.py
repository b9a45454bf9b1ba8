"""LEG-TV's program with any covariance: against the paper's own form, with a dense ``D^{+T}``."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from hessx.ops.flow.reference import curl_matrix
from hessx.solve.tv import largest_bound, solve_tv, solve_tv_general
from hessx.solve.tv.certificate import difference, largest
from hessx.solve.tv.constraint import Constraint
from hessx.solve.tv.sparse_program import difference_matrix
from tests.references.total_variation import (
    differences,
    grid_tv_covariance,
    paper_optimum,
    pictures,
)

# From 0 to beyond the bound from which on the solution is constant.
LEVELS = torch.tensor([0.0, 1e-3, 0.1, 0.5, 1.0, 1.5], dtype=torch.float64)
SIZES = [(1, 5), (6, 1), (2, 2), (4, 5)]


def identity(p: int) -> dict[str, Tensor]:
    return {"variance": torch.full((p,), 0.1)}


def diagonal(p: int) -> dict[str, Tensor]:
    return {"variance": 0.1 + torch.rand(p, dtype=torch.float64)}


def low_rank(p: int) -> dict[str, Tensor]:
    return {"variance": 0.1 + torch.rand(p), "factor": torch.randn(p, min(p // 2, 2))}


def dense(p: int) -> dict[str, Tensor]:
    return {"factor": torch.eye(p) + torch.randn(p, p) / p**0.5}


def covariance(p: int, variance: Tensor | None = None, factor: Tensor | None = None) -> np.ndarray:
    made = torch.zeros(p, p, dtype=torch.float64)
    if variance is not None:
        made += torch.diag(variance.double())
    if factor is not None:
        made += factor.double() @ factor.double().T
    return made.numpy()


@pytest.mark.parametrize("make", [identity, diagonal, low_rank, dense])
@pytest.mark.parametrize("size", SIZES)
def test_optimum(size, make):
    p = size[0] * size[1]
    estimate, arguments = pictures(*size, seed=p)[[0, 2]], make(p)
    bound = largest_bound(estimate, **arguments)[:, None] * LEVELS
    solved = solve_tv_general(estimate, bound, **arguments)
    sigma = covariance(p, **arguments)
    best = torch.tensor(
        [
            [paper_optimum(g, level, sigma) for level in levels]
            for g, levels in zip(estimate.numpy(), bound.numpy(), strict=True)
        ],
        dtype=torch.float64,
    )
    scale = difference(estimate).abs().sum(1)[:, None]
    torch.testing.assert_close(solved.objective / scale, best / scale, atol=1e-8, rtol=0)
    assert not solved.objective[:, -2:].any()
    assert torch.all(solved.objective[:, :-2] > 0)
    assert torch.all((solved.gap >= 0) & (solved.gap <= 1e-8))
    # Feasible, by the paper's form; some roundings of its dense pseudo-inverse.
    operator = torch.from_numpy(np.linalg.pinv(differences(*size)).T @ sigma)
    left = ((estimate[:, None] - solved.solution).flatten(2) @ operator.T).abs().amax(2)
    assert torch.all(
        left <= bound * (1 + 1e-9) + 1e-12 * largest_bound(estimate, **arguments)[:, None]
    )


@pytest.mark.parametrize("make", [identity, diagonal, dense])
def test_the_dual_point_proves_the_gap(make):
    size, p = (3, 4), 12
    estimate, arguments = pictures(*size, seed=1)[:1], make(p)
    bound = largest_bound(estimate, **arguments)[:, None] * LEVELS[1:4]
    solved = solve_tv_general(estimate, bound, **arguments)
    d = torch.from_numpy(differences(*size))
    operator = torch.linalg.pinv(d).mT @ torch.from_numpy(covariance(p, **arguments))
    y, z = solved.multiplier[0], solved.subgradient[0]
    torch.testing.assert_close(y @ operator, z @ d, rtol=1e-9, atol=1e-10)
    assert z.abs().max() <= 1
    value = y @ operator @ estimate.flatten() - bound[0] * y.abs().sum(1)
    torch.testing.assert_close(value, solved.objective[0], rtol=1e-8, atol=0)


@pytest.mark.parametrize("make", [identity, diagonal, low_rank, dense])
@pytest.mark.parametrize("size", [1e-3, 1.0, 1e3])
def test_any_dual_point_is_below_and_any_point_above(make, size):
    arguments = make(12)
    constraint = Constraint.of(3, 4, arguments.get("variance"), arguments.get("factor"))
    estimate = pictures(3, 4, seed=2)[:1]
    bound = 0.2 * largest_bound(estimate, **arguments)
    best = solve_tv_general(estimate, bound[:, None], **arguments).objective.item()
    y, z = size * torch.randn(2, 50, 17, dtype=torch.float64)
    value, y, z = constraint.dual_value(y, z, estimate, bound)
    assert torch.all(value <= best * (1 + 1e-8))
    point = constraint.feasible(estimate + size * torch.randn(50, 3, 4), estimate, bound)
    assert torch.all(difference(point).abs().sum(1) >= best * (1 - 1e-8))
    # The operator's rounding, of numbers as large as the point's.
    reach = largest(constraint.image(estimate - point))
    assert torch.all(reach <= bound * (1 + 1e-9) + 1e-12 * size)


@pytest.mark.parametrize("size", [(1, 5), (2, 2), (4, 5)])
def test_grid_tv_is_the_program_of_the_differences(size):
    """With its own covariance the general program is `solve_tv`'s, where R = L / s2."""
    variance = 0.3
    root = variance**0.5 * torch.linalg.cholesky(torch.from_numpy(grid_tv_covariance(*size)))
    estimate = pictures(*size, seed=3)
    radius = largest(difference(estimate))[:, None] * LEVELS
    general = solve_tv_general(estimate, variance * radius, factor=root)
    special = solve_tv(estimate, radius, solver="first-order", tol=1e-9)
    scale = difference(estimate).abs().sum(1)[:, None]
    torch.testing.assert_close(
        general.objective / scale, special.objective / scale, atol=1e-8, rtol=0
    )
    assert torch.all(general.solution.mean((2, 3)).abs() <= 1e-12)
    torch.testing.assert_close(
        largest_bound(estimate, factor=root), variance * largest(difference(estimate))
    )


def test_bounds_of_zero_and_beyond_the_largest():
    estimate = pictures(3, 4, seed=4)[:1]
    bound = largest_bound(estimate, **identity(12))[:, None] * torch.tensor([0.0, 1.0])
    solved = solve_tv_general(estimate, bound, **identity(12))
    expected = estimate[0] - estimate[0].mean()
    torch.testing.assert_close(solved.solution[0, 0], expected, rtol=1e-9, atol=1e-10)
    assert not solved.solution[0, 1].any()


def test_a_constant_picture_keeps_its_constant_where_the_program_determines_it():
    flat = torch.full((1, 2, 3), 5.0)
    bound = torch.tensor([[0.0, 1.0]])
    assert torch.all(solve_tv_general(flat, bound, **diagonal(6)).solution == 5)
    assert torch.all(solve_tv_general(flat, bound, **identity(6)).solution == 0)


@pytest.mark.parametrize("factor", [1e-8, 1e8])
def test_scale(factor):
    estimate, arguments = pictures(3, 4, seed=5)[:1], diagonal(12)
    bound = largest_bound(estimate, **arguments)[:, None] * LEVELS[1:4]
    solved = solve_tv_general(estimate, bound, **arguments)
    scaled = solve_tv_general(factor * estimate, factor * bound, **arguments)
    torch.testing.assert_close(scaled.objective, factor * solved.objective, rtol=1e-8, atol=0)


def test_matrices():
    for size in [(1, 4), (5, 1), (2, 2), (3, 5)]:
        d = difference_matrix(*size).toarray()
        np.testing.assert_array_equal(d, differences(*size))
        curl = curl_matrix(*size)
        assert curl.shape == ((size[0] - 1) * (size[1] - 1), len(d))
        assert not (curl @ d).any()


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"variance": None}, ValueError, "variance or factor must be given"),
        ({"variance": torch.ones(3)}, ValueError, r"variance must be \(4,\), got \(3,\)"),
        ({"variance": torch.ones(2, 2)}, ValueError, r"variance must be \(4,\)"),
        ({"variance": -torch.ones(4)}, ValueError, "variance must be >= 0, got -1"),
        ({"variance": torch.zeros(4)}, ValueError, "variance must be > 0"),
        ({"variance": torch.full((4,), torch.nan)}, ValueError, "variance must be finite"),
        ({"variance": [1.0] * 4}, TypeError, "variance must be a tensor"),
        ({"factor": torch.ones(3, 1)}, ValueError, r"factor must be \(4, q\), got \(3, 1\)"),
        ({"factor": torch.ones(4)}, ValueError, r"factor must be \(4, q\)"),
        (
            {"variance": None, "factor": torch.ones(4, 1)},
            ValueError,
            "variance and factor must give a positive-definite covariance",
        ),
        ({"bound": torch.tensor([[-1.0]])}, ValueError, "bound must be >= 0, got -1"),
        ({"bound": torch.ones(2, 1)}, ValueError, r"bound must be \(N, M\)"),
        ({"estimate": torch.full((1, 2, 2), torch.nan)}, ValueError, "estimate must be finite"),
    ],
)
def test_errors(changes, error, message):
    arguments = {
        "estimate": torch.ones(1, 2, 2),
        "bound": torch.ones(1, 1),
        "variance": torch.ones(4),
        **changes,
    }
    with pytest.raises(error, match=message):
        solve_tv_general(**arguments)
