"""LEG against closed forms: linear functions, Stein's lemma, honest standard errors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import hessx
from hessx import covariance
from hessx.covariance import GridTV
from hessx.perturb import GridTVCovariates

SHAPE = (2, 5, 7)
DIRECTION = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))
X = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(1))
FACTOR = torch.randn(70, 90, generator=torch.Generator().manual_seed(2)) / 10


def linear(x):
    return (x * DIRECTION.to(x)).flatten(1).sum(1)


def curved(x):
    return linear(x) + 3 * (x * DIRECTION.to(x)).flatten(1).square().sum(1)


def beyond(result, truth):
    """Return the largest distance from the truth, in standard errors."""
    return ((result.gamma - truth).abs() / result.stderr).max()


def test_a_linear_function_gives_its_gradient():
    truth = torch.randn(28, 28, generator=torch.Generator().manual_seed(3))
    result = hessx.leg(lambda x: (x * truth).sum((1, 2)), torch.zeros(1, 28, 28), n_samples=100_000)
    assert beyond(result, truth) < 4
    assert result.stderr.max() < 0.6
    assert result.n_evaluations == 100_001


@pytest.mark.parametrize(
    "law",
    [
        GridTV(),
        covariance.Identity(),
        covariance.Diagonal(torch.linspace(0.5, 2, 70)),
        covariance.Factor(FACTOR),
    ],
    ids=["grid tv", "identity", "diagonal", "factor"],
)
@pytest.mark.parametrize("antithetic", [False, True])
def test_any_covariance_gives_the_gradient_of_a_linear_function(law, antithetic):
    result = hessx.leg(
        linear, X, covariance=law, antithetic=antithetic, sigma=0.5, n_samples=20_000
    )
    assert beyond(result, DIRECTION) < 4.5
    errors = (result.gamma - DIRECTION) / result.stderr
    assert 0.8 < errors.square().mean().sqrt() < 1.25


def test_features_without_noise_are_not_identified():
    variance = torch.ones(70)
    variance[3] = 0
    result = hessx.leg(linear, X, covariance=covariance.Diagonal(variance), n_samples=2000)
    assert result.identified.flatten().nonzero().squeeze(1).tolist() == [
        i for i in range(70) if i != 3
    ]
    assert (result.gamma.flatten(1)[:, 3] == 0).all()
    sigma = torch.full((70,), 0.3)
    sigma[3] = 0
    same = hessx.leg(linear, X, sigma=sigma, n_samples=2000)
    assert torch.equal(same.identified, result.identified)
    assert isinstance(same.covariance, covariance.Identity)


@pytest.mark.parametrize("kind", ["identity", "shared", "separate", "segments", "basis"])
def test_features_sum_the_gradient(kind):
    labels = torch.arange(35).reshape(5, 7) % 4
    features = {
        "identity": hessx.Identity(),
        "shared": hessx.Grid((3, 4)),
        "separate": hessx.Grid((3, 4), channels="separate", mode="bilinear"),
        "segments": hessx.Segments(labels),
        "basis": hessx.Basis(torch.randn(70, 3, generator=torch.Generator().manual_seed(4))),
    }[kind]
    result = hessx.leg(linear, X, features=features, n_samples=20_000)
    truth = features.bind(SHAPE).pull(DIRECTION).reshape(result.gamma.shape[1:])
    assert beyond(result, truth) < 4.5
    shapes = {"shared": (1, 3, 4), "separate": (2, 3, 4), "segments": (4,), "basis": (3,)}
    assert result.gamma.shape == (2, *shapes.get(kind, SHAPE))


def test_it_is_the_mean_gradient_under_the_same_noise():
    """Stein's lemma: for a ReLU network LEG is SmoothGrad, with this covariance's noise."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(36, 32), nn.ReLU(), nn.Linear(32, 3)).double()
    x = torch.randn(1, 6, 6, dtype=torch.float64)
    law = GridTVCovariates((1, 6, 6), 0.3, 99, torch.float64, torch.device("cpu"))
    t, _ = law.draw(0, 20_000)
    points = (x + t.reshape(-1, 6, 6)).requires_grad_()
    (gradients,) = torch.autograd.grad(net(points)[:, 1].sum(), points)
    mean, error = gradients.mean(0), gradients.std(0) / 20_000**0.5
    result = hessx.leg(net, x, 1, sigma=0.3, n_samples=100_000)
    distance = (result.gamma[0] - mean).abs() / (result.stderr[0].square() + error.square()).sqrt()
    assert distance.max() < 4


def test_centring_and_pairs_keep_the_estimand_and_take_variance_out():
    truth = DIRECTION + 6 * X * DIRECTION.square()
    variants = {
        "plain": {"centred": False},
        "centred": {},
        "antithetic": {"antithetic": True},
    }
    results = {
        name: hessx.leg(curved, X, sigma=0.3, n_samples=8000, **options)
        for name, options in variants.items()
    }
    for result in results.values():
        assert beyond(result, truth) < 4.5
    variance = {name: r.stderr.square().mean() for name, r in results.items()}
    # E f(x0 + z) is far from f(x0): that is what centring removes.
    assert variance["centred"] < 0.5 * variance["plain"]
    assert variance["antithetic"] < 0.75 * variance["plain"]


def test_standard_errors_are_those_of_repeated_runs():
    runs = [
        hessx.leg(curved, X, sigma=0.3, n_samples=400, seed=seed, centred=seed % 2 == 0)
        for seed in range(120)
    ]
    for centred in (0, 1):
        gamma = torch.stack([run.gamma for run in runs[centred::2]])
        stderr = torch.stack([run.stderr for run in runs[centred::2]])
        ratio = (stderr.square().mean(0) / gamma.var(0)).mean()
        assert 0.85 < ratio < 1.2


@pytest.mark.parametrize("n", [3, 5, 9])
@pytest.mark.parametrize("centred", [False, True])
def test_standard_errors_of_few_samples(n, centred):
    runs = [
        hessx.leg(linear, X[:1], n_samples=n, seed=seed, centred=centred) for seed in range(300)
    ]
    gamma = torch.stack([run.gamma for run in runs])
    stderr = torch.stack([run.stderr for run in runs])
    assert 0.85 < (stderr.square().mean(0) / gamma.var(0)).mean() < 1.2


def test_what_responses_have_in_common_costs_no_digits():
    plain = hessx.leg(curved, X, sigma=0.3, n_samples=400)

    def far_away(x):
        return curved(x.double()) + 1e7 * ((x - X[:, None]).flatten(2).abs().amax(-1) > 0).all(0)

    shifted = hessx.leg(far_away, X, sigma=0.3, n_samples=400)
    torch.testing.assert_close(shifted.gamma, plain.gamma, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(shifted.stderr, plain.stderr, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("sigma", "size"), [(1e-15, 1.0), (0.3, 1e25), (0.3, 1e-25)])
def test_any_units(sigma, size):
    inputs = torch.zeros(1, *SHAPE)
    result = hessx.leg(lambda x: size * linear(x.double()), inputs, sigma=sigma, n_samples=2000)
    assert (result.stderr > 0).all()
    assert beyond(result, size * DIRECTION) < 4.5


def test_gradients_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"gamma must fit torch.float32"):
        hessx.leg(lambda x: 1e39 * linear(x.double()), X, n_samples=10)


def test_equation_3_to_the_letter():
    law = GridTVCovariates((2, 5, 7), 0.3, 0, torch.float64, torch.device("cpu"))
    t, _ = law.draw(0, 300)
    x = X[:1].double()
    y = curved(x + t.reshape(300, *SHAPE)) - curved(x)
    from_rows = torch.linalg.solve(
        0.09 * dense_covariance(5, 7), (y[:, None] * t).mean(0).reshape(2, 35).mT
    ).mT
    result = hessx.leg(curved, x, sigma=0.3, n_samples=300, centred=False)
    torch.testing.assert_close(result.gamma.reshape(2, 35), from_rows)


def dense_covariance(p1, p2):
    """Return D^T D + 1 1^T / p."""
    along = [
        torch.eye(p, dtype=torch.float64)[1:] - torch.eye(p, dtype=torch.float64)[:-1]
        for p in (p1, p2)
    ]
    eyes = [torch.eye(p, dtype=torch.float64) for p in (p1, p2)]
    d = torch.cat([torch.kron(eyes[0], along[1]), torch.kron(along[0], eyes[1])])
    return d.mT @ d + 1 / (p1 * p2)


def test_several_targets_share_all_calls():
    weight = torch.randn(70, 4, generator=torch.Generator().manual_seed(5))
    seen = []

    def f(x):
        seen.append(len(x))
        return x.flatten(1) @ weight

    targets = hessx.Targets([0, [1, 2], hessx.Contrast(3, 0)])
    result = hessx.leg(f, X, targets, n_samples=500)
    assert sum(seen) == result.n_evaluations == 2 * 501
    assert result.gamma.shape == (3, 2, *SHAPE)
    assert result.value.shape == (3, 2)
    for index, target in enumerate(targets.entries):
        alone = hessx.leg(f, X, target, n_samples=500)
        torch.testing.assert_close(result.gamma[index], alone.gamma)
        torch.testing.assert_close(result.stderr[index], alone.stderr)


@pytest.mark.parametrize(
    "limits",
    [{"max_examples_per_batch": 7}, {"max_examples_per_batch": 300}, {"memory_limit": 780_000}],
    ids=["7", "300", "memory"],
)
def test_results_do_not_depend_on_batches(limits):
    whole = hessx.leg(curved, X, sigma=0.3, n_samples=600)
    cut = hessx.leg(curved, X, sigma=0.3, n_samples=600, **limits)
    torch.testing.assert_close(cut.gamma, whole.gamma, rtol=1e-4, atol=1e-5)
    alone = hessx.leg(curved, X[1:], sigma=0.3, n_samples=600, **limits)
    torch.testing.assert_close(alone.gamma[0], whole.gamma[1], rtol=1e-4, atol=1e-5)


def test_arrays_and_precisions():
    def of_arrays(x):
        assert isinstance(x, np.ndarray)
        return (x * DIRECTION.numpy()).sum((1, 2, 3))

    result = hessx.leg(of_arrays, X.numpy(), n_samples=200)
    expected = hessx.leg(linear, X, n_samples=200)
    torch.testing.assert_close(result.gamma, expected.gamma, rtol=1e-4, atol=1e-4)
    double = hessx.leg(linear, X.double(), n_samples=200)
    assert double.gamma.dtype == torch.float64
    torch.testing.assert_close(double.gamma.float(), expected.gamma, rtol=1e-3, atol=1e-3)
    half = hessx.leg(linear, X.bfloat16(), n_samples=200)
    assert half.gamma.dtype == torch.float32


def test_clipping_keeps_inputs_in_range():
    inputs = X.clamp(0, 1)
    extremes = []

    def f(x):
        extremes.append((x.min().item(), x.max().item()))
        return linear(x)

    result = hessx.leg(f, inputs, n_samples=200, clip=(0, 1))
    assert min(low for low, _ in extremes) == 0
    assert max(high for _, high in extremes) == 1
    inside = hessx.leg(lambda x: linear(x.clamp(0, 1)), inputs, n_samples=200)
    torch.testing.assert_close(result.gamma, inside.gamma)


def test_a_function_that_clipping_makes_constant_has_no_gradient():
    result = hessx.leg(linear, X + 200, n_samples=200, clip=(0, 1), centred=False)
    assert (result.gamma == 0).all()
    assert (result.stderr == 0).all()
    torch.testing.assert_close(result.value, linear(torch.ones_like(X)))


def test_results_are_ordinary_tensors():
    with torch.inference_mode():
        result = hessx.leg(linear, X, n_samples=10)
        smooth = hessx.leg_tv(linear, X, n_samples=10)
    assert not result.gamma.is_inference()
    assert not smooth.gamma.is_inference()


def test_it_says_what_it_is():
    result = hessx.leg(linear, X, n_samples=100)
    assert repr(result).startswith("Leg(gamma=(2, 2, 5, 7), n_samples=100, ")
    assert "standard errors" in result._repr_html_()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"sigma": 0.0}, ValueError, "sigma must be > 0"),
        ({"sigma": -1.0}, ValueError, "sigma must be > 0"),
        ({"sigma": torch.ones(3)}, ValueError, r"one per feature \(70,\)"),
        ({"sigma": torch.ones(70), "covariance": GridTV()}, ValueError, "one sigma for all"),
        ({"features": hessx.Grid((6, 7))}, ValueError, "finer than the picture"),
        (
            {"features": hessx.Segments(torch.zeros(5, 7, dtype=int)), "covariance": GridTV()},
            ValueError,
            "needs features on a grid",
        ),
        ({"covariance": "tv"}, TypeError, "covariance must be"),
        ({"features": (5, 7)}, TypeError, "features must be"),
        ({"n_samples": 1}, ValueError, "n_samples must be >= 2"),
        ({"n_samples": 5, "antithetic": True}, ValueError, "n_samples must be even"),
        ({"n_samples": 2, "antithetic": True}, ValueError, "n_samples must be >= 4"),
        ({"sigma": None}, TypeError, "sigma must be a number or one per feature, got None"),
        ({"sigma": True}, TypeError, "sigma must be a number or one per feature, got True"),
        ({"centred": 1}, TypeError, "centred must be True or False"),
        ({"clip": (1, 0)}, ValueError, "low < high"),
        ({"clip": 1}, TypeError, "clip must be a pair"),
        ({"clip": (float("nan"), 1)}, ValueError, "low < high"),
        ({"target": 3}, ValueError, "target must be None for a single output"),
        ({"memory_limit": 1000}, ValueError, "memory_limit must be at least"),
    ],
)
def test_bad_arguments_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        hessx.leg(linear, X, **{"n_samples": 10, **options})


def test_a_model_that_fails_later_is_named():
    def f(x):
        y = linear(x)
        return torch.where(y > y.new_tensor(1e9), y, y / (len(x) < 3))

    with pytest.raises(ValueError, match=r"returned (-?inf|nan) for input row"):
        hessx.leg(f, X, n_samples=10)
