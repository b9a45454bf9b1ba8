"""P_MSE: exact for functions whose error is known, and its points where it says."""

from __future__ import annotations

import pytest
import torch

import hessx

D = 6
X = torch.randn(3, D, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
ZERO = torch.zeros_like(X)


def test_the_error_of_a_quadratic_without_its_hessian():
    """E[(|s|^2)^2] over the ball of radius r is r^4 d / (d + 4)."""
    radius = 0.7
    found = hessx.perturbation_mse(
        lambda x: x.square().sum(1), X, None, 2 * X, radius=radius, n_samples=40_000
    )
    expected = radius**4 * D / (D + 4)
    # The integrand's relative deviation is below 1: 4 / sqrt(40,000).
    torch.testing.assert_close(found, torch.full_like(found, expected), rtol=0.02, atol=0)


def test_uniform_radius_is_the_other_law():
    """E[|s|^4] is r^4 / 5 when the radius itself is uniform."""
    found = hessx.perturbation_mse(
        lambda x: x.square().sum(1),
        X,
        None,
        2 * X,
        radius=0.7,
        n_samples=40_000,
        law="uniform_radius",
    )
    torch.testing.assert_close(found, torch.full_like(found, 0.7**4 / 5), rtol=0.03, atol=0)


def test_a_dense_hessian_and_an_operator_agree():
    net = torch.nn.Sequential(
        torch.nn.Linear(D, 9), torch.nn.ReLU(), torch.nn.Linear(9, 3)
    ).double()
    result = hessx.smooth_hess(net, X, [0, 1, 2], sigma=0.5)
    scores = [
        hessx.perturbation_mse(net, X, [0, 1, 2], result.gradient, hessian, radius=0.5)
        for hessian in (result, result.to_dense())
    ]
    torch.testing.assert_close(*scores)
    chunked = hessx.perturbation_mse(
        net, X, [0, 1, 2], result.gradient, result, radius=0.5, max_examples_per_batch=999
    )
    torch.testing.assert_close(scores[0], chunked)


def test_float64_models_of_float32_inputs():
    found = hessx.perturbation_mse(
        lambda x: x.square().sum(1),
        X.float(),
        None,
        2 * X,
        2 * torch.eye(D, dtype=torch.float64).expand(3, D, D),
        radius=0.5,
    )
    assert found.max() < 1e-10


def test_models_must_be_tensors():
    with pytest.raises(TypeError, match="gradient must be a floating-point tensor"):
        hessx.perturbation_mse(lambda x: x.sum(1), X, None, [1.0], radius=1.0)


def test_black_boxes_need_no_gradient():
    found = hessx.perturbation_mse(lambda x: x.detach().sum(1), X, None, ZERO + 1, radius=1.0)
    assert found.max() < 1e-20


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"radius": 0.0}, "radius must be > 0"),
        ({"n_samples": 0}, "n_samples must be >= 1"),
        ({"law": "sphere"}, "law must be one of"),
        ({"gradient": torch.zeros(3, D + 1)}, "gradient must have the shape of inputs"),
        ({"hessian": torch.zeros(3, D, D + 1)}, r"hessian must be \(3, 6, 6\)"),
        ({"hessian": torch.full((3, D, D), torch.nan)}, "hessian must be finite"),
        ({"gradient": ZERO / 0}, "gradient must be finite"),
    ],
)
def test_bad_calls_are_refused(change, message):
    call = {"gradient": ZERO, "radius": 1.0} | change
    with pytest.raises(ValueError, match=message):
        hessx.perturbation_mse(lambda x: x.sum(1), X, None, **call)
