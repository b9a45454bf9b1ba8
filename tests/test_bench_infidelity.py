"""The commands of infidelity's experiments start, and what they compute is what they say."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import hessx
from bench import (
    explanations,
    infidelity_random_net,
    infidelity_robust,
    infidelity_scores,
    infidelity_smoothing,
    infidelity_squares,
    infidelity_tables,
    infidelity_toy,
    picture_explanations,
    strided_nets,
)
from bench.cifar import CifarNet
from bench.infidelity_scores import Method
from tests.references.commands import assert_shows_help

pytest.importorskip("captum")

COMMANDS = [
    infidelity_random_net,
    infidelity_robust,
    infidelity_smoothing,
    infidelity_squares,
    infidelity_tables,
    infidelity_toy,
]


@pytest.fixture(scope="module")
def net():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return strided_nets.strided_net().eval()


@pytest.fixture
def x():
    return torch.rand(2, 1, 28, 28, generator=torch.Generator().manual_seed(1))


TARGET = torch.tensor([3, 5])


def gradient_of(net, x, target):
    x = x.clone().requires_grad_()
    (found,) = torch.autograd.grad(net(x).gather(1, target[:, None]).sum(), x)
    return found


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.__name__)
def test_commands_show_help(command, monkeypatch, capsys):
    assert_shows_help(command, monkeypatch, capsys)


def test_attacks_stay_in_the_ball_and_raise_the_loss(net, x):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        found = strided_nets.attacked(net, x, TARGET, radius=0.1, steps=5)
    assert (found - x).abs().max() <= 0.1 + 1e-6
    assert found.min() >= 0
    assert found.max() <= 1
    loss = nn.functional.cross_entropy
    assert loss(net(found), TARGET) > loss(net(x), TARGET)


def test_explanations_are_what_they_are_called(net, x):
    plain = explanations.gradient(net)(x, TARGET)
    torch.testing.assert_close(plain, gradient_of(net, x, TARGET))
    torch.testing.assert_close(
        explanations.multiplied(explanations.gradient(net))(x, TARGET), x * plain
    )
    # Completeness: integrated gradients add up to the way from black.
    paths = x * explanations.integrated_gradients(net, 200)(x, TARGET)
    with torch.no_grad():
        way = (net(x) - net(torch.zeros_like(x))).gather(1, TARGET[:, None])[:, 0]
    torch.testing.assert_close(paths.flatten(1).sum(1), way, rtol=1e-2, atol=1e-3)
    noisy = explanations.smooth_grad(net, 4)
    assert torch.equal(noisy(x, TARGET), noisy(x, TARGET))
    # A first layer that multiplies by positive numbers: guided gradients are those of ReLU nets
    # without their negative parts.
    chain = nn.Sequential(nn.Flatten(), nn.Linear(784, 3), nn.ReLU(), nn.Linear(3, 6))
    guided = explanations.guided_backprop(chain)(x, TARGET)
    first, last = chain[1].weight, chain[3].weight
    gates = chain[1](x.flatten(1)) > 0
    expected = (last[TARGET].clamp(min=0) * gates) @ first
    torch.testing.assert_close(guided.flatten(1), expected.detach())


def test_smoothing_averages_the_same_cube_for_every_input(x):
    sizes = []

    def explain(inputs, target):
        sizes.append(len(inputs))
        return inputs * target[:, None, None, None]

    found = explanations.smoothed(explain, radius=0.3, n_samples=100, batch=5)(x, TARGET)
    assert max(sizes) <= 5
    moved = found / TARGET[:, None, None, None] - x
    torch.testing.assert_close(moved[0], moved[1], atol=1e-6, rtol=0)
    # The mean of 100 uniform numbers in (-.3, .3) has a standard deviation of .3 / sqrt(300).
    assert 0.5 < moved.std() / (0.3 / 300**0.5) < 1.5


def test_remembered_asks_once(x):
    calls = []
    explain = explanations.Remembered(lambda inputs, target: calls.append(1) or inputs * 2)
    assert torch.equal(explain(x, TARGET), explain(x.clone(), TARGET))
    assert len(calls) == 1
    explain(x + 1, TARGET)
    explain(x, TARGET + 1)
    assert len(calls) == 3


def linear_net():
    generator = torch.Generator().manual_seed(2)
    net = nn.Sequential(nn.Flatten(), nn.Linear(784, 10)).double()
    with torch.no_grad():
        net[1].weight.copy_(torch.randn(10, 784, generator=generator))
    return net


def test_scores_of_a_linear_net_are_exact(x, capsys):
    """Its gradient is faithful and does not move; twice the gradient as well, once scaled."""
    net, x = linear_net(), x.double()
    methods = [
        Method("gradient", lambda inputs, target: 2 * gradient_of(net, inputs, target)),
        Method("input", lambda inputs, target: inputs, smooth_of="gradient", points=5),
    ]
    law = {"NB": hessx.perturb.NoisyBaseline(sigma=0.2)}
    scores = infidelity_scores.score(net, x, TARGET, methods, law, sensitive=1)
    assert scores.infidelity["NB"]["gradient"].max() < 1e-10
    assert scores.infidelity["NB"]["input"].min() > 1
    assert scores.sensitivity["gradient"].item() < 1e-12
    assert scores.sensitivity["gradient"].shape == (1,)
    moved = scores.sensitivity["input"].item()
    assert 0 < moved < 2
    rows = infidelity_scores.table(scores, methods)
    assert [row["method"] for row in rows] == ["gradient", "input", "nothing"]
    assert rows[1]["NB"] == pytest.approx(scores.infidelity["NB"]["input"].mean().item())
    values = scores.answers["NB"]
    assert rows[2]["NB_se"] == pytest.approx(values.std().item() / 2**0.5)
    # No explanation leaves more unexplained than none, once it is scaled.
    assert (scores.infidelity["NB"]["input"] <= values * (1 + 1e-9)).all()
    (effect,) = infidelity_scores.smoothing_effects(scores, methods)
    assert effect["method"] == "gradient"
    assert effect["sensitivity"] == pytest.approx(moved)


def test_toy_is_the_papers_function():
    points = torch.tensor([[20.0, 11.9], [20.0, 12.1], [20.0, 15.9], [11.9, 20.0]]).double()
    expected = torch.tensor([16, 16.1, 18, 16]).double()
    torch.testing.assert_close(infidelity_toy.f(points), expected)
    gradient = infidelity_toy.gradient(points)
    assert gradient.tolist() == [[1, 0], [0, 1], [1, 0], [0, 1]]
    # Continuous across a stripe's edge.
    edge = torch.tensor([[20, 12 - 1e-9], [20, 12 + 1e-9]]).double()
    first, second = infidelity_toy.f(edge).tolist()
    assert first == pytest.approx(second, abs=1e-8)
    smooth = infidelity_toy.smoothed_gradient(points, 20_000)
    torch.testing.assert_close(smooth, torch.full_like(smooth, 0.5), atol=0.02, rtol=0)


def test_cifar_net_has_keras_order():
    """Convolution, ReLU, then normalisation, which leaves 1 x 1 before the dense layers."""
    net = CifarNet().eval()
    assert sum(p.numel() for p in net.parameters()) == 968_394
    names = [type(module).__name__ for module in net.features[:4]]
    assert names == ["Conv2d", "ReLU", "BatchNorm2d", "Conv2d"]
    out = net(torch.rand(2, 3, 32, 32))
    assert out.shape == (2, 10)
    assert (out < 0).any()


def small_net():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(64, 5)
        )
    return net.eval()


def test_explanations_of_pictures_have_their_shape():
    net = small_net()
    x = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(3))
    asked = picture_explanations.Asked(net, net[0], 1.0)
    found = picture_explanations.picture_explanations(asked, guided=True)
    assert len(found) == 6
    for explain in found.values():
        assert explain(x, torch.tensor([2])).shape == x.shape
    product = x * gradient_of(net, x, torch.tensor([2]))
    torch.testing.assert_close(found["Grad"](x, torch.tensor([2])), product)


def test_recount_takes_the_statistics_of_the_inputs():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).eval()
    x = torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        infidelity_random_net.recount(net, x)
        out = net(x).transpose(0, 1).flatten(1)
    assert not net[1].training
    assert net[1].momentum == 0.1
    torch.testing.assert_close(out.mean(1), torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(out.std(1), torch.ones(4), atol=1e-2, rtol=0)


def test_rank_correlations_are_of_cells():
    generator = torch.Generator().manual_seed(5)
    attribution = torch.randn(3, 224, 224, generator=generator)
    cells = infidelity_random_net.cells(attribution)
    expected = attribution[:, :16, 16:32].double().sum() / 256
    assert cells[1].item() == pytest.approx(expected.item())
    correlation = infidelity_random_net.rank_correlation
    assert correlation(cells, cells.exp()) == pytest.approx(1)
    assert correlation(cells, -cells) == pytest.approx(-1)
    maps = {"a": {"method": attribution}}
    pictures = {"a": attribution.abs()[None]}
    (row,) = infidelity_random_net.correlations(pictures, maps, {"a": {"method": -attribution}})
    assert (row["signed"], row["magnitude"]) == pytest.approx((-1, 1))


def test_smoothing_figures_are_drawn(net, x, tmp_path, capsys):
    methods = [
        Method("0", explanations.gradient(net)),
        Method("0.5", explanations.smoothed(explanations.gradient(net), 0.5, 4), "0"),
    ]
    scores = infidelity_scores.score(
        net, x, TARGET, methods, infidelity_smoothing.laws(), sensitive=0
    )
    rows = infidelity_smoothing.rows(scores, methods)
    assert [row["radius"] for row in rows] == ["0", "0.5"]
    assert rows[0]["NB_change"] == 0
    change = scores.infidelity["NB"]["0.5"] - scores.infidelity["NB"]["0"]
    assert rows[1]["NB_change"] == pytest.approx(change.mean().item())
    infidelity_smoothing.draw_curves(scores, methods, tmp_path / "curves.png")
    infidelity_smoothing.draw_maps(x.numpy(), scores, methods, tmp_path / "maps.png")
    for name in ("curves", "maps"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_optima_are_best_under_their_own_law(net, x):
    basic = {"Grad": explanations.gradient(net), "GBP": explanations.guided_backprop(net)}
    optima = infidelity_tables.Optima(samples=4000, draws=2)
    local = infidelity_tables.local_methods(net, basic, optima)
    assert [method.name for method in local] == ["Grad", "GBP", "NB", "NB smoothed"]
    assert (local[3].smooth_of, local[3].points) == ("NB", 0)
    square = hessx.perturb.Square(sides=(1, 4))
    cases = {
        "NB": (infidelity_tables.local_laws()["NB"], [method.explain for method in local[:3]]),
        "Square": (
            square,
            [
                *map(explanations.multiplied, basic.values()),
                explanations.optimal(net, square, None),
            ],
        ),
    }
    for law, explain in cases.values():
        maps = {str(i): one(x, TARGET) for i, one in enumerate(explain)}
        found = infidelity_scores.infidelities(net, law, x, TARGET, maps)
        assert (found["2"] < found["0"]).all()
        assert (found["2"] < found["1"]).all()


def test_global_methods_are_in_the_papers_order(net):
    basic = infidelity_tables.explanations(net)
    methods = infidelity_tables.global_methods(net, basic, infidelity_tables.Optima(2000, 0))
    assert [method.name for method in methods][:2] == ["Grad", "Grad smoothed"]
    assert [method.name for method in methods][-2:] == ["Square", "SHAP"]
    assert methods[1].smooth_of == "Grad"
    # A black pixel is a dummy player.
    x = torch.zeros(1, 1, 28, 28)
    x[..., 10:14, 10:14] = 1
    shapley = methods[-1].explain(x, TARGET[:1])
    assert (shapley != 0).equal(x != 0)


def test_tables_of_squares_and_nets(tmp_path, capsys):
    maps = {"Grad": torch.ones(3, 8, 8), "Square": torch.zeros(3, 8, 8)}
    image = np.zeros((8, 8, 3), np.uint8)
    found = [
        infidelity_squares.Explained("a: cat 0.50", image, maps, {"Grad": 4.0, "Square": 1.0}, 4.0),
        infidelity_squares.Explained("b: dog 0.50", image, maps, {"Grad": 1.0, "Square": 2.0}, 8.0),
    ]
    first, second = infidelity_squares.table(found)
    assert (first["infidelity"], second["infidelity"]) == (2.5, 1.5)
    assert first["share"] == pytest.approx((1 + 1 / 8) / 2)
    assert (first["best"], second["best"]) == ("1 of 2", "1 of 2")
    assert [row["share"] for row in infidelity_squares.every(found)] == [1, 0.25, 0.125, 0.25]
    infidelity_squares.draw(found, tmp_path / "squares.png")
    assert (tmp_path / "squares.png").read_bytes().startswith(b"\x89PNG")

    def scored(scale):
        values = scale * torch.tensor([1.0, 3.0]).double()
        return infidelity_scores.Scores(
            {"Square": {"Grad": values}}, {"Square": 4 * values}, {"Grad": values}, {}
        )

    method = Method("Grad", lambda inputs, target: inputs)
    rows = infidelity_robust.compared({"plain": scored(1.0), "robust": scored(0.5)}, [method])
    assert [row["Square"] for row in rows] == [2, 1]
    assert [row["Square_share"] for row in rows] == [0.25, 0.25]
