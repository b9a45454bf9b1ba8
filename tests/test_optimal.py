"""Optimal explanations: the propositions of the paper, and least squares by NumPy."""

from __future__ import annotations

from itertools import combinations
from math import factorial

import pytest
import torch
from torch import nn

import hessx
from hessx.perturb import Gaussian, Shap, Square, Subsets
from tests.references.optimal import (
    EVERY_LAW,
    LAWS,
    LISTED,
    NET,
    SHAPE,
    X,
    design,
    infidelity,
    lstsq,
)


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
