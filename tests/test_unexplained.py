"""The share of what perturbations do that explanations leave unexplained."""

from __future__ import annotations

import pytest
import torch

import hessx
from hessx.run import Run
from hessx.score.unexplained import unexplained

LAWS = [hessx.perturb.Gaussian(0.3), hessx.perturb.Square([1, 2], multiplied=False)]


def curved(x):
    """Return two outputs of pictures (N, 1, 4, 4), neither linear."""
    sums = x.flatten(1).cumsum(1)
    return torch.stack([sums[:, 5].sin() + sums[:, 15], sums[:, 9].square()], 1)


@pytest.fixture
def x():
    return torch.randn(2, 1, 4, 4)


@pytest.mark.parametrize("law", LAWS)
def test_is_infidelity_at_the_best_scale_over_that_of_zeros(law, x):
    maps = torch.randn(3, *x.shape)
    found = unexplained(curved, law.bind(x, None, 7), maps, [0, 1], 60, Run(7))
    scored = hessx.infidelity(
        curved,
        law,
        x,
        torch.cat([maps, torch.zeros_like(maps[:1])]),
        target=[0, 1],
        n_perturb_samples=60,
        normalize=True,
        seed=7,
    )
    torch.testing.assert_close(found.share, scored[:3] / scored[3:], rtol=1e-12, atol=0)
    assert found.n_evaluations == 2 * 61


@pytest.mark.parametrize("law", LAWS)
def test_exact_maps_explain_everything_and_zeros_nothing(law, x):
    weight = torch.randn(16, dtype=torch.float64)
    x = x.double()
    exact = weight.reshape(1, 4, 4).expand(2, 1, 4, 4)
    maps = torch.stack([3 * exact, -exact, torch.zeros_like(exact)])
    bound = law.bind(x, None, 0)
    found = unexplained(lambda z: z.flatten(1) @ weight, bound, maps, None, 50, Run())
    assert (found.share[:2] < 1e-25).all()
    torch.testing.assert_close(found.share[2], torch.ones_like(found.share[2]))
    assert (found.stderr[2] < 1e-12).all()
    expected = torch.tensor([[1 / 3], [-1.0], [0.0]], dtype=torch.float64).expand(3, 2)
    torch.testing.assert_close(found.scale, expected)


def test_standard_errors_are_the_spread_over_seeds(x):
    law, maps = hessx.perturb.Gaussian(0.3), torch.randn(2, *x.shape)
    found = [
        unexplained(curved, law.bind(x, None, seed), maps, 0, 100, Run(seed)) for seed in range(150)
    ]
    spread = torch.stack([each.share for each in found]).std(0)
    claimed = torch.stack([each.stderr for each in found]).mean(0)
    # 150 seeds leave 6 % of a standard deviation, the linear formula another few percent.
    torch.testing.assert_close(claimed, spread, rtol=0.25, atol=0)


def test_where_nothing_changes_there_is_no_share(x):
    bound = hessx.perturb.Gaussian(0.3).bind(x, None, 0)
    found = unexplained(
        lambda z: torch.ones(len(z)), bound, torch.ones(1, *x.shape), None, 5, Run()
    )
    assert found.share.isnan().all()
