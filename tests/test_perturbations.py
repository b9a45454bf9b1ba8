"""The laws of perturbations: moments, sizes and weights against closed forms; their contract."""

from __future__ import annotations

import math
from itertools import combinations

import captum.metrics
import numpy as np
import pytest
import torch

import hessx
from hessx.perturb import Gaussian, NoisyBaseline, Shap, Square, Subsets

X = torch.rand(3, 2, 6, 7, generator=torch.Generator().manual_seed(0)) + 0.1
GROUPS = hessx.Segments(torch.arange(42).reshape(6, 7) % 5)
LAWS = {
    "gaussian": Gaussian(0.3),
    "clipped": NoisyBaseline(0.3),
    "not clipped": NoisyBaseline(0.3, None),
    "square": Square(sides=[1, 3]),
    "cells": Square(sides=[1, 2], features=hessx.Grid((3, 4)), multiplied=False),
    "independent": Subsets(0.3),
    "sized": Subsets(size=2, features=GROUPS, multiplied=False),
    "shap": Shap(),
    "shap groups": Shap(features=GROUPS, multiplied=False),
}
EVERY_LAW = pytest.mark.parametrize("law", LAWS.values(), ids=list(LAWS))
ROWS = torch.arange(len(X))


def bound(law, x=X, baselines=None, seed=0):
    return law.bind(x, baselines, seed)


@EVERY_LAW
@pytest.mark.parametrize("baselines", [None, 0.25, "one", "each"])
def test_the_forms_of_a_perturbation_agree(law, baselines):
    """(shift + u)^T project(a) = <perturbations, a>, and perturbed = x - I."""
    if baselines == "one":
        baselines = torch.rand(1, *X.shape[1:])
    elif baselines == "each":
        if law == LAWS["clipped"]:
            return
        baselines = torch.rand_like(X)
    x = X.double()
    law_of_x = bound(law, x, baselines)
    u = law_of_x.draw(5, 4)
    a = torch.randn(2, *x.shape, dtype=torch.float64)
    dots = torch.einsum("irchw,krchw->kir", law_of_x.perturbations(u[:, None], ROWS), a)
    shift = law_of_x.shift(ROWS)
    coordinates = u[:, None] + (0 if shift is None else shift)
    assert torch.allclose(
        dots, torch.einsum("irk,jrk->jir", coordinates, law_of_x.project(a, ROWS))
    )
    perturbed = law_of_x.perturbed(u[:, None], ROWS)
    assert perturbed.shape == (4, *x.shape)
    removed = law_of_x.perturbations(u[:, None], ROWS)
    if getattr(law, "multiplied", False):
        filled = torch.zeros_like(x) if baselines is None else x - x + baselines
        assert set(removed.unique().tolist()) == {0.0, 1.0}
        removed = removed * (x - filled)
    assert torch.allclose(x - perturbed, removed, atol=1e-15)
    own = u[:, None].expand(-1, len(x), -1)
    assert torch.equal(law_of_x.perturbed(own, ROWS), perturbed)
    some = torch.tensor([2, 0])
    assert torch.equal(law_of_x.perturbed(u[:, None], some), perturbed[:, some])


@EVERY_LAW
def test_lifting_gives_the_smallest_explanation_with_these_coordinates(law):
    x = X.double().clone()
    x[1, :, :2, :3] = 0.5
    law_of_x = bound(law, x, 0.5)
    w = torch.randn(2, len(x), law_of_x.n_coordinates, dtype=torch.float64)
    reachable = law_of_x.reachable(ROWS)
    if reachable is not None:
        w = torch.where(reachable, w, 0)
    lifted = law_of_x.lift(w, ROWS)
    assert torch.allclose(law_of_x.project(lifted, ROWS), w)
    # Any other explanation with the same coordinates differs by something orthogonal.
    other = torch.randn_like(lifted)
    other -= law_of_x.lift(law_of_x.project(other, ROWS), ROWS)
    assert torch.allclose(law_of_x.project(other, ROWS), torch.zeros_like(w), atol=1e-12)
    assert (lifted * other).flatten(2).sum(2).abs().max() < 1e-10


def test_coordinates_that_nothing_reaches():
    x = X.double().clone()
    x[1, :, 0, 0] = 0.5
    x[0, 0, 0, 1] = 0.5
    law_of_x = bound(Square(sides=[1], multiplied=False), x, 0.5)
    reachable = law_of_x.reachable(ROWS)
    assert reachable.sum(1).tolist() == [42, 41, 42]
    assert not reachable[1, 0]
    assert bound(Square(sides=[1]), x, 0.5).reachable(ROWS) is None


@EVERY_LAW
def test_draws_depend_on_their_number_and_seed_alone(law):
    one = bound(law)
    draws = one.draw(0, 40)
    parts = [one.draw(0, 7), one.draw(7, 1), one.draw(8, 32)]
    assert torch.equal(torch.cat(parts), draws)
    assert torch.equal(bound(law, X[1:2]).draw(0, 40), draws)
    assert not torch.equal(bound(law, seed=1).draw(0, 40), draws)


@EVERY_LAW
def test_captum_takes_them(law):
    weights = torch.randn(X[0].numel())
    x = X + 0.2

    def f(x):
        return x.flatten(1) @ weights

    a = weights.reshape(X.shape[1:]).expand_as(x)
    if getattr(law, "multiplied", False):
        a = a * x
    found = captum.metrics.infidelity(f, law, x, a, n_perturb_samples=20)
    assert found.shape == (3,)
    assert found.max() < 1e-8
    nothing = captum.metrics.infidelity(f, law, x, 0 * a, n_perturb_samples=20)
    assert nothing.min() > 1e-3
    shifted = captum.metrics.infidelity(
        f, law, x, a if not getattr(law, "multiplied", False) else a / x * (x - 0.1),
        baselines=x.new_full((3, *X.shape[1:]), 0.1), n_perturb_samples=5,
    )  # fmt: skip
    assert shifted.max() < 1e-8


def test_captum_gives_a_noisy_baseline_to_each_input():
    baselines = torch.tensor([0.2, 0.8])[:, None].expand(2, 1000)
    x = torch.rand(2, 1000)
    perturbations, perturbed = NoisyBaseline(0.1)(x, baselines)
    assert torch.equal(perturbations, x - perturbed)
    assert torch.allclose(perturbed.mean(1), torch.tensor([0.2, 0.8]), atol=0.02)
    assert perturbed.max() <= 1


def test_captum_calls_follow_the_global_generator():
    torch.manual_seed(3)
    first = Square(sides=[2])(X)
    torch.manual_seed(3)
    assert torch.equal(Square(sides=[2])(X)[0], first[0])
    assert not torch.equal(Square(sides=[2])(X)[0], first[0])


def test_gaussian_moments():
    u = bound(Gaussian(0.3), torch.zeros(1, 8, dtype=torch.float64)).draw(0, 100_000)
    assert u.mean(0).abs().max() < 4 * 0.3 / 100_000**0.5
    assert torch.allclose(u.T @ u / len(u), 0.09 * torch.eye(8).double(), atol=4 * 0.09 * 0.0045)


def test_noisy_baseline_moments_are_those_of_a_clipped_normal():
    """sigma / sqrt(2 pi) and sigma^2 / 2 - mean^2 for baseline 0 and clip (0, 1)."""
    x = torch.rand(2, 50, dtype=torch.float64)
    law = bound(NoisyBaseline(0.2), x)
    seen = law.perturbed(law.draw(0, 20_000)[:, None], torch.arange(2))
    assert torch.equal(seen[:, 0], seen[:, 1])
    assert seen[:, 0].mean().item() == pytest.approx(0.0798, abs=2e-4)
    assert seen[:, 0].var().item() == pytest.approx(0.01363, abs=1e-4)
    assert seen.min() == 0
    plain = bound(NoisyBaseline(0.2, None), x, 0.5)
    seen = plain.perturbed(plain.draw(0, 20_000)[:, None], torch.arange(1))
    assert seen.mean().item() == pytest.approx(0.5, abs=1e-3)
    assert seen.var().item() == pytest.approx(0.04, abs=3e-4)


def test_all_squares_are_listed_once():
    law = bound(Square(), torch.ones(1, 1, 28, 28))
    assert law.size == 5605
    assert law.size == sum((28 - s + 1) ** 2 for s in range(1, 11))
    u, weights = law.enumerated(0, law.size)
    assert weights.sum().item() == pytest.approx(1, abs=1e-12)
    assert len(u.unique(dim=0)) == 5605
    assert u.sum(1).unique().tolist() == [s * s for s in range(1, 11)]
    assert torch.equal(u[100:130], law.enumerated(100, 30)[0])


def test_squares_are_in_the_order_of_box_sums():
    u, _ = bound(Square(sides=[2, 1]), torch.ones(1, 2, 3)).enumerated(0, 8)
    expected = ["100000", "010000", "001000", "000100", "000010", "000001", "110110", "011011"]
    assert ["".join(str(int(b)) for b in row) for row in u] == expected


def test_sampled_squares_are_uniform_on_the_list():
    law = bound(Square(sides=[1, 2, 3]), torch.ones(1, 5, 4))
    assert law.size == 20 + 12 + 6
    listed, _ = law.enumerated(0, law.size)
    drawn, counts = law.draw(0, 38_000).unique(dim=0, return_counts=True)
    assert torch.equal(drawn, listed.unique(dim=0))
    chi2 = ((counts - 1000).double().square() / 1000).sum()
    # 37 degrees of freedom: beyond 80 by chance in 5e-5.
    assert chi2 < 80


@pytest.mark.parametrize("size", [1, 2, 5, 6])
def test_sets_of_one_size(size):
    law = bound(Subsets(size=size), torch.ones(1, 6))
    sets = list(combinations(range(6), size))
    assert law.size == len(sets)
    u, weights = law.enumerated(0, law.size)
    assert [tuple(row.nonzero()[:, 0].tolist()) for row in u] == sets
    assert weights.sum().item() == pytest.approx(1, abs=1e-12)
    drawn, counts = law.draw(0, 6000).unique(dim=0, return_counts=True)
    assert len(drawn) == len(sets)
    expected = 6000 / len(sets)
    assert ((counts - expected).double().square() / expected).sum() < 60


def test_independent_features():
    law = bound(Subsets(0.3), torch.ones(1, 6))
    u, weights = law.enumerated(0, law.size)
    assert weights.sum().item() == pytest.approx(1, abs=1e-12)
    second = (u.double() * weights[:, None]).T @ u.double()
    expected = torch.full((6, 6), 0.09).double().fill_diagonal_(0.3)
    assert torch.allclose(second, expected)
    drawn = law.draw(0, 50_000).double()
    assert torch.allclose(drawn.T @ drawn / len(drawn), expected, atol=4 * 0.5 / 50_000**0.5)


def test_coalitions_have_the_shapley_kernels_sizes():
    m = 9
    law = bound(Shap(), torch.ones(1, m))
    kernel = np.array([1 / (s * (m - s)) for s in range(1, m)])
    kernel /= kernel.sum()
    sizes = law.draw(0, 40_000).sum(1).long()
    counts = np.bincount(sizes.numpy(), minlength=m)
    assert counts[0] == 0
    assert len(counts) == m
    expected = 40_000 * kernel
    # 7 degrees of freedom: beyond 30 by chance in 1e-4.
    assert ((counts[1:] - expected) ** 2 / expected).sum() < 30
    u, weights = law.enumerated(0, law.size)
    assert len(u) == 2**m - 2 == len(u.unique(dim=0))
    for s in range(1, m):
        of_size = weights[u.sum(1) == s]
        assert torch.allclose(of_size, of_size[0].expand(math.comb(m, s)))
        assert of_size.sum().item() == pytest.approx(kernel[s - 1])
    members = law.draw(0, 40_000)
    assert torch.allclose(members.mean(0), torch.tensor(0.5), atol=4 * 0.5 / 200)
    assert law.completes


@pytest.mark.parametrize("name", ["square", "cells", "sized", "shap groups"])
def test_all_dots_are_those_of_the_list(name):
    law = bound(LAWS[name])
    w = torch.randn(2, law.n_coordinates, dtype=torch.float64)
    u, _ = law.enumerated(0, law.size)
    assert torch.allclose(law.all_dots(w), w @ u.double().T)


def test_noise_has_no_list():
    for law in (bound(Gaussian(0.1)), bound(NoisyBaseline())):
        assert law.size is None
        with pytest.raises(NotImplementedError, match="does not list"):
            law.enumerated(0, 1)


def test_large_sets_are_not_listed():
    assert bound(Subsets(), torch.ones(1, 17)).size is None
    assert bound(Shap(), torch.ones(1, 17)).size is None
    assert bound(Subsets(size=9), torch.ones(1, 40)).size is None
    assert bound(Subsets(size=1), torch.ones(1, 784)).size == 784


@EVERY_LAW
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_types(law, dtype):
    law_of_x = bound(law, X.to(dtype))
    u = law_of_x.draw(0, 3)
    assert u.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert law_of_x.perturbed(u[:, None], ROWS).dtype == dtype
    assert law_of_x.perturbations(u[:, None], ROWS).dtype == u.dtype


def test_what_is_removed_is_exactly_the_baseline():
    baseline = torch.rand(1, *X.shape[1:])
    law = bound(Square(sides=[6], multiplied=False), X, baseline)
    u, _ = law.enumerated(0, 2)
    perturbed = law.perturbed(u[:, None], ROWS)
    assert torch.equal(perturbed[0, :, :, :, :6], baseline.expand_as(X)[..., :6])
    assert torch.equal(perturbed[0, :, :, :, 6], X[..., 6])


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Gaussian(0), ValueError, "sigma must be > 0"),
        (lambda: Gaussian("1"), TypeError, "sigma must be a number"),
        (lambda: NoisyBaseline(-1.0), ValueError, "sigma must be > 0"),
        (lambda: NoisyBaseline(clip=(1, 0)), ValueError, "low < high"),
        (lambda: NoisyBaseline(clip=0.5), TypeError, "clip must be a pair"),
        (lambda: NoisyBaseline(clip=("a", 1)), TypeError, "clip must be a pair"),
        (lambda: Square(sides=[]), ValueError, "at least one"),
        (lambda: Square(sides=[2, 2]), ValueError, "different"),
        (lambda: Square(sides=[0]), ValueError, "sides must be >= 1, got 0"),
        (lambda: Square(sides=3), TypeError, "list or range"),
        (lambda: Square(sides=[1.5]), TypeError, "sides must be an integer"),
        (lambda: Square(features=(2, 2)), TypeError, "features must be"),
        (lambda: Square(multiplied=1), TypeError, "multiplied must be True or False"),
        (lambda: Subsets(0.0), ValueError, r"in \(0, 1\), got 0.0"),
        (lambda: Subsets(1), ValueError, r"in \(0, 1\), got 1"),
        (lambda: Subsets(True), TypeError, "probability must be a number"),
        (lambda: Subsets(0.5, size=2), ValueError, "exclude each other"),
        (lambda: Subsets(size=0), ValueError, "size must be >= 1"),
        (lambda: bound(Square()), ValueError, "sides must fit into the grid"),
        (lambda: bound(Square([1], features=hessx.Identity())), ValueError, "one grid"),
        (lambda: bound(Square([1], features=GROUPS)), ValueError, "one grid"),
        (lambda: bound(Square([1]), torch.ones(1, 9)), ValueError, "one grid"),
        (lambda: bound(Subsets(features=hessx.Grid((7, 7)))), ValueError, "finer"),
        (lambda: bound(Shap(features=hessx.Basis(torch.eye(84)))), ValueError, "groups"),
        (
            lambda: bound(Shap(features=hessx.Grid((3, 3), mode="bilinear"))),
            ValueError,
            "groups of input numbers",
        ),
        (lambda: bound(Subsets(size=43)), ValueError, "at most 42 features, got 43"),
        (lambda: bound(Shap(), torch.ones(1, 1)), ValueError, "at least 2"),
        (lambda: bound(Shap(), X, "0"), TypeError, "baselines must be a number"),
        (lambda: bound(Shap(), X, torch.ones(2, 6, 7)), ValueError, "baselines must be of shape"),
        (lambda: bound(Shap(), X, float("nan")), ValueError, "baselines must be finite"),
        (lambda: Gaussian(1.0)((X, X)), TypeError, "inputs must be a single tensor"),
        (lambda: NoisyBaseline()((X, X)), TypeError, "inputs must be a single tensor"),
        (
            lambda: bound(NoisyBaseline(), X, torch.rand_like(X)),
            ValueError,
            "the same for all inputs",
        ),
    ],
)  # fmt: skip
def test_errors(make, error, message):
    with pytest.raises(error, match=message):
        make()
