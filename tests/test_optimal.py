"""Optimal explanations: the propositions of the paper, least squares in float64, few samples."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from itertools import combinations
from math import factorial

import numpy as np
import pytest
import torch
from torch import nn

import hessx
from hessx.explain import least_squares
from hessx.perturb import Gaussian, NoisyBaseline, Shap, Square, Subsets
from hessx.query import BlackBoxQuery
from hessx.solve.least_squares import iteration, second_moment, squares

SHAPE = (2, 6, 7)
X = torch.rand(2, *SHAPE, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 0.1
GROUPS = hessx.Segments(torch.arange(42).reshape(6, 7) % 5)
LAWS = {
    "gaussian": Gaussian(0.3),
    "clipped": NoisyBaseline(0.3),
    "not clipped": NoisyBaseline(0.3, None),
    "square": Square(sides=[1, 2, 4]),
    "cells": Square(sides=[1, 2], features=hessx.Grid((3, 4)), multiplied=False),
    "independent": Subsets(0.3, features=hessx.Identity()),
    "sized": Subsets(size=2, features=GROUPS, multiplied=False),
}
EVERY_LAW = pytest.mark.parametrize("law", LAWS.values(), ids=list(LAWS))
LISTED = ["square", "cells", "sized"]


def net(seed=0):
    torch.manual_seed(seed)
    layers = nn.Flatten(), nn.Linear(84, 12), nn.Softplus(), nn.Linear(12, 3)
    return nn.Sequential(*layers).double().eval()


NET = net()


def infidelity(law, x, attributions, n, target=1, **options):
    return hessx.infidelity(
        NET, law, x, attributions, target=target, n_perturb_samples=n, seed=0, **options
    )


def design(law, x, n, baselines=None):
    """Return perturbations in coordinates ``(n, B, k)``, weights, and perturbed inputs."""
    bound = law.bind(x, baselines, 0)
    rows = torch.arange(len(x))
    if n is None:
        u, weights = bound.enumerated(0, bound.size)
    else:
        u = bound.draw(0, n)
        weights = torch.full((n,), 1 / n, dtype=torch.float64)
    shift = bound.shift(rows)
    coordinates = u[:, None].double().expand(-1, len(x), -1)
    if shift is not None:
        coordinates = coordinates + shift
    return coordinates, weights, bound.perturbed(u[:, None], rows)


def lstsq(coordinates, weights, differences):
    """Return NumPy's solution for each row, the smallest of several."""
    root = weights.sqrt()[:, None]
    rows = [
        np.linalg.lstsq(root * coordinates[:, i], root[:, 0] * differences[:, i], rcond=1e-9)[0]
        for i in range(coordinates.shape[1])
    ]
    return torch.from_numpy(np.stack(rows))


@EVERY_LAW
@pytest.mark.parametrize("n", [400, 40, None], ids=["many", "few", "listed"])
def test_it_is_numpys_least_squares(law, n):
    if n is None and law not in [LAWS[name] for name in LISTED]:
        with pytest.raises(ValueError, match="does not list its perturbations"):
            hessx.optimal_explanation(NET, X, 1, perturb_func=law, n_samples=None)
        return
    x = X.clone()
    # A pixel that removing does not change.
    x[0, :, 3, 3] = 0
    coordinates, weights, points = design(law, x, n)
    values = NET(points.flatten(0, 1))[:, 1].unflatten(0, points.shape[:2]).detach()
    differences = NET(x)[:, 1].detach() - values
    reachable = law.bind(x, None, 0).reachable(torch.arange(2))
    if reachable is not None:
        coordinates = coordinates * reachable
    expected = lstsq(coordinates, weights, differences)
    result = hessx.optimal_explanation(NET, x, 1, perturb_func=law, n_samples=n)
    found = result.coefficients.reshape(2, -1)
    assert torch.allclose(found, expected, atol=1e-5 * expected.abs().max().item(), rtol=0)
    errors = (coordinates * expected).sum(-1) - differences
    best = (weights[:, None] * errors.square()).sum(0)
    size = (weights[:, None] * differences.square()).sum(0)
    assert torch.allclose(result.infidelity, best, rtol=1e-6, atol=1e-9 * size.max().item())
    assert torch.allclose(result.residual, best / size, rtol=1e-6, atol=1e-9)
    assert result.n_samples == len(weights)
    # Coordinates are those of the attributions, whose infidelity is the one reported.
    scored = infidelity(law, x, result.attributions, n)
    assert torch.allclose(scored, result.infidelity, rtol=1e-6, atol=1e-9 * size.max().item())


@EVERY_LAW
def test_a_linear_model_is_recovered(law):
    direction = torch.randn(SHAPE, generator=torch.Generator().manual_seed(3)).double()
    n = None if law in [LAWS[name] for name in LISTED] else 500
    result = hessx.optimal_explanation(
        lambda x: (x * direction).flatten(1).sum(1), X, perturb_func=law, n_samples=n, baselines=0.3
    )
    assert result.residual.max() < 1e-13
    bound = law.bind(X, 0.3, 0)
    rows = torch.arange(2)
    whole = direction.expand_as(X)
    if getattr(law, "multiplied", False):
        whole = whole * (X - 0.3)
    truth = bound.project(whole, rows)
    assert torch.allclose(result.coefficients.reshape(2, -1), truth, atol=1e-8)
    assert torch.allclose(result.attributions, bound.lift(truth, rows), atol=1e-8)
    assert (result.ridge == 0).all()


def test_gradient():
    """Proposition 2.3: I = eps e_i, eps towards 0; and Gaussian noise towards 0."""
    leaf = X.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(NET(leaf)[:, 1].sum(), leaf)

    def one_number(x):
        numbers = torch.randint(84, (len(x),))
        change = 1e-5 * torch.eye(84, dtype=x.dtype)[numbers].reshape(x.shape)
        return change, x - change

    result = hessx.optimal_explanation(NET, X, 1, perturb_func=one_number, n_samples=2000)
    assert torch.allclose(result.attributions, gradient, atol=1e-6)
    noise = hessx.optimal_explanation(NET, X, 1, perturb_func=Gaussian(1e-4), n_samples=500)
    assert torch.allclose(noise.attributions, gradient, atol=1e-5)


def test_occlusion():
    """Proposition 2.4: I = x_i e_i gives (f(x) - f(x without i)) / x_i, and 0 where x_i is 0."""
    x = X.clone()
    x[0, 0, 2, :3] = 0

    def one_number(x):
        numbers = torch.randint(84, (len(x),))
        change = x * torch.eye(84, dtype=x.dtype)[numbers].reshape(x.shape)
        return change, x - change

    result = hessx.optimal_explanation(NET, x, 1, perturb_func=one_number, n_samples=2000)
    without = x[:, None] * (1 - torch.eye(84).double()).reshape(1, 84, *SHAPE)
    drops = NET(x)[:, 1:2] - NET(without.flatten(0, 1))[:, 1].unflatten(0, (2, 84))
    drops = drops.detach().reshape(x.shape)
    expected = torch.where(x == 0, 0, drops / torch.where(x == 0, 1, x))
    assert torch.allclose(result.attributions, expected, atol=1e-7)
    assert result.condition.isinf().tolist() == [True, False]
    # As a law, all of them listed: multiplied by the input and as they are.
    law = Subsets(size=1, features=hessx.Identity())
    removed = hessx.optimal_explanation(NET, x, 1, perturb_func=law, n_samples=None)
    assert torch.allclose(removed.attributions, drops, atol=1e-12)
    law = Subsets(size=1, features=hessx.Identity(), multiplied=False)
    removed = hessx.optimal_explanation(NET, x, 1, perturb_func=law, n_samples=None)
    assert torch.allclose(removed.attributions, expected, atol=1e-12)
    assert removed.n_evaluations == 2 * 85


def shapley_values(value, m):
    """Return the Shapley values of a set function by their definition."""
    sets = [frozenset(s) for size in range(m + 1) for s in combinations(range(m), size)]
    table = {s: value(s) for s in sets}
    return torch.tensor(
        [
            sum(
                factorial(len(s)) * factorial(m - len(s) - 1) / factorial(m)
                * (table[s | {j}] - table[s])
                for s in sets if j not in s
            )
            for j in range(m)
        ],
        dtype=torch.float64,
    )  # fmt: skip


@pytest.mark.parametrize("m", [2, 5, 9])
def test_shapley_values(m):
    """Proposition 2.5: all coalitions give the Shapley values exactly, samples nearly."""
    torch.manual_seed(m)
    f = nn.Sequential(nn.Linear(m, 8), nn.Tanh(), nn.Linear(8, 2)).double()
    x, baseline = torch.randn(2, m).double(), torch.randn(1, m).double()

    def value(row):
        def kept(s):
            inside = torch.tensor([i in s for i in range(m)])
            return f(torch.where(inside, x[row], baseline[0]))[1].item()

        return kept

    truth = torch.stack([shapley_values(value(row), m) for row in range(2)])
    options = {"perturb_func": Shap(), "baselines": baseline}
    listed = hessx.optimal_explanation(f, x, 1, n_samples=None, **options)
    assert torch.allclose(listed.attributions, truth, atol=1e-9)
    runs = torch.stack(
        [
            hessx.optimal_explanation(f, x, 1, n_samples=400, seed=seed, **options).attributions
            for seed in range(20)
        ]
    )
    gap = (f(x) - f(baseline))[:, 1].detach()
    assert torch.allclose(runs.sum(-1), gap.expand(20, 2), atol=1e-9)
    # Two features have a single size: then a sample is the list.
    error = (runs.mean(0) - truth).abs()
    assert (error <= 4 * runs.std(0) / 20**0.5 + 1e-12).all()


def test_shapley_values_that_multiply_the_perturbation():
    x = torch.tensor([[1.0, 2.0, 0.5, 0.0], [3.0, 0.5, 0.5, 1.0]], dtype=torch.float64)

    def f(x):
        return x[:, 0] * x[:, 1] + x[:, 2] ** 3 + x[:, 0] * x[:, 3]

    values = hessx.optimal_explanation(
        f, x, perturb_func=Shap(), n_samples=None, baselines=0.5
    ).attributions
    found = hessx.optimal_explanation(
        f, x, perturb_func=Shap(multiplied=False), n_samples=None, baselines=0.5
    )
    change = x - 0.5
    expected = torch.where(change == 0, 0, values / torch.where(change == 0, 1, change))
    assert torch.allclose(found.attributions, expected)
    assert torch.allclose((found.attributions * change).sum(1), f(x) - f(0 * x + 0.5))


def test_removing_everything_gives_completeness():
    """I = x - baseline alone: I^T Phi = f(x) - f(baseline), by the smallest Phi."""
    baseline = torch.rand(1, *SHAPE, dtype=torch.float64)
    gap = (NET(X) - NET(baseline))[:, 1].detach()
    law = Subsets(size=84, features=hessx.Identity(), multiplied=False)
    result = hessx.optimal_explanation(
        NET, X, 1, perturb_func=law, n_samples=None, baselines=baseline
    )
    change = X - baseline
    assert torch.allclose((change * result.attributions).flatten(1).sum(1), gap, atol=1e-8)
    assert result.condition.isinf().all()

    def everything(x, b):
        return x - b, b.expand_as(x)

    called = hessx.optimal_explanation(
        NET, X, 1, perturb_func=everything, n_samples=3, baselines=baseline
    )
    smallest = change * (gap / change.flatten(1).square().sum(1))[:, None, None, None]
    assert torch.allclose(called.attributions, smallest, atol=1e-6)
    assert called.residual.max() < 1e-12


@pytest.mark.parametrize("name", ["clipped", "square", "cells"])
def test_no_explanation_has_less_infidelity(name):
    law = LAWS[name]
    x = X[:1]
    n = None if name in LISTED else 2000
    best = hessx.optimal_explanation(NET, x, 1, perturb_func=law, n_samples=n)
    leaf = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(NET(leaf)[:, 1].sum(), leaf)
    others = [
        gradient,
        gradient * x,
        hessx.leg(NET, x, 1, n_samples=2000).gamma,
        hessx.smooth_hess(NET, x, 1, sigma=0.3).gradient,
        *(
            hessx.optimal_explanation(NET, x, 1, perturb_func=other, n_samples=1000).attributions
            for key, other in LAWS.items()
            if key != name
        ),
    ]
    options = {"normalize": True}
    scores = infidelity(law, x, torch.stack([best.attributions, *others]), n, **options)[:, 0]
    assert scores[0] == pytest.approx(best.infidelity.item(), rel=1e-6)
    assert (scores[1:] > scores[0]).all()
    # Also on perturbations that it was not made from.
    fresh = hessx.infidelity(
        NET, law, x, torch.stack([best.attributions, *others]), target=1,
        n_perturb_samples=2000, seed=9, normalize=True,
    )[:, 0]  # fmt: skip
    assert (fresh[1:] > fresh[0]).all()


def test_the_multiplied_form_is_the_other_one_times_the_input():
    """Appendix B.2, where no number is 0."""
    for sides in ([1, 2, 3], [2, 3]):
        options = {"features": hessx.Identity()}
        x = X[:, 0]
        f = nn.Sequential(nn.Flatten(), nn.Linear(42, 6), nn.Tanh(), nn.Linear(6, 1)).double()
        results = [
            hessx.optimal_explanation(
                f, x, perturb_func=Square(sides, multiplied=multiplied, **options),
                n_samples=None, baselines=0.05,
            )
            for multiplied in (True, False)
        ]  # fmt: skip
        multiplied, plain = results
        assert torch.allclose(multiplied.attributions, plain.attributions * (x - 0.05), atol=1e-6)
        assert torch.allclose(multiplied.infidelity, plain.infidelity, rtol=1e-6)


def test_the_multiplied_form_is_the_larger_family():
    """Appendix B.2 where numbers are 0: what nothing is taken from may be given a weight."""
    x = X.clone()
    x[:, :, 2:4, 1:5] = 0
    multiplied, plain = (
        hessx.optimal_explanation(
            NET, x, 1, perturb_func=Square([1, 2, 3], multiplied=multiplied), n_samples=None
        )
        for multiplied in (True, False)
    )
    assert (multiplied.infidelity < 0.99 * plain.infidelity).all()
    assert (plain.attributions[x == 0] == 0).all()


@pytest.mark.parametrize("law", [LAWS[name] for name in ("clipped", "square", "cells")])
def test_several_targets_and_contrasts_share_all_calls(law):
    calls = []

    def f(x):
        calls.append(len(x))
        return NET(x)

    targets = hessx.Targets([0, [1, 2], hessx.Contrast(2, 0)])
    together = hessx.optimal_explanation(f, X, targets, perturb_func=law, n_samples=300)
    assert sum(calls) == together.n_evaluations == 2 * 301
    for i, target in enumerate(targets.entries):
        alone = hessx.optimal_explanation(NET, X, target, perturb_func=law, n_samples=300)
        for field in ("attributions", "coefficients", "infidelity", "residual"):
            found, expected = getattr(together, field)[i], getattr(alone, field)
            assert torch.allclose(found, expected, atol=1e-9)
        assert torch.equal(together.condition, alone.condition)
    if law is LAWS["square"]:
        listed = hessx.optimal_explanation(NET, X, targets, perturb_func=law, n_samples=None)
        alone = hessx.optimal_explanation(NET, X, [1, 2], perturb_func=law, n_samples=None)
        assert torch.allclose(listed.attributions[1], alone.attributions, atol=1e-12)


@pytest.mark.parametrize("law", [LAWS[name] for name in ("clipped", "square", "cells", "sized")])
def test_batches_and_company_do_not_matter(law):
    def f(x):
        return (x.flatten(1) ** 3)[:, :20].sum(1)

    def explain(x, **options):
        return hessx.optimal_explanation(f, x, perturb_func=law, n_samples=1100, **options)

    whole = explain(X)
    for options in ({"max_examples_per_batch": 97}, {"max_examples_per_batch": 3001}):
        other = explain(X, **options)
        assert torch.equal(other.attributions, whole.attributions)
        assert torch.equal(other.infidelity, whole.infidelity)
    # Rows in chunks of one: the products of matrices are then of other shapes.
    needed = 2 * 12 * 1024 * 84 + 2 * 3 * 8 * 84**2 + 2 * 8 * (4 * 84 + 1024) * 3 // 2
    small = explain(X, memory_limit=needed)
    assert torch.allclose(small.attributions, whole.attributions, rtol=1e-9, atol=1e-12)
    for i in range(2):
        assert torch.allclose(
            explain(X[i : i + 1]).attributions[0], whole.attributions[i], rtol=1e-9, atol=1e-12
        )
    assert not torch.equal(explain(X, seed=1).attributions, whole.attributions)


def test_functions_are_called_for_one_input_at_a_time():
    generator_state = torch.get_rng_state()

    def noise(x):
        change = 0.1 * torch.randn_like(x)
        return (change,), (x - change,)

    def explain(x, **options):
        return hessx.optimal_explanation(NET, x, 1, perturb_func=noise, n_samples=600, **options)

    whole = explain(X)
    assert torch.equal(torch.get_rng_state(), generator_state)
    assert torch.equal(explain(X[1:]).attributions[0], whole.attributions[1])
    batched = explain(X, max_examples_per_batch=101)
    assert torch.allclose(batched.attributions, whole.attributions, rtol=1e-9)
    scored = hessx.infidelity(
        NET, noise, X, whole.attributions, target=1, n_perturb_samples=600, seed=0
    )
    assert torch.allclose(scored, whole.infidelity, rtol=1e-6)


def test_captum_style_functions_and_laws_agree():
    x = X[:1]
    bound = Gaussian(0.2).bind(x, None, 0)
    u = bound.draw(0, 200)
    state = {"first": 0}

    def same(inputs):
        first = state["first"] % 200
        state["first"] += len(inputs)
        change = u[first : first + len(inputs)].reshape(inputs.shape)
        return change, inputs - change

    called = hessx.optimal_explanation(NET, x, 1, perturb_func=same, n_samples=200)
    law = hessx.optimal_explanation(NET, x, 1, perturb_func=Gaussian(0.2), n_samples=200)
    assert torch.allclose(called.attributions, law.attributions, atol=1e-10)
    assert torch.allclose(called.condition, law.condition)


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


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_types(dtype):
    f = net(1).to(dtype)
    result = hessx.optimal_explanation(
        f, X.to(dtype), 1, perturb_func=LAWS["square"], n_samples=None
    )
    exact = hessx.optimal_explanation(net(1), X, 1, perturb_func=LAWS["square"], n_samples=None)
    assert result.attributions.dtype == torch.float32
    assert result.infidelity.dtype == torch.float64
    error = (result.attributions - exact.attributions).norm() / exact.attributions.norm()
    assert error < 30 * torch.finfo(dtype).eps


def test_black_boxes_return_numpy():
    weight = np.random.default_rng(0).normal(size=84)

    def f(x):
        assert isinstance(x, np.ndarray)
        x *= 2
        return x.reshape(len(x), -1) @ weight

    result = hessx.optimal_explanation(f, X.numpy(), perturb_func=Gaussian(0.1), n_samples=200)
    expected = torch.from_numpy(2 * weight.reshape(SHAPE)).expand_as(X)
    assert torch.allclose(result.attributions, expected, atol=1e-9)


def test_additional_arguments_follow_their_rows():
    scale = torch.tensor([1.0, 3.0]).double()
    result = hessx.optimal_explanation(
        lambda x, s, power: s * (x**power).flatten(1).sum(1), X,
        perturb_func=Gaussian(0.1), n_samples=200, additional_forward_args=(scale, 1),
    )  # fmt: skip
    expected = scale[:, None, None, None].expand_as(X)
    assert torch.allclose(result.attributions, expected, atol=1e-10)


def test_text():
    result = hessx.optimal_explanation(
        NET, X, 1, perturb_func=Square([2], features=hessx.Grid((6, 7))), n_samples=30
    )
    assert "Square, n_samples=30" in repr(result)
    assert "ridge up to" in repr(result)
    assert "Optimal explanation for Square" in result._repr_html_()
    called = hessx.optimal_explanation(
        NET, X, 1, perturb_func=lambda x: (0.1 * x, 0.9 * x), n_samples=2
    )
    assert "<lambda>" in repr(called)


def explain(**changes):
    arguments = {"perturb_func": Gaussian(0.1), "n_samples": 10, **changes}
    function = arguments.pop("forward_func", NET)
    return hessx.optimal_explanation(
        function, arguments.pop("inputs", X), arguments.pop("target", 1), **arguments
    )


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"n_samples": 0}, ValueError, "n_samples must be >= 1, got 0"),
        ({"n_samples": 1.5}, TypeError, "n_samples must be an integer"),
        ({"n_samples": None}, ValueError, "Gaussian does not list"),
        ({"n_samples": None, "perturb_func": abs}, ValueError, "n_samples must be given"),
        ({"perturb_func": 0.1}, TypeError, "perturb_func must be callable, got float"),
        ({"ridge": -1.0}, ValueError, "ridge must be >= 0"),
        ({"ridge": "big"}, TypeError, "ridge must be a number or 'auto'"),
        ({"inputs": (X, X)}, TypeError, "inputs must be a tensor, got tuple"),
        ({"inputs": X * torch.nan}, ValueError, "inputs must be finite"),
        ({"target": None}, ValueError, "target must be given"),
        ({"baselines": "0"}, TypeError, "baselines must be"),
        ({"baselines": torch.zeros(3, 1)}, ValueError, "baselines must be of shape"),
        ({"seed": -1}, ValueError, "seed must be between"),
        ({"forward_func": lambda x: NET(x) * torch.nan}, ValueError, "must be finite"),
        ({"perturb_func": lambda x: x}, TypeError, "must return perturbations and perturbed"),
        ({"perturb_func": lambda x: ((x, x), (x, x))}, ValueError, "each of 1 inputs"),
        ({"perturb_func": lambda x: (x[:, :1], x)}, ValueError, "perturbations of shape"),
        ({"perturb_func": lambda x: (x / 0, x)}, ValueError, "finite perturbations"),
        ({"memory_limit": 200_000}, ValueError, "memory_limit must be at least"),
        ({"perturb_func": Square([1, 8])}, ValueError, "sides must fit"),
        (
            {"forward_func": lambda x: 1e300 * NET(x)},
            ValueError,
            "too large values",
        ),
    ],
)  # fmt: skip
def test_errors(changes, error, message):
    with pytest.raises(error, match=message):
        explain(**changes)


def test_memory_does_not_grow_with_the_samples():
    """20,000 draws of 784 numbers: 63 MB in float32, and twice that in float64."""
    code = """
        import resource, torch, hessx
        def peak():
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        def explain(n):
            law = hessx.perturb.NoisyBaseline(0.2)
            f = lambda x: x[:, 0, :3].square().sum((1, 2))
            hessx.optimal_explanation(f, torch.ones(1, 1, 28, 28), perturb_func=law, n_samples=n)
        explain(10)
        before = peak()
        explain(20_000)
        print(peak() - before)
    """
    found = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True
    )
    assert int(found.stdout) < 120e6
