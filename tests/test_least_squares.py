"""Second moments, their factors and their sums, apart from any model."""

from __future__ import annotations

import pytest
import torch

from hessx.solve.least_squares.factor import CONDITION_BOUND, factored
from hessx.solve.least_squares.moments import DifferenceMoments, DrawMoments
from hessx.solve.least_squares.system import System, solve


def matrix(eigenvalues):
    q, _ = torch.linalg.qr(torch.randn(len(eigenvalues), len(eigenvalues), dtype=torch.float64))
    found = (q * eigenvalues) @ q.T
    return (found + found.T) / 2


@pytest.mark.parametrize("condition", [1.0, 3.0, 1e5, 1e9])
@pytest.mark.parametrize("k", [1, 2, 200])
def test_a_well_conditioned_moment_has_no_ridge(condition, k):
    low = 1.0 if k == 1 else 1 / condition
    moment = matrix(7 * torch.logspace(0, torch.tensor(low).log10().item(), k, dtype=torch.float64))
    factor, condition_found = factored(moment, None)
    assert factor.ridge == 0
    assert condition_found == pytest.approx(1 / low, rel=0.05)
    rhs = torch.randn(3, k, dtype=torch.float64)
    assert torch.allclose(factor.solve(rhs) @ moment, rhs, atol=1e-16 * condition + 1e-12)


@pytest.mark.parametrize("smallest", [0.0, 1e-14, 1e-11])
def test_the_least_ridge_brings_the_condition_to_its_bound(smallest):
    eigenvalues = torch.linspace(1, 2, 50, dtype=torch.float64)
    eigenvalues[:5] = smallest
    moment = matrix(eigenvalues)
    factor, known = factored(moment, None)
    assert known == torch.inf
    reached = (2 + factor.ridge) / (smallest + factor.ridge)
    assert reached == pytest.approx(CONDITION_BOUND, rel=0.05)
    rebuilt = factor.lower @ factor.lower.T
    assert torch.allclose(rebuilt, moment + factor.ridge * torch.eye(50).double(), atol=1e-14)


def test_a_given_ridge():
    moment = matrix(torch.tensor([4.0, 1.0, 0.0], dtype=torch.float64))
    factor, known = factored(moment, 0.5)
    assert factor.ridge == 0.5
    assert known == pytest.approx(9, rel=0.05)
    with pytest.raises(ValueError, match=r"do not determine 3 coordinates, got ridge = 0\.0"):
        factored(torch.zeros(3, 3, dtype=torch.float64), 0.0)


def test_numbers_that_never_change_have_no_variance():
    """The mean of 1,000 times 0.7 is not 0.7."""
    u = torch.full((1000, 3), 0.7, dtype=torch.float64)
    u[:, 2] = torch.randn(1000, dtype=torch.float64)
    moments = DrawMoments(3, torch.device("cpu"), centred=True)
    for first in (0, 600):
        moments.add(u[first : first + 600], None)
    assert (moments.second[:2] == 0).all()
    assert moments.mean[:2].tolist() == [0.7, 0.7]


@pytest.mark.parametrize("weighted", [False, True])
def test_moments_about_a_distant_mean_keep_their_digits(weighted):
    u = torch.randn(3000, 4, dtype=torch.float64) @ torch.randn(4, 4).double()
    weights = torch.rand(3000, dtype=torch.float64) if weighted else None
    share = (
        torch.full((3000,), 1 / 3000, dtype=torch.float64)
        if weights is None
        else weights / weights.sum()
    )
    mean = share @ u
    covariance = (share[:, None] * (u - mean)).T @ (u - mean)
    moments = DrawMoments(4, torch.device("cpu"), centred=True)
    diagonal = DrawMoments(4, torch.device("cpu"), centred=True, diagonal=True)
    for first in range(0, 3000, 700):
        part = slice(first, first + 700)
        some = None if weights is None else weights[part]
        moments.add(u[part] + 1e6, some)
        diagonal.add(u[part] + 1e6, some)
    # The draws themselves were rounded to 1e-10; sums about 0 would lose 1e12 times 1e-16.
    assert torch.allclose(moments.second, covariance, atol=1e-8)
    assert torch.allclose(diagonal.second, covariance.diagonal(), atol=1e-8)
    assert torch.allclose(moments.mean, mean + 1e6, rtol=1e-15)


@pytest.mark.parametrize("weighted", [False, True])
def test_sums_of_zeros_and_ones(weighted):
    u = (torch.rand(3000, 5) < 0.3).float()
    weights = torch.rand(3000, dtype=torch.float64) if weighted else None
    d = torch.randn(3000, 2, dtype=torch.float64)
    moments = DrawMoments(5, torch.device("cpu"), binary=True)
    differences = DifferenceMoments(5, 2, torch.device("cpu"))
    for first in range(0, 3000, 900):
        part = slice(first, first + 900)
        some = None if weights is None else weights[part]
        moments.add(u[part], some)
        differences.add(u[part], d[part], some)
    share = (
        torch.full((3000,), 1 / 3000, dtype=torch.float64)
        if weights is None
        else weights / weights.sum()
    )
    weighted_u = share[:, None] * u.double()
    assert torch.allclose(moments.second, weighted_u.T @ u.double(), rtol=1e-13, atol=0)
    assert torch.allclose(moments.mean, weighted_u.sum(0), rtol=1e-13, atol=0)
    assert torch.allclose(differences.cross, d.T @ weighted_u, rtol=1e-12, atol=0)
    assert torch.allclose(differences.mean, share @ d, rtol=1e-12, atol=0)
    assert torch.allclose(differences.square, share @ d.square(), rtol=1e-12, atol=0)


def test_an_offset_and_unreachable_coordinates_together():
    """Each input has an update of the shared moment and coordinates of its own."""
    k, n = 6, 400
    u = torch.randn(n, k, dtype=torch.float64)
    u -= u.mean(0)
    offset = torch.randn(2, k, dtype=torch.float64)
    d = torch.randn(n, 2, 3, dtype=torch.float64)
    reachable = torch.tensor([[True] * 6, [True, False, True, True, False, True]])
    system = System(
        torch.einsum("nk,nrt->rtk", u, d - d.mean(0)) / n,
        d.square().mean(0),
        d.mean(0),
        offset,
        reachable=reachable,
    )
    found = solve(system, u.T @ u / n, None)
    for r in range(2):
        design = (u + offset[r]) * reachable[r]
        expected = torch.linalg.lstsq(design, d[:, r], driver="gelsd").solution
        assert torch.allclose(found.w[r].T, expected, atol=1e-12)
        errors = (design @ expected - d[:, r]).square().mean(0)
        assert torch.allclose(found.infidelity[r], errors)
