"""The methods that LEG is compared with answer rightly where the answer is known."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import nn

from bench.baselines import BASELINES, Question
from bench.c_shapley import c_shapley, rectangles

ROWS, COLUMNS = 3, 3


def exact_shapley(value, p1: int, p2: int) -> torch.Tensor:
    """The definition: the mean over subsets of what a cell adds, by all 2^p values."""
    p = p1 * p2
    sets = torch.tensor(list(itertools.product([False, True], repeat=p)))
    values = value(sets.reshape(-1, p1, p2)).double()
    number = (sets * 2 ** torch.arange(p - 1, -1, -1)).sum(1)
    shapley = torch.zeros(p, dtype=torch.float64)
    for i in range(p):
        without = ~sets[:, i]
        gained = values[number[without] + 2 ** (p - 1 - i)] - values[number[without]]
        sizes = sets[without].sum(1).tolist()
        weight = [math.factorial(s) * math.factorial(p - s - 1) / math.factorial(p) for s in sizes]
        shapley[i] = (torch.tensor(weight, dtype=torch.float64) * gained).sum()
    return shapley.reshape(p1, p2)


def neighbourly(p1: int, p2: int):
    """A sum over rectangles of at most 2 x 2 cells of anything that needs all of their cells."""
    generator = torch.Generator().manual_seed(0)
    groups = torch.cat(
        [
            rectangles(p1, p2, rows, columns)
            for rows in range(1, min(p1, 2) + 1)
            for columns in range(1, min(p2, 2) + 1)
        ]
    ).flatten(1)
    weight = torch.randn(len(groups), generator=generator, dtype=torch.float64)

    def value(sets):
        inside = ~(groups[None] & ~sets.flatten(1)[:, None]).any(2)
        return 3 + inside.double() @ weight

    return value


def test_c_shapley_is_exact_where_neighbours_interact():
    value = neighbourly(ROWS, COLUMNS)
    found = c_shapley(value, ROWS, COLUMNS)
    # Sums of some hundred terms of float64.
    torch.testing.assert_close(found, exact_shapley(value, ROWS, COLUMNS), rtol=0, atol=1e-12)


def test_c_shapley_differs_where_distant_cells_interact():
    value = lambda sets: (sets[:, 0, 0] & sets[:, 2, 2]).double()  # noqa: E731
    assert exact_shapley(value, ROWS, COLUMNS)[0, 0] == pytest.approx(0.5)
    assert c_shapley(value, ROWS, COLUMNS).abs().max() == 0


@pytest.mark.parametrize(("p1", "p2"), [(1, 1), (1, 4), (3, 1), (2, 2)])
def test_c_shapley_on_narrow_grids(p1, p2):
    value = neighbourly(p1, p2)
    torch.testing.assert_close(c_shapley(value, p1, p2), exact_shapley(value, p1, p2))


def test_c_shapley_asks_four_times_a_cell():
    asked = []

    def value(sets):
        asked.append(len(sets))
        return sets.sum((1, 2)).double()

    found = c_shapley(value, 28, 28)
    assert sum(asked) == 1 + (28 + 27) ** 2
    torch.testing.assert_close(found, torch.ones(28, 28, dtype=torch.float64))


@pytest.fixture
def question():
    """A net whose second logit is the brightness of the top left quarter."""
    pytest.importorskip("captum")
    pytest.importorskip("skimage")
    maps = nn.Conv2d(3, 2, 1)
    head = nn.Linear(2 * 1024, 2)
    net = nn.Sequential(maps, nn.ReLU(), nn.Flatten(), head).eval()
    with torch.no_grad():
        maps.weight.copy_(torch.eye(2, 1)[:, :, None, None].expand(2, 3, 1, 1) / 3)
        maps.bias.zero_()
        quarter = torch.zeros(2, 32, 32)
        quarter[0, :16, :16] = 1 / 64
        head.weight.copy_(torch.stack([0 * quarter.flatten(), quarter.flatten()]))
        head.bias.zero_()
    x = torch.full((1, 3, 32, 32), 0.2)
    x[:, :, :16, :16] = 0.9
    x[:, :, 16:, :] = torch.tensor([0.8, 0.0, 0.0])[:, None, None]
    return Question(net, x, 1, 0.0, 1.0, maps, grid=(4, 4), n_samples=300)


@pytest.mark.parametrize("name", BASELINES)
def test_methods_find_the_quarter_that_counts(question, name):
    torch.manual_seed(1)
    state = torch.get_rng_state()
    found = BASELINES[name](question)
    assert torch.equal(torch.get_rng_state(), state)
    assert found.shape in ((1, 3, 32, 32), (1, 1, 32, 32))
    assert not found.requires_grad
    map_ = found.sum(1)[0].double()
    quarter = torch.zeros(32, 32, dtype=torch.bool)
    quarter[:16, :16] = True
    # Grad-CAM also shows what is elsewhere of the same map, .3 of .9; KernelSHAP is drawn.
    assert map_[quarter].mean() > 2.5 * map_[~quarter].abs().max()
    again = BASELINES[name](question)
    torch.testing.assert_close(again, found)
