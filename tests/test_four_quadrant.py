"""The Four Quadrant experiment: a ReLU net of known interactions, with no Hessian of its own.

SmoothHess (Torop et al., NeurIPS 2023), section 5.1 and Figure 2 (a).
"""

from __future__ import annotations

import math

import pytest
import torch

import hessx
from tests.references.four_quadrant import Fit, memorising_net

pytestmark = pytest.mark.slow

X0 = torch.zeros(1, 2)
N_SAMPLES = 100_000


@pytest.fixture(scope="module")
def fit() -> Fit:
    return memorising_net()


def test_relu_net_has_no_hessian_of_its_own(fit):
    own = torch.autograd.functional.hessian(lambda x: fit.net(x).sum(), X0)
    assert torch.equal(own, torch.zeros(1, 2, 1, 2))


@pytest.mark.parametrize("variance", [1e-3, 1e-2, 1e-1, 1.0])
def test_smooth_hess_is_the_mean_of_the_quadrants(fit, variance):
    result = hessx.smooth_hess(fit.net, X0, sigma=math.sqrt(variance), n_samples=N_SAMPLES)
    hessian, error = result.to_dense(stderr=True)
    interaction, stderr = hessian[0, 0, 1].item(), error[0, 0, 1].item()
    print(
        f"H_12 = {interaction:.3f} +- {stderr:.3f} at sigma^2 = {variance:g}, "
        f"mean squared error {fit.mse:.2e} after {fit.iterations} iterations"
    )
    assert 0 < stderr < 0.05
    # At 1e-3 the net's own noise shows, as in the paper's figure: sigma is about .03 there, four
    # steps of the grid, and the target itself is of the size of the fit's error.
    if variance >= 1e-2:
        assert abs(interaction - (5 + 3 + 12 - 10) / 4) <= 0.2
