"""LEG-TV: its constraint, its limits (L = 0, L_max), other covariances, targets and paths."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import hessx
from hessx import covariance
from hessx.solve.tv import theory_bound

TRUTH = torch.zeros(6, 7)
TRUTH[1:4, 2:5] = 1.0
X = torch.randn(2, 6, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
COLOURS = torch.randn(2, 3, 6, 7, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
LAWS = {
    "grid tv": covariance.GridTV(),
    "identity": covariance.Identity(),
    "diagonal": covariance.Diagonal(torch.linspace(0.5, 2, 42)),
    "factor": covariance.Factor(
        torch.randn(42, 42, generator=torch.Generator().manual_seed(2)) / 6 + torch.eye(42)
    ),
}


def blob(x):
    return (x * TRUTH.to(x)).flatten(1).sum(1)


def signed(x):
    return (x * torch.stack([TRUTH, -TRUTH, 0 * TRUTH]).to(x)).flatten(1).sum(1)


def differences(g):
    return torch.cat([g.diff(dim=-1).flatten(-2), g.diff(dim=-2).flatten(-2)], -1)


def dense_differences(p1, p2):
    return differences(torch.eye(p1 * p2, dtype=torch.float64).reshape(-1, p1, p2)).mT


def spread(g):
    return g - g.mean((-2, -1), keepdim=True)


@pytest.mark.parametrize("mean", ["empirical", "zero"])
def test_the_constraint_holds_and_the_objective_is_the_total_variation(mean):
    result = hessx.leg_tv(blob, X, n_samples=500, mean=mean)
    gamma, plain = result.gamma, result.empirical.gamma
    torch.testing.assert_close(result.objective, differences(gamma).abs().sum(-1))
    # Sigma = s2 (D^T D + 1 1^T / p), so D^{+T} (b - Sigma g) = s2 D (gamma_LEG - g).
    residual = 0.1 * differences(gamma - plain).abs().amax(-1)
    assert (residual <= result.L * (1 + 1e-12)).all()
    torch.testing.assert_close(result.L, 0.1 * result.L_max)
    torch.testing.assert_close(result.L_max, 0.1 * differences(plain).abs().amax(-1))
    expected = plain.mean((1, 2)) if mean == "empirical" else torch.zeros(2, dtype=torch.float64)
    torch.testing.assert_close(gamma.mean((1, 2)), expected)
    assert (result.gap <= 1e-9).all()
    assert (result.objective < differences(plain).abs().sum(-1)).all()


@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS.keys())
def test_the_constraint_of_any_covariance(law):
    result = hessx.leg_tv(blob, X[:1], covariance=law, n_samples=300, K_L=0.2, mean="zero")
    root = law.root(42, None, (1, 6, 7))
    sigma = 0.1 * root.apply(root.apply_transpose(torch.eye(42, dtype=torch.float64)))
    pseudo = torch.linalg.pinv(dense_differences(6, 7)).mT
    b = sigma @ result.empirical.gamma.flatten()
    at_zero = (pseudo @ b).abs().amax()
    if law in (LAWS["grid tv"], LAWS["identity"]):
        torch.testing.assert_close(result.L_max, at_zero.reshape(1))
    else:
        # The best constant: the program determines the mean where Sigma 1 is not constant.
        assert result.L_max < at_zero
    residual = (pseudo @ (b - sigma @ result.gamma.flatten())).abs().amax()
    assert residual <= result.L.item() * (1 + 1e-7)
    assert 0 <= result.gap.item() <= 1e-6


@pytest.mark.parametrize("name", ["grid tv", "identity"])
def test_without_slack_it_is_leg_up_to_a_constant(name):
    """Lemma 3: the one vector is an eigenvector of both covariances."""
    result = hessx.leg_tv(blob, X, covariance=LAWS[name], L=0.0, n_samples=300, mean="zero")
    torch.testing.assert_close(result.gamma, spread(result.empirical.gamma))
    assert (result.gap <= 1e-12).all()
    full = hessx.leg_tv(blob, X, covariance=LAWS[name], L=0.0, n_samples=300)
    torch.testing.assert_close(full.gamma, full.empirical.gamma)


@pytest.mark.parametrize("name", ["grid tv", "identity"])
@pytest.mark.parametrize("variance", [0.05, 0.1, 0.3])
def test_at_l_max_it_is_constant(name, variance):
    for seed in range(8):
        result = hessx.leg_tv(
            blob, X, covariance=LAWS[name], K_L=1.0, n_samples=30, sigma=variance**0.5, seed=seed
        )
        mean = result.empirical.gamma.mean((1, 2), keepdim=True)
        assert torch.equal(result.gamma, mean.expand_as(result.gamma))
        assert (result.objective == 0).all()
        assert (result.gap == 0).all()


def test_it_recovers_a_block_better_than_leg():
    result = hessx.leg_tv(blob, X, n_samples=400)
    errors = [(spread(g) - spread(TRUTH)).norm() for g in (result.gamma, result.empirical.gamma)]
    assert errors[0] < 0.7 * errors[1]


def test_channels_are_separate_and_keep_their_signs():
    result = hessx.leg_tv(signed, COLOURS, n_samples=3000, K_L=0.2)
    assert result.gamma.shape == (2, 3, 6, 7)
    assert result.L.shape == result.gap.shape == (2, 3)
    inside = result.gamma[..., 1:4, 2:5].mean((-2, -1))
    torch.testing.assert_close(
        inside, torch.tensor([1.0, -1, 0], dtype=torch.float64).expand(2, 3), atol=0.5, rtol=0
    )
    shared = hessx.leg_tv(signed, COLOURS, features=hessx.Grid((3, 3)), n_samples=200)
    assert shared.gamma.shape == (2, 1, 3, 3)


def test_a_path_is_its_points():
    path = hessx.leg_tv(signed, COLOURS, K_L=[0.3, 0.05, 1.0], n_samples=200)
    assert path.gamma.shape == (2, 3, 3, 6, 7)
    assert path.L.shape == path.objective.shape == (2, 3, 3)
    for index, share in enumerate([0.3, 0.05, 1.0]):
        alone = hessx.leg_tv(signed, COLOURS, K_L=share, n_samples=200)
        torch.testing.assert_close(path.gamma[:, index], alone.gamma)
        torch.testing.assert_close(path.objective[:, index], alone.objective)


def test_bounds_as_arrays_are_a_path():
    plain = hessx.leg(blob, X, n_samples=100)
    for name in ("K_L", "L"):
        as_list = hessx.leg_tv_from(plain, **{name: [0.1, 0.2]})
        as_array = hessx.leg_tv_from(plain, **{name: np.array([0.1, 0.2])})
        assert torch.equal(as_array.gamma, as_list.gamma)
    assert hessx.leg_tv_from(plain, K_L=np.float64(0.3)).gamma.shape == (2, 6, 7)


def test_several_targets():
    target = hessx.Targets([0, hessx.Contrast(1, 0)])
    model = lambda x: torch.stack([blob(x), 3 * blob(x)], 1)  # noqa: E731
    result = hessx.leg_tv(model, X, target, K_L=[0.1, 0.5], n_samples=200)
    assert result.gamma.shape == (2, 2, 2, 6, 7)
    assert result.L_max.shape == (2, 2)
    alone = hessx.leg_tv(model, X, hessx.Contrast(1, 0), K_L=0.5, n_samples=200)
    torch.testing.assert_close(result.gamma[1, :, 1], alone.gamma)


def test_bounds_carried_over_from_another_model():
    trained = hessx.leg_tv(blob, X, n_samples=400)
    weaker = hessx.leg_tv(lambda x: 1e-3 * blob(x), X, L=trained.L, n_samples=400, mean="zero")
    assert torch.equal(weaker.L, trained.L)
    assert (weaker.gamma == 0).all()
    again = hessx.leg_tv_from(trained.empirical, L=trained.L)
    torch.testing.assert_close(again.gamma, trained.gamma)


def test_the_bound_of_theorem_1():
    result = hessx.leg_tv(lambda x: blob(x).tanh(), X, L="theory", n_samples=400)
    assert (theory_bound(6, 7, 400) == result.L).all()
    assert (result.objective == 0).all()


def test_solvers_agree():
    plain = hessx.leg(blob, X, n_samples=200)
    exact = hessx.leg_tv_from(plain)
    for solver in ("highs", "first-order"):
        other = hessx.leg_tv_from(plain, solver=solver)
        assert other.solver == solver
        torch.testing.assert_close(other.objective, exact.objective, rtol=1e-5, atol=0)


def test_it_says_what_it_is():
    result = hessx.leg_tv(blob, X, n_samples=100)
    assert repr(result).startswith("LegTV(gamma=(2, 6, 7), ")
    assert "<table>" in result._repr_html_()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"K_L": 0.0}, ValueError, r"K_L must be in \(0, 1\], got 0"),
        ({"K_L": 1.5}, ValueError, r"K_L must be in \(0, 1\], got 1.5"),
        ({"K_L": [0.1, float("nan")]}, ValueError, r"K_L must be in \(0, 1\], got nan"),
        ({"K_L": []}, ValueError, "K_L must be a number or a list"),
        ({"K_L": "much"}, TypeError, "K_L must be a number or a list"),
        ({"K_L": torch.ones(2)}, TypeError, "K_L must be a number or a list, got a tensor"),
        ({"L": -1.0}, ValueError, "L must be >= 0 and finite, got -1"),
        ({"L": [1.0, float("inf")]}, ValueError, "L must be >= 0 and finite, got inf"),
        ({"L": "practice"}, ValueError, "L must be one of 'theory'"),
        ({"L": torch.ones(3)}, ValueError, r"L_max's shape \(2,\), got shape \(3,\)"),
        ({"L": 1.0, "K_L": 0.1}, ValueError, "exclude each other"),
        ({"mean": "true"}, ValueError, "mean must be one of"),
        ({"solver": "mosek"}, ValueError, "solver must be one of"),
        ({"solver": "network-simplex", "covariance": LAWS["identity"]}, ValueError, "solver"),
        ({"features": hessx.Segments(TRUTH.long())}, ValueError, "features on a grid"),
        ({"features": hessx.Grid((9, 9))}, ValueError, "finer than the picture"),
        ({"sigma": 0.0}, ValueError, "sigma must be > 0"),
    ],
)
def test_bad_arguments_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        hessx.leg_tv(blob, X, **{"n_samples": 10, **options})


def test_singular_covariances_are_refused():
    for law in (
        covariance.Diagonal(torch.cat([torch.zeros(1), torch.ones(41)])),
        covariance.Factor(torch.ones(42, 1)),
    ):
        with pytest.raises(ValueError, match="positive definite"):
            hessx.leg_tv(blob, X, covariance=law, n_samples=10)
    with pytest.raises(TypeError, match=r"empirical must be a hessx.Leg"):
        hessx.leg_tv_from(X)


def test_bounds_are_checked_before_the_model_is_asked():
    def f(x):
        raise AssertionError("asked")

    for options in (
        {"K_L": 2.0},
        {"mean": "x"},
        {"solver": "x"},
        {"L": -1.0},
        {"L": torch.ones(3)},
        {"sigma": 1e-200},
    ):
        with pytest.raises(ValueError, match="must"):
            hessx.leg_tv(f, X, n_samples=10, **options)
