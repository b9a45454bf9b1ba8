"""Bounds of the total-variation program from any point and any flow."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hessx import ops
from hessx.solve.tv import solve_tv, theory_bound
from hessx.solve.tv.certificate import (
    circulation,
    difference,
    difference_adjoint,
    dual_value,
    feasible,
    relative_gap,
)
from tests.references.total_variation import differences, pictures, sparse_optimum


@settings(max_examples=25, deadline=None)
@given(
    p1=st.integers(1, 6),
    p2=st.integers(1, 6),
    level=st.sampled_from([0.0, 1e-3, 0.2, 0.7, 1.0]),
    size=st.sampled_from([1e-3, 0.3, 1.0, 4.0, 1e3]),
    seed=st.integers(0, 1000),
)
def test_any_point_and_flow_enclose_the_optimum(p1, p2, level, size, seed):
    generator = torch.Generator().manual_seed(seed)
    estimate = pictures(p1, p2, seed)
    centre = difference(estimate)
    radius = level * centre.abs().sum(1) / max(centre.shape[1], 1)
    best = torch.tensor(
        [
            sparse_optimum(g, r) if centre.any() else 0.0
            for g, r, centre in zip(estimate.numpy(), radius.tolist(), centre, strict=True)
        ],
        dtype=torch.float64,
    )
    # Of HiGHS' optimum, whose bounds hold to 1e-10 of the largest.
    rounding = 1e-8 * centre.abs().sum(1)
    point = estimate + size * torch.randn(estimate.shape, generator=generator)
    moved = feasible(point, estimate, radius)
    assert torch.all(difference(moved).abs().sum(1) >= best - rounding)
    reach = difference(moved - estimate).abs().amax(1) if p1 * p2 > 1 else torch.zeros(5)
    assert torch.all(reach <= radius + 1e-13 * (1 + size) * (1 + estimate.abs().amax((1, 2))))
    flow = circulation(size * torch.randn(centre.shape, generator=generator).double(), p1, p2)
    assert torch.all(dual_value(flow, centre, radius) <= best + rounding * (1 + size))


def test_a_feasible_point_stays():
    estimate = pictures(4, 5, seed=0)
    point = estimate + 1e-3 * torch.randn_like(estimate)
    radius = difference(point - estimate).abs().amax(1)
    assert torch.equal(feasible(point, estimate, radius), point)
    assert torch.equal(feasible(point, estimate, torch.zeros(5)), estimate)


@pytest.mark.parametrize("size", [(1, 5), (4, 1), (2, 2), (5, 7)])
def test_circulations(size):
    d = torch.from_numpy(differences(*size))
    flow = torch.randn(3, 2, len(d), dtype=torch.float64)
    projected = circulation(flow, *size)
    expected = flow - flow @ (d @ torch.linalg.pinv(d))
    torch.testing.assert_close(projected, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(difference_adjoint(flow, *size).flatten(2), flow @ d)


def test_the_bounds_meet_at_the_optimum_only():
    """Not for the spike: all flows of 0 prove its optimum."""
    estimate = pictures(6, 6, seed=1)[[0, 1, 3, 4]]
    radius = 0.2 * difference(estimate).abs().amax(1, keepdim=True)
    solved = solve_tv(estimate, radius, solver="highs")
    centre = difference(estimate)
    best = dual_value(solved.flow[:, 0], centre, radius[:, 0])
    torch.testing.assert_close(best, solved.objective[:, 0], rtol=1e-9, atol=0)
    assert torch.equal(solved.flow, solved.flow.round())
    for factor in (0.0, 0.9, 1.1, -1.0):
        assert torch.all(dual_value(factor * solved.flow[:, 0], centre, radius[:, 0]) < best)


def test_the_best_rounding_of_a_potential_is_no_worse():
    """The value is the mean of those of ``floor(psi + tau)`` over tau in [0, 1]."""
    estimate = pictures(5, 5, seed=2)
    radius = 0.3 * difference(estimate).abs().amax(1)
    psi = 2 * torch.randn(5, 4, 4, dtype=torch.float64)
    centre = difference(estimate)
    value = dual_value(ops.grid_curl_adjoint(psi), centre, radius)
    fractions = (1 - psi.flatten(1) % 1).sort(1).values
    edges = torch.cat([torch.zeros(5, 1), fractions, torch.ones(5, 1)], 1)
    rounded = torch.stack(
        [
            dual_value(ops.grid_curl_adjoint((psi + tau[:, None, None]).floor()), centre, radius)
            for tau in ((edges[:, 1:] + edges[:, :-1]) / 2).T
        ]
    )
    mean = (rounded * edges.diff(dim=1).T).sum(0)
    torch.testing.assert_close(mean, value, rtol=1e-10, atol=1e-10)


def test_relative_gap():
    objective = torch.tensor([0.0, 2.0, 2.0, 2.0, 2.0])
    dual = torch.tensor([0.0, 2.0, 1.0, -3.0, 2.5])
    assert relative_gap(objective, dual).tolist() == [0.0, 0.0, 0.5, 1.0, 0.0]


def test_what_overflows_is_not_certified():
    inf, nan = math.inf, math.nan
    objective = torch.tensor([inf, inf, inf, 2.0, 2.0, nan])
    dual = torch.tensor([inf, nan, 1.0, nan, inf, 1.0])
    assert relative_gap(objective, dual).isnan().all()


@pytest.mark.parametrize("solver", ["auto", "highs", "first-order"])
def test_the_gap_of_differences_that_overflow(solver):
    estimate = torch.tensor([[[1.7e308, -1.7e308], [-1.7e308, 1.7e308]]], dtype=torch.float64)
    solved = solve_tv(estimate, torch.tensor([[1e300]], dtype=torch.float64), solver=solver)
    assert solved.gap.isnan().all()


@pytest.mark.parametrize("size", [(1, 2), (1, 7), (8, 1), (2, 2), (3, 7), (6, 6), (5, 9)])
def test_the_norm_of_theorem_1(size):
    d = differences(*size)
    norm = np.abs(np.linalg.pinv(d)).sum(0).max()
    expected = 2 * norm * math.sqrt(2 * math.log(2 * len(d) / 0.1) / 50)
    assert theory_bound(*size, n=50, eps=0.1) == pytest.approx(expected, rel=1e-12)


def test_the_bound_of_theorem_1_at_28():
    assert theory_bound(28, 28, n=3000) == pytest.approx(2.4, abs=0.05)
    assert theory_bound(1, 1, n=10) == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"p1": 0}, "p1 must be >= 1, got 0"),
        ({"p2": -1}, "p2 must be >= 1, got -1"),
        ({"n": 0}, "n must be >= 1, got 0"),
        ({"eps": 0.0}, "eps must be between 0 and 1, got 0.0"),
        ({"eps": 1.0}, "eps must be between 0 and 1, got 1.0"),
        ({"eps": float("nan")}, "eps must be between 0 and 1, got nan"),
    ],
)
def test_errors_of_the_bound(changes, message):
    with pytest.raises(ValueError, match=message):
        theory_bound(**{"p1": 3, "p2": 3, "n": 5, **changes})
