"""Optimal explanations: many coordinates, conditions, ridges, perturbations of little."""

from __future__ import annotations

import pytest
import torch

import hessx
from hessx.explain import least_squares
from hessx.perturb import Gaussian, NoisyBaseline, Shap, Square
from hessx.query import BlackBoxQuery
from hessx.solve.least_squares import iteration, second_moment, squares
from tests.references.optimal import (
    EVERY_LAW,
    GROUPS,
    LAWS,
    LISTED,
    NET,
    SHAPE,
    X,
    design,
    lstsq,
)


@EVERY_LAW
@pytest.mark.parametrize("n", [400, 40, None], ids=["many", "few", "listed"])
def test_many_coordinates(law, n, monkeypatch):
    """Conjugate gradients find what the factor of the matrix finds."""
    if n is None and law not in [LAWS[name] for name in LISTED]:
        return
    x = X.clone()
    x[0, :, 3, 3] = 0
    options = {"perturb_func": law, "n_samples": n}
    dense = hessx.optimal_explanation(NET, x, 1, **options)
    for module in (least_squares, second_moment):
        monkeypatch.setattr(module, "DENSE_UP_TO", 1)
    monkeypatch.setattr(squares, "DENSE_UP_TO", 1)
    found = hessx.optimal_explanation(NET, x, 1, **options)
    size = dense.attributions.abs().max().item()
    assert torch.allclose(found.attributions, dense.attributions, atol=1e-5 * size)
    assert torch.allclose(found.infidelity, dense.infidelity, rtol=1e-5, atol=1e-12)
    few = found.n_samples < found.coefficients[0].numel()
    assert (found.condition.isinf() if few else found.condition.isnan()).all()
    forced = [
        hessx.optimal_explanation(NET, x, 1, ridge=0.1, **options),
        monkeypatch.undo(),
        hessx.optimal_explanation(NET, x, 1, ridge=0.1, **options),
    ]
    assert torch.allclose(forced[0].attributions, forced[2].attributions, atol=1e-7 * size)
    assert forced[0].ridge.tolist() == [0.1, 0.1]
    # With a ridge nothing is left open, however few the draws.
    assert forced[0].condition.isnan().all()
    assert forced[2].condition.isfinite().all()


@pytest.mark.parametrize("n", [None, 400], ids=["listed", "drawn"])
@pytest.mark.parametrize("multiplied", [True, False])
def test_many_squares_without_side_1_have_a_ridge(multiplied, n, monkeypatch):
    """The one of the row sums: 50 squares of sides 2 and 3 leave four of 42 numbers open."""
    x = X[:, :1].clone()
    x[0, 0, 1, 1] = 0
    law = Square([2, 3], multiplied=multiplied)

    def f(x):
        return x.flatten(1).square().sum(1)

    matrix = hessx.optimal_explanation(f, x, perturb_func=law, n_samples=n)
    for module in (least_squares, second_moment, squares):
        monkeypatch.setattr(module, "DENSE_UP_TO", 1)
    found = hessx.optimal_explanation(f, x, perturb_func=law, n_samples=n)
    bound = law.bind(x, None, 0)
    u = (bound.enumerated(0, bound.size)[0] if n is None else bound.draw(0, n)).double()
    ridge = (u.T @ u / len(u)).sum(1).max().item() * 1e-12
    assert found.ridge.tolist() == [pytest.approx(ridge)] * 2
    assert matrix.condition.isinf().all()
    assert found.condition.isnan().all()
    # What is left open changes no answer; fewer draws have no ridge, and a smallest solution.
    assert torch.allclose(found.infidelity, matrix.infidelity, rtol=1e-6)
    few = hessx.optimal_explanation(f, x, perturb_func=law, n_samples=20)
    assert few.ridge.tolist() == [0, 0]
    assert few.condition.isinf().all()


@pytest.mark.parametrize("multiplied", [True, False])
def test_many_coordinates_that_add_up(multiplied, monkeypatch):
    x = X.clone()
    x[0, :, 3, 3] = 0
    options = {"perturb_func": Shap(multiplied=multiplied), "n_samples": 400}
    dense = hessx.optimal_explanation(NET, x, 1, **options)
    for module in (least_squares, second_moment):
        monkeypatch.setattr(module, "DENSE_UP_TO", 1)
    found = hessx.optimal_explanation(NET, x, 1, **options)
    assert torch.allclose(found.attributions, dense.attributions, atol=1e-6)


def test_draws_that_are_kept_count_as_memory(monkeypatch):
    """Where they are kept, there is room for fewer rows; without room they are made again."""
    for module in (least_squares, second_moment):
        monkeypatch.setattr(module, "DENSE_UP_TO", 1)
    n, k, law = 600, 84, Gaussian(0.3)
    block, row, drawn = 12 * 1024 * k, 8 * (12 * k + 1024), 8 * n * k
    drawings, groups = [], []
    noise = type(law.bind(X, None, 0))
    draw, values_at_draws = noise.draw, BlackBoxQuery.values_at_draws

    def counted_draw(self, first, count):
        drawings.append(first)
        return draw(self, first, count)

    def noted_values(self, points, count, rows, progress):
        groups.append(rows.tolist())
        return values_at_draws(self, points, count, rows, progress)

    monkeypatch.setattr(noise, "draw", counted_draw)
    monkeypatch.setattr(BlackBoxQuery, "values_at_draws", noted_values)

    def explain(room):
        drawings.clear()
        groups.clear()
        return hessx.optimal_explanation(
            NET, X, 1, perturb_func=law, n_samples=n, memory_limit=2 * room
        ).attributions

    together = explain(block + drawn + 2 * row)
    assert groups == [[0, 1]]
    assert len(drawings) == 2
    one_by_one = explain(block + drawn + row)
    assert groups == [[0], [1]]
    assert len(drawings) == 3
    made_again = explain(block + drawn + row - 1)
    assert groups == [[0, 1]]
    assert len(drawings) > 20
    assert torch.allclose(one_by_one, together, rtol=1e-6)
    assert torch.allclose(made_again, together, rtol=1e-6)


def test_functions_with_many_coordinates(monkeypatch):
    def noise(x):
        change = x * torch.rand_like(x)
        return change, x - change

    options = {"perturb_func": noise, "n_samples": 300}
    dense = hessx.optimal_explanation(NET, X, 1, **options)
    for module in (least_squares, second_moment):
        monkeypatch.setattr(module, "DENSE_UP_TO", 1)
    found = hessx.optimal_explanation(NET, X, 1, **options)
    assert torch.allclose(found.attributions, dense.attributions, atol=1e-5)
    assert found.condition.isnan().all()


def test_functions_may_write_to_what_they_returned(monkeypatch):
    buffer = torch.empty(256, *SHAPE, dtype=torch.float64)

    def fresh(x):
        change = 0.3 * torch.randn_like(x)
        return change, x - change

    def reused(x):
        change = buffer[: len(x)].copy_(fresh(x)[0])
        return change, x - change

    for module in (least_squares, second_moment):
        monkeypatch.setattr(module, "DENSE_UP_TO", 1)
    results = [
        hessx.optimal_explanation(NET, X, 1, perturb_func=function, n_samples=600)
        for function in (reused, fresh)
    ]
    assert torch.equal(results[0].attributions, results[1].attributions)


def test_condition_and_ridge():
    law = LAWS["gaussian"]
    u = law.bind(X, None, 0).draw(0, 300)
    eigenvalues = torch.linalg.eigvalsh(u.T @ u / 300)
    options = {"perturb_func": law, "n_samples": 300}
    free = hessx.optimal_explanation(NET, X, 1, **options)
    ratio = (eigenvalues[-1] / eigenvalues[0]).item()
    assert free.condition.tolist() == [pytest.approx(ratio, rel=0.05)] * 2
    assert free.ridge.tolist() == [0, 0]
    forced = hessx.optimal_explanation(NET, X, 1, ridge=0.5, **options)
    ratio = ((eigenvalues[-1] + 0.5) / (eigenvalues[0] + 0.5)).item()
    assert forced.condition.tolist() == [pytest.approx(ratio, rel=0.05)] * 2
    assert forced.ridge.tolist() == [0.5, 0.5]
    assert (forced.attributions.norm() < free.attributions.norm()).all()
    assert (forced.infidelity > free.infidelity).all()
    few = hessx.optimal_explanation(NET, X, 1, perturb_func=law, n_samples=20)
    assert few.condition.isinf().all()
    u = law.bind(X, None, 0).draw(0, 20)
    largest = torch.linalg.eigvalsh(u.T @ u / 20)[-1].item()
    assert few.ridge.tolist() == [pytest.approx(largest * 1e-10, rel=0.05)] * 2
    assert few.residual.max() < 1e-12
    with pytest.raises(ValueError, match="ridge must be larger"):
        hessx.optimal_explanation(NET, X, 1, perturb_func=law, n_samples=20, ridge=0)


@pytest.mark.parametrize("multiplied", [True, False], ids=["all squares", "reachable squares"])
def test_warnings_name_the_line_of_the_caller(multiplied, monkeypatch):
    for module in (second_moment, squares):
        monkeypatch.setattr(module, "DENSE_UP_TO", 1)
    for module in (iteration, squares):
        monkeypatch.setattr(module, "_MAX_ITERATIONS", 2)
    law = Square([1, 2, 4], multiplied=multiplied)
    with pytest.warns(RuntimeWarning, match="stopped after 2 iterations") as seen:
        hessx.optimal_explanation(NET, X, 1, perturb_func=law, n_samples=None)
    assert [warning.filename for warning in seen] == [__file__]


PINNED = {
    "one draw": (NoisyBaseline(0.2), 0.3, 1),
    "above": (NoisyBaseline(0.002, (0.0, 0.01)), 0.05, 300),
    "below": (NoisyBaseline(0.002, (0.0, 0.01)), -0.05, 300),
    "some": (NoisyBaseline(0.2), torch.tensor([-9.0, 0.5]).double().view(1, 2, 1, 1), 300),
}


@pytest.mark.parametrize("unit", [1.0, 1e-4])
@pytest.mark.parametrize("many", [False, True], ids=["matrix", "iterated"])
@pytest.mark.parametrize("case", PINNED)
def test_a_noisy_baseline_that_does_not_change(case, many, unit, monkeypatch):
    """Draws without a covariance leave the offset, x less what is always seen, in any unit."""
    law, baseline, n = PINNED[case]
    law = NoisyBaseline(law.sigma * unit, tuple(bound * unit for bound in law.clip))
    x, baseline = X * unit, baseline * unit * torch.ones(1, *SHAPE).double()
    if many:
        for module in (least_squares, second_moment):
            monkeypatch.setattr(module, "DENSE_UP_TO", 1)

    def f(x):
        return (x / unit).square().flatten(1).sum(1)

    result = hessx.optimal_explanation(f, x, perturb_func=law, n_samples=n, baselines=baseline)
    coordinates, weights, points = design(law, x, n, baseline)
    differences = f(x) - f(points.flatten(0, 1)).unflatten(0, points.shape[:2])
    expected = lstsq(coordinates, weights, differences).reshape(x.shape)
    size = expected.abs().max().item()
    assert torch.allclose(result.attributions, expected, rtol=0, atol=1e-5 * size)
    best = ((coordinates * expected.flatten(1)).sum(-1) - differences).square().mean(0)
    assert torch.allclose(result.infidelity, best, rtol=1e-5, atol=1e-9)
    assert not result.condition.isfinite().any()
    assert (result.ridge < 1e-9 * unit**2).all()


def test_perturbations_of_nothing_are_explained_by_nothing():
    result = hessx.optimal_explanation(NET, X, 1, perturb_func=lambda x: (0 * x, x), n_samples=5)
    assert torch.equal(result.attributions, torch.zeros_like(X))
    assert result.infidelity.max() < 1e-28
    assert result.condition.isinf().all()
    assert (result.ridge == 0).all()
    at_baseline = hessx.optimal_explanation(
        NET, 0 * X, 1, perturb_func=Shap(multiplied=False, features=GROUPS), n_samples=None
    )
    assert torch.equal(at_baseline.attributions, torch.zeros_like(X))
