"""SmoothHess against closed forms: how far off it is, and how well it knows."""

from __future__ import annotations

import statistics

import pytest
import torch
from torch import Tensor, nn

import hessx
from hessx import covariance
from tests.references.closed_form import smooth_taylor
from tests.references.digits import deep_net, digits, one_hidden_layer
from tests.references.reflected import reflected_smooth_hess

SEEDS = range(5)


@pytest.fixture(scope="module")
def net() -> nn.Sequential:
    return one_hidden_layer()


@pytest.fixture(scope="module")
def x0() -> Tensor:
    return digits()[0][4000:4001]


def target_of(net: nn.Sequential, x0: Tensor) -> int:
    with torch.no_grad():
        return int(net(x0).argmax())


def compare(result: hessx.SmoothHess, truth: Tensor) -> tuple[float, float]:
    """Return the true relative error and the reported one as a multiple of it."""
    error = (result.to_dense()[0].double() - truth).norm() / truth.norm()
    return error.item(), (result.relative_error[0].double() / error).item()


def medians(pairs: list[tuple[float, float]]) -> tuple[float, float]:
    errors, ratios = zip(*pairs, strict=True)
    return statistics.median(errors), statistics.median(ratios)


@pytest.mark.parametrize(("sigma", "bound"), [(0.0179, 0.08), (0.1, 0.10), (0.3, 0.13)])
def test_error_at_800_gradients(net, x0, sigma, bound):
    target = target_of(net, x0)
    gradient, truth = smooth_taylor(net, target, x0[0], sigma**2 * torch.eye(784))
    results = [
        hessx.smooth_hess(net, x0, target, sigma=sigma, n_samples=800, seed=seed) for seed in SEEDS
    ]
    error, ratio = medians([compare(result, truth) for result in results])
    assert error <= bound
    assert 0.85 <= ratio <= 1.2
    for result in results:
        assert (result.gradient[0].double() - gradient).norm() <= 0.01 * gradient.norm()


@pytest.mark.parametrize("sigma", [0.0179, 0.3])
def test_error_where_only_sums_are_kept(net, x0, sigma):
    """Pixels at the border have next to no gradient: directions of rounding must stay harmless."""
    target = target_of(net, x0)
    _, truth = smooth_taylor(net, target, x0[0], sigma**2 * torch.eye(784))
    few, many = (
        compare(hessx.smooth_hess(net, x0, target, sigma=sigma, n_samples=n), truth)
        for n in (1200, 4800)
    )
    # Half the error at four times the samples.
    assert many[0] <= 0.65 * few[0]
    assert 0.75 <= many[1] <= 1.3


SEGMENTS = hessx.Segments((torch.arange(784) // 28 // 4) * 7 + torch.arange(784) % 28 // 4)
HALF = torch.where(torch.arange(784) % 28 < 14, 0.1, 0.0)
RAMP = torch.linspace(0, 0.2, 784)
FACTOR = torch.randn(49, 49, generator=torch.Generator().manual_seed(0)) / 7 + torch.eye(49)


def lift(features: hessx.Features) -> Tensor:
    """Return S as a matrix."""
    features = features.bind((784,))
    return features.lift(torch.eye(features.n_features)).mT


LAWS = {
    "half of the features": (HALF, None, None, 256),
    "a ramp of deviations": (RAMP, None, None, 512),
    "segments": (0.1, None, SEGMENTS, 256),
    "correlated segments": (0.1, covariance.Factor(FACTOR), SEGMENTS, 512),
    "a basis": (0.2, None, hessx.Basis(lift(SEGMENTS) @ FACTOR), 512),
}


@pytest.mark.parametrize(("sigma", "law", "features", "n"), LAWS.values(), ids=LAWS.keys())
def test_any_covariance(net, x0, sigma, law, features, n):
    target = target_of(net, x0)
    s = torch.eye(784) if features is None else lift(features)
    k = s.shape[1]
    root = law.matrix if law is not None else torch.eye(k)
    root = (sigma * torch.ones(k))[:, None] * root.float()
    input_gradient, input_hessian = smooth_taylor(net, target, x0[0], s @ root @ root.mT @ s.mT)
    active = root.any(1)
    truth = s.double().mT @ input_hessian @ s.double() * active[:, None] * active
    pairs = []
    for seed in SEEDS:
        result = hessx.smooth_hess(
            net, x0, target, sigma=sigma, covariance=law, features=features, n_samples=n, seed=seed
        )
        assert result.identified.tolist() == active.tolist()
        assert not result.to_dense()[0, ~active].any()
        pairs.append(compare(result, truth))
        gradient = s.double().mT @ input_gradient
        found = result.feature_gradient[0].double()
        assert (found - gradient).norm() <= 0.02 * gradient.norm()
        pulled = s.mT @ result.gradient[0]
        torch.testing.assert_close(pulled, result.feature_gradient[0], rtol=1e-3, atol=1e-4)
    error, ratio = medians(pairs)
    assert error <= 0.25
    assert 0.85 <= ratio <= 1.2


def test_neighbours_pushed_apart(net, x0):
    """GridTV noise on a 7 x 7 grid, against its dense covariance."""
    picture = nn.Sequential(nn.Flatten(), *net)
    target = target_of(net, x0)
    law, grid = covariance.GridTV(), (1, 7, 7)
    root = law.root(49, grid=grid).apply(torch.eye(49, dtype=torch.float64)).mT
    s = lift(SEGMENTS).double()
    _, hessian = smooth_taylor(net, target, x0[0], 0.01 * (s @ root @ root.mT @ s.mT))
    result = hessx.smooth_hess(
        picture,
        x0.reshape(1, 28, 28),
        target,
        sigma=0.1,
        covariance=law,
        features=hessx.Grid((7, 7)),
        n_samples=512,
    )
    error, ratio = compare(result, s.mT @ hessian @ s)
    assert error <= 0.25
    assert 0.8 <= ratio <= 1.25


def test_grid_of_a_picture(net, x0):
    """A 7 x 7 grid shifts the same pixels as the segments above."""
    picture = nn.Sequential(nn.Flatten(), *net)
    target = target_of(net, x0)
    s = lift(SEGMENTS).double()
    _, hessian = smooth_taylor(net, target, x0[0], 0.01 * (s @ s.mT))
    pairs = []
    for seed in SEEDS:
        result = hessx.smooth_hess(
            picture,
            x0.reshape(1, 1, 28, 28),
            target,
            sigma=0.1,
            features=hessx.Grid((7, 7)),
            seed=seed,
        )
        pairs.append(compare(result, s.mT @ hessian @ s))
    error, ratio = medians(pairs)
    assert error <= 0.12
    assert 0.85 <= ratio <= 1.2


def test_noise_on_the_input_estimates_the_group_sums(net, x0):
    """The other estimand: S^T H S of the isotropically smoothed pixel Hessian."""
    target = target_of(net, x0)
    s = lift(SEGMENTS).double()
    _, hessian = smooth_taylor(net, target, x0[0], 0.01 * torch.eye(784))
    truth = s.mT @ hessian @ s
    results = [
        hessx.smooth_hess(
            net, x0, target, sigma=0.1, features=SEGMENTS, noise="input", n_samples=6400, seed=seed
        )
        for seed in SEEDS
    ]
    error, ratio = medians([compare(result, truth) for result in results])
    assert error <= 0.1
    assert 0.85 <= ratio <= 1.2
    assert all(result.estimand == "input" for result in results)
    groups_moved = hessx.smooth_hess(net, x0, target, sigma=0.1, features=SEGMENTS)
    assert (groups_moved.to_dense()[0] - truth).norm() > 2 * error * truth.norm()


@pytest.mark.parametrize("estimator", ["centered", "stein"])
@pytest.mark.parametrize("n", [200, 3200])
def test_other_estimators_know_their_error(net, x0, estimator, n):
    target = target_of(net, x0)
    s = lift(SEGMENTS)
    _, hessian = smooth_taylor(net, target, x0[0], 0.09 * (s @ s.mT))
    truth = s.double().mT @ hessian @ s.double()
    results = [
        hessx.smooth_hess(
            net,
            x0,
            target,
            sigma=0.3,
            features=SEGMENTS,
            estimator=estimator,
            n_samples=n,
            seed=seed,
        )
        for seed in SEEDS
    ]
    deviation = torch.stack([r.to_dense()[0].double() - truth for r in results])
    reported = torch.stack([r.to_dense(stderr=True)[1][0].double() for r in results])
    # Noise energy over 5 seeds and 1225 entries, dominated by a few directions.
    assert 0.7 <= (deviation.square().mean() / reported.square().mean()).sqrt() <= 1.3


@pytest.mark.parametrize("n", [256, 1024])
def test_standard_errors_of_entries_and_forms(net, x0, n):
    """z-scores of entries, group sums and quadratic forms have deviation 1."""
    target = target_of(net, x0)
    s = lift(SEGMENTS).double()
    _, hessian = smooth_taylor(net, target, x0[0], 0.01 * (s @ s.mT))
    truth = s.mT @ hessian @ s
    labels = torch.arange(49) // 7
    groups = torch.nn.functional.one_hot(labels).double()
    direction = torch.randn(49, generator=torch.Generator().manual_seed(0))
    entries, sums, forms = [], [], []
    for seed in range(20):
        result = hessx.smooth_hess(
            net, x0, target, sigma=0.1, features=SEGMENTS, n_samples=n, seed=seed
        )
        value, error = result.to_dense(stderr=True)
        entries.append((value[0] - truth) / error[0])
        value, error = result.group(labels, stderr=True)
        sums.append((value[0] - groups.mT @ truth @ groups) / error[0])
        value, error = result.quadratic_form(direction, None, stderr=True)
        forms.append((value[0] - direction.double() @ truth @ direction.double()) / error[0])
    assert 0.8 <= torch.stack(entries).square().mean().sqrt() <= 1.25
    assert 0.8 <= torch.stack(sums).square().mean().sqrt() <= 1.25
    # 20 independent numbers: their deviation is known to 16 %, and 3 of those.
    assert 0.5 <= torch.stack(forms).square().mean().sqrt() <= 1.5


def test_standard_errors_where_entries_of_the_core_are_correlated():
    """Two dimensions, four quadrants: H_12 is a difference of two anti-correlated entries."""
    slopes = torch.tensor([[12.0, 3.0], [-10.0, 5.0]])

    def quadrants(x):
        return slopes[(x[:, 0] > 0).long(), (x[:, 1] > 0).long()] * x[:, 0] * x[:, 1]

    values, errors = [], []
    for seed in range(150):
        result = hessx.smooth_hess(
            quadrants, torch.zeros(1, 2), sigma=0.3, n_samples=512, seed=seed
        )
        value, error = result.to_dense(stderr=True)
        values.append(value[0, 0, 1])
        errors.append(error[0, 0, 1])
    values, errors = torch.stack(values), torch.stack(errors)
    assert abs(values.mean() - 2.5) < 4 * values.std() / 150**0.5
    # The deviation of 150 numbers is known to 6 %.
    assert errors.mean() == pytest.approx(values.std().item(), rel=0.2)


@pytest.mark.parametrize("sampling", ["antithetic", "frames"])
def test_other_samplings(net, x0, sampling):
    target = target_of(net, x0)
    gradient, truth = smooth_taylor(net, target, x0[0], 0.01 * torch.eye(784))
    results = [
        hessx.smooth_hess(net, x0, target, sigma=0.1, n_samples=400, sampling=sampling, seed=seed)
        for seed in SEEDS
    ]
    error, ratio = medians([compare(result, truth) for result in results])
    assert error <= 0.15
    assert 0.8 <= ratio <= 1.3
    for result in results:
        assert (result.gradient[0].double() - gradient).norm() <= 0.02 * gradient.norm()


def test_gls_never_loses_to_centred_on_a_flat_spectrum():
    """64 hidden units of one size in 64 dimensions: nothing for the weights to gain."""
    generator = torch.Generator().manual_seed(0)
    net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1))
    with torch.no_grad():
        net[0].weight.copy_(torch.linalg.qr(torch.randn(64, 64, generator=generator))[0])
        net[0].bias.zero_()
        net[2].weight.fill_(1.0)
    x0 = torch.zeros(1, 64)
    _, truth = smooth_taylor(net, 0, x0[0], torch.eye(64))
    for n in (32, 128, 512):
        gls, centred = (
            medians(
                [
                    compare(
                        hessx.smooth_hess(
                            net, x0, 0, sigma=1.0, n_samples=n, estimator=estimator, seed=seed
                        ),
                        truth,
                    )
                    for seed in SEEDS
                ]
            )
            for estimator in ("gls", "centered")
        )
        assert gls[0] <= 1.02 * centred[0]
        assert gls[1] >= 0.8
        assert gls[1] <= 1.25 or gls[0] > 0.8


def test_rtol_is_met_on_average(net, x0):
    target = target_of(net, x0)
    _, truth = smooth_taylor(net, target, x0[0], 0.01 * torch.eye(784))
    errors = []
    for seed in SEEDS:
        result = hessx.smooth_hess(net, x0, target, sigma=0.1, rtol=0.15, seed=seed)
        assert result.converged.all()
        assert result.relative_error <= 0.15
        assert 128 <= result.n_samples.item() < 2048
        errors.append(compare(result, truth)[0])
    assert statistics.mean(errors) <= 0.165


def test_quadratic_and_linear_functions():
    a = torch.randn(6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    a = a + a.mT
    b = torch.arange(6, dtype=torch.float64)
    x0 = torch.randn(1, 6, dtype=torch.float64)

    def quadratic(x):
        return ((x @ a) * x).sum(1) / 2 + x @ b

    result = hessx.smooth_hess(quadratic, x0, sigma=0.3, n_samples=2000)
    torch.testing.assert_close(result.to_dense()[0], a, rtol=0.02, atol=0.02)
    # The control variate takes a linear gradient's noise out of SmoothGrad entirely.
    torch.testing.assert_close(result.gradient, x0 @ a + b, rtol=1e-3, atol=1e-3)
    linear = hessx.smooth_hess(lambda x: x @ b, x0, sigma=0.3)
    assert not linear.to_dense().any()
    assert linear.relative_error.isnan()
    torch.testing.assert_close(linear.gradient[0], b)


def test_256_gradients_predict_as_well_as_many_reflected_ones():
    """P_MSE on digits: the paper's test of a Taylor model, its estimator with 20,000 gradients."""
    net = deep_net()
    x = digits()[0][4000:4003]
    with torch.no_grad():
        target = net(x).argmax(1)
    radius = 0.5
    sigma = hessx.sigma_for_radius(radius, 784)
    result = hessx.smooth_hess(net, x, target, sigma=sigma, n_samples=256)
    reflected = [
        reflected_smooth_hess(lambda z, c=c: net(z)[:, c], row, sigma, 20_000)
        for row, c in zip(x, target.tolist(), strict=True)
    ]
    score = {"radius": radius, "n_samples": 4000}
    ours = hessx.perturbation_mse(net, x, target, result.gradient, result, **score)
    gradient, hessian = (torch.stack(parts) for parts in zip(*reflected, strict=True))
    theirs = hessx.perturbation_mse(net, x, target, gradient, hessian, **score)
    first_order = hessx.perturbation_mse(net, x, target, result.gradient, **score)
    assert ours.mean() <= 1.05 * theirs.mean()
    assert ours.mean() < first_order.mean()
