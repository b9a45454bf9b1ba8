"""LEG's commands of docs/experiments.md start, and what they compute is what they say."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import hessx
from bench import (
    leg_convergence,
    leg_gallery,
    leg_noise,
    leg_variance,
    nets,
)
from bench.leg_laws import KnownFunction, laws
from tests.references.commands import assert_shows_help

COMMANDS = [leg_convergence, leg_gallery, leg_noise, leg_variance]
GRID = (5, 7)


def random_picture(seed, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(GRID, generator=generator, dtype=torch.float64)


# Both terms of gamma count: the wave is no longer than the slope.
KNOWN = KnownFunction(random_picture(0, 0.3), random_picture(1, 0.3), 0.6, 0.4)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.__name__)
def test_commands_show_help(command, monkeypatch, capsys):
    assert_shows_help(command, monkeypatch, capsys)


@pytest.mark.parametrize("grid", [(5, 7), (1, 6), (28, 28)])
def test_laws_have_one_total_variance(grid):
    proposed, independent = (law.matrix().trace().item() for law in laws(0.3, grid))
    assert proposed == pytest.approx(independent, rel=1e-12)


@pytest.mark.parametrize("law", laws(0.3, GRID), ids=lambda law: law.name)
def test_draws_have_the_covariance(law):
    draws = law.draw(40_000).flatten(1)
    measured = draws.mT @ draws / len(draws)
    # An entry's standard error is at most sqrt(2) variance / sqrt(n).
    assert (measured - law.matrix()).abs().max() < 5 * 2**0.5 * law.matrix().max() / 200
    g = random_picture(2)
    expected = g.flatten() @ law.matrix() @ g.flatten()
    assert law.variance(g) == pytest.approx(expected.item(), rel=1e-12)


@pytest.mark.parametrize("law", laws(0.3, GRID), ids=lambda law: law.name)
def test_gamma_is_the_mean_gradient_and_what_leg_estimates(law):
    points = law.draw(40_000).requires_grad_()
    (gradients,) = torch.autograd.grad(KNOWN(points).sum(), points)
    error = gradients.std(0) / 200
    truth = KNOWN.gamma(law)
    assert ((gradients.mean(0) - truth) / error).abs().max() < 4
    zero = torch.zeros(1, *GRID, dtype=torch.float64)
    found = hessx.leg(
        KNOWN, zero, sigma=law.sigma, covariance=law.covariance, n_samples=40_000, seed=3
    )
    assert ((found.gamma[0] - truth) / found.stderr[0]).abs().max() < 4


def test_short_waves_add_variance_and_nothing_to_gamma():
    proposed, independent = laws(leg_convergence.SIGMA, (8, 8))
    cases = leg_convergence.functions(independent)
    for law in (proposed, independent):
        smooth, rough = cases["blocks"].gamma(law), cases["blocks, rough"].gamma(law)
        torch.testing.assert_close(rough, 0.3 * smooth, rtol=1e-10, atol=1e-10)
    assert independent.variance(cases["scattered"].slope) == pytest.approx(1)
    row = leg_convergence.law_row("rough", cases["blocks, rough"], independent, draws=2000)
    assert 0.05 < row["linear"] < 0.2


def test_kappa_is_sigma_squared_for_the_proposed_law():
    """And at least an eighth of the variance of independent noise: D^T D is below 8."""
    proposed, independent = laws(0.3, GRID)
    assert leg_convergence.least_kappa(proposed) == pytest.approx(0.09)
    found = leg_convergence.least_kappa(independent) / independent.sigma**2
    assert 1 / 8 < found < 1 / 7


def test_errors_leave_the_means_out():
    truth = random_picture(4)
    estimates = torch.stack([truth + 3, 2 * truth - 1, torch.full(GRID, 5.0)])
    errors = leg_convergence.relative_errors(estimates, truth)
    torch.testing.assert_close(errors, torch.tensor([0.0, 1.0, 1.0]).double())


def test_convergence_finds_the_expected_error_of_the_plain_leg(capsys, tmp_path):
    proposed, independent = laws(leg_convergence.SIGMA, (8, 8))
    f = leg_convergence.functions(independent)["blocks"]
    curve = leg_convergence.measure("blocks", f, proposed, [100, 1000], seeds=3)
    expected = leg_convergence.law_row("blocks", f, proposed, draws=2000)["expected"]
    assert curve.mean[1, 0].item() == pytest.approx(expected, rel=0.3)
    rows = curve.rows()
    assert [row["n"] for row in rows] == [100, 1000]
    for row in rows:
        assert row["LEG-TV best"] <= row["LEG-TV 0.1"]
    assert rows[1]["LEG-TV best"] < rows[1]["LEG"]
    assert len(curve.every()) == 2 * (1 + len(leg_convergence.K_LS))
    leg_convergence.draw([curve], tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_variance_of_the_printed_form_is_as_expected():
    def far_from_its_mean(x):
        return 0.1 * x.flatten(1).sum(1) + (x.flatten(1) != 0).any(1) * 2

    rows = leg_variance.compare(far_from_its_mean, torch.zeros(1, 4, 4), 2000, sigma=0.3)
    printed, centred, antithetic = rows
    assert [row["variant"] for row in rows] == list(leg_variance.VARIANTS)
    assert printed["ratio"] == pytest.approx(printed["expected"], rel=0.2)
    assert printed["expected"] > 100
    assert centred["ratio"] == 1
    # Half as many draws of a linear function.
    assert antithetic["ratio"] == pytest.approx(2, rel=0.2)


def test_cosines_are_eigenvectors():
    law = laws(0.3, GRID)[0]
    frequencies = [(i, j) for i in range(GRID[0]) for j in range(GRID[1])]
    rows = leg_noise.eigenvector_rows(law, frequencies)
    assert max(row["error"] for row in rows) < 1e-12
    assert next(row for row in rows if (row["i"], row["j"]) == (4, 6))["place"] == 1
    vectors = torch.stack([leg_noise.cosines(*pair, GRID).flatten() for pair in frequencies])
    torch.testing.assert_close(vectors @ vectors.mT, torch.eye(35, dtype=torch.float64))


def test_noise_rows_measure_what_they_state():
    for law in laws(0.3, GRID):
        row = leg_noise.noise_row(law, 20_000)
        assert row["drawn_total"] == pytest.approx(row["total"], rel=0.02)
        assert row["drawn_neighbours"] == pytest.approx(row["neighbours"], abs=0.02)
        assert (row["neighbours"] < -0.2) == (law.name == "GridTV")


@pytest.mark.filterwarnings("ignore:Setting forward, backward hooks")
def test_gallery_has_every_method():
    pytest.importorskip("captum")
    x = torch.rand(1, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nets.LeNet().eval()
    maps = leg_gallery.gallery(net, x, 3, torch.zeros(2, 1, 28, 28), 0.3, 100, 200)
    assert [found.method for found in maps][:5] == [
        "LEG exact",
        "LEG",
        *(f"LEG-TV {K_L:g}" for K_L in leg_gallery.K_LS),
    ]
    assert len(maps) == 10
    by_method = {found.method: found.map for found in maps}
    assert all(found.shape == (28, 28) for found in by_method.values())
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(net(x)[0, 3], x)
    torch.testing.assert_close(by_method["Gradient"], gradient[0, 0])
    again = leg_gallery.captum_methods(net, x, 3, torch.zeros(2, 1, 28, 28))["GradientSHAP"]()
    assert torch.equal(by_method["GradientSHAP"], again[0, 0])
    table = leg_gallery.rows(3, maps)
    assert table[0]["cosine"] == pytest.approx(1)
    assert all(abs(row["cosine"]) < 1 + 1e-9 for row in table)
    assert [row["method"] for row in leg_gallery.summary(table * 2)] == list(by_method)


def test_flat_share_counts_equal_neighbours():
    picture = torch.zeros(3, 4)
    picture[0, 0] = 1
    # 17 pairs, 2 of them at the corner.
    assert leg_gallery.flat_share(picture) == pytest.approx(15 / 17)
    assert leg_gallery.flat_share(torch.arange(12.0).reshape(3, 4)) == 0


def test_noisy_digits_are_drawn_in_range(tmp_path, capsys):
    digit = torch.rand(28, 28, dtype=torch.float64)
    path = tmp_path / "noise.png"
    leg_noise.draw_noise(digit, laws(0.3, leg_noise.GRID), 2, path)
    assert path.read_bytes().startswith(b"\x89PNG")
    shown = leg_noise.shown(digit + 1)
    assert isinstance(shown, np.ndarray)
    assert shown.max() == 1
