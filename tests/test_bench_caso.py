"""The commands of docs/experiments.md start, and what they compute is right on tiny nets."""

from __future__ import annotations

import csv
import importlib

import numpy as np
import pytest
import torch

import hessx
from bench import (
    caso,
    caso_first_against_second,
    caso_gallery,
    caso_path,
    caso_rank_one,
    caso_relaxation,
    photographs,
    pictures,
)
from hessx.demo.classifier import Classifier
from tests.references.caso_paper import DifferentiatedLoss
from tests.references.commands import assert_shows_help
from tests.references.cross_entropy import gradient_and_hessian, random_net


@pytest.fixture
def net():
    """Three channels of 6 x 6 pixels, 5 classes."""
    return torch.nn.Sequential(torch.nn.Flatten(), random_net(108, 5).float())


@pytest.fixture
def x():
    return torch.randn(1, 3, 6, 6, generator=torch.Generator().manual_seed(0))


COMMANDS = [
    caso,
    caso_rank_one,
    caso_relaxation,
    caso_first_against_second,
    caso_path,
    caso_gallery,
]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.__name__)
def test_commands_show_help(command, monkeypatch, capsys):
    assert_shows_help(command, monkeypatch, capsys)


def test_make_experiments_names_commands():
    """Every name in the Makefile's lists is a module with a main."""
    root = pictures.Path(__file__).parents[1]
    lines = (root / "Makefile").read_text().splitlines()
    listed = [line.partition("=")[2] for line in lines if line.startswith("EXPERIMENTS")]
    for name in " ".join(listed).split():
        assert callable(importlib.import_module(f"bench.{name}").main)


def test_the_baseline_falls_short_of_hessx_and_is_compared_at_one_program(net, x):
    """A product of double backward at the solutions gives the objective that hessx reports."""
    timing = caso.time_both(net, net, x, caso.SHARES, caso.SHARES)
    assert timing.gap <= caso.TOL
    assert len(timing.short) == len(caso.SHARES)
    assert min(timing.short) > -caso.TOL
    # One gradient, 10 power iterations, at least 2 products for each of 4 x 10 steps.
    assert timing.calls >= 1 + 10 + 80


def test_objective_of_the_differentiated_loss(net, x):
    result = hessx.caso(net, x, lambda1=0.01)
    loss = DifferentiatedLoss(net, x[0], int(result.target))
    value = loss.objective(result.delta[0], 0.01, result.lambda2.item())
    # float32 products, of which the objective is a difference.
    assert value == pytest.approx(result.objective.item(), rel=1e-4)


def test_lanczos_finds_the_largest_eigenvalue(net, x):
    """30 steps are more than the rank of a Hessian of 5 classes."""
    top, difference = caso.lanczos(net, x)
    _, H = gradient_and_hessian(net.double(), x.double(), torch.tensor([0]))
    assert top == pytest.approx(torch.linalg.eigvalsh(H[0])[-1].item(), rel=1e-4)
    assert difference < 1e-5


def test_promises_on_exact_solutions(net, x, capsys):
    images = torch.cat([x, -x]).flatten(1)
    assert list(caso.against_the_truth(net[1], images)) == []
    assert "2 images" in capsys.readouterr().out


def test_comparison_is_zero_where_the_hessian_is_parallel_to_the_gradient():
    """Two classes: H is rank one along g, so that CASO is parallel to CAFO."""
    x = torch.randn(4, 20, generator=torch.Generator().manual_seed(1))
    two = caso_first_against_second.compare(random_net(20, 2).float(), x)
    # Differences of unit vectors in float32.
    assert two.difference.max() < 1e-5
    assert two.at_limit.max() < 1e-5
    five = caso_first_against_second.compare(random_net(20, 5, spread=2.0).float(), x)
    assert five.at_limit.max() > 0.01
    assert (five.at_limit >= five.difference).all()


def test_bins_of_confidence_hold_every_input():
    confidence = torch.tensor([0.1, 0.3, 0.95, 0.99999, 1.0], dtype=torch.float64)
    values = torch.arange(5, dtype=torch.float64)
    found = caso_first_against_second.Comparison(confidence, values, values, values, values, values)
    rows = caso_first_against_second.by_confidence("some", found)
    assert [(row["p_from"], row["n"]) for row in rows] == [(0, 1), (0.3, 1), (0.9, 1), (0.9999, 2)]
    assert rows[-1]["median"] == 3.5
    inputs = caso_first_against_second.by_input("some", found)
    assert [(row["place"], row["difference"]) for row in inputs] == list(enumerate(range(5)))


def test_variants_keep_the_photograph_and_the_range():
    classifier = Classifier("none", lambda z: z, ["a"])
    made = caso_first_against_second.variants(classifier, ["coffee", "chelsea"])
    assert len(made) == 16
    low, high = -127 / 128, 1
    for inputs in made.values():
        assert inputs.shape == (1, 3, 224, 224)
        assert low <= inputs.min() <= inputs.max() <= high
    pixels = photographs.photograph("coffee").pixels
    np.testing.assert_array_equal(photographs.displayed(classifier, made["coffee"][0]), pixels)


def test_sweep_of_lambda1(net, x):
    swept = caso_path.sweep(net, x)
    table = caso_path.rows(swept)
    place = caso_path.MULTIPLES.index(1.0)
    assert 0.75 <= table[place]["cafo_eta"] < 1
    assert 0.75 <= table[place]["caso_eta"] < 1
    etas = [row["caso_eta"] for row in table]
    assert etas == sorted(etas)
    zero = (swept.clipped == 0).all(1).double().mean((1, 2))
    torch.testing.assert_close(zero, swept.second.sparsity[0].double())


def test_gallery_has_every_method(net, x):
    pytest.importorskip("captum")
    maps = {found.method: found for found in caso_gallery.gallery(net, x, x * 0, 0.1, 3)}
    assert len(maps) == 7
    for found in maps.values():
        assert found.map.shape == (6, 6)
        assert 0 <= found.map.min() <= found.map.max() <= 1
    assert maps["SmoothCASO"].result is not None
    assert not torch.equal(maps["Gradient"].map, maps["SmoothGrad"].map)


def test_integrated_gradients_complete(net, x):
    """Times the way, they add up to the change of the loss."""
    pytest.importorskip("captum")
    net, x = net.double(), x.double()
    black = torch.zeros_like(x)
    found = caso_gallery.integrated_gradients(net, x, 2, black)
    losses = [torch.nn.functional.cross_entropy(net(z), torch.tensor([2])) for z in (x, black)]
    # 50 points on a path with kinks.
    assert (found * x).sum().item() == pytest.approx((losses[0] - losses[1]).item(), rel=0.05)


def test_tables_are_csv(tmp_path, capsys):
    pictures.write_table(
        [dict(name="a", value=1 / 3), dict(name="b, c", value=2.0)], tmp_path / "t"
    )
    with (tmp_path / "t").open(newline="") as file:
        assert list(csv.reader(file)) == [["name", "value"], ["a", "0.333333"], ["b, c", "2"]]
    assert "0.3333" in capsys.readouterr().out


def test_pictures_are_png(tmp_path):
    image = np.linspace(0, 1, 64).reshape(8, 8)
    rows = dict(first=[pictures.Panel(image, "a"), pictures.Panel(image, marked=True)])
    pictures.draw_panels(rows, ["one", "two"], tmp_path / "maps.png")
    assert (tmp_path / "maps.png").read_bytes().startswith(b"\x89PNG")
