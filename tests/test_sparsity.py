"""How lambda1 is chosen: order statistics, brackets, the paper's search."""

from __future__ import annotations

import pytest
import torch

from hessx.solve.sparse import FirstOrder
from hessx.solve.sparsity import (
    Support,
    paper_search,
    pixel_magnitudes,
    smallest_admissible,
    smallest_for_point,
)


def first_order(d: int = 90, n_channels: int = 3) -> FirstOrder:
    gradient = torch.randn(4, d, dtype=torch.float64)
    return FirstOrder(gradient, torch.full((4, 1), 10.0, dtype=torch.float64), n_channels)


@pytest.mark.parametrize(
    ("low", "high", "n_pixels", "fewest", "most"),
    [(0.75, 1.0, 100, 1, 25), (0.75, 1.0, 3, 1, 1), (0.5, 0.9, 10, 2, 5), (0.0, 1.0, 7, 1, 7)],
)
def test_supports_of_a_sparsity(low, high, n_pixels, fewest, most):
    support = Support.of_sparsity(low, high, n_pixels)
    assert (support.fewest, support.most) == (fewest, most)
    if most * (1 - low) >= 1:
        assert low <= 1 - most / n_pixels
    assert 1 - fewest / n_pixels < high


def test_a_pixel_is_as_large_as_its_largest_channel():
    x = torch.tensor([[1.0, -2.0, 0.0, -3.0, 1.0, 0.5]])
    assert pixel_magnitudes(x, 2).tolist() == [[3.0, 2.0, 0.5]]


def test_the_order_statistic_is_the_smallest_that_will_do():
    solver = first_order()
    magnitudes = pixel_magnitudes(solver.gradient, 3)
    lambda1 = smallest_for_point(magnitudes, Support(1, 8))
    assert torch.all(solver.pixels(lambda1[:, None]) == 8)
    assert torch.all(solver.pixels(lambda1[:, None] * (1 - 1e-9)) == 9)
    assert torch.all(smallest_for_point(magnitudes, Support(1, 30)) == 0)


def test_ties_leave_too_many_or_none():
    magnitudes = torch.tensor([[2.0, 2.0, 2.0, 1.0]])
    assert smallest_for_point(magnitudes, Support(1, 2)) == 1
    assert smallest_for_point(magnitudes, Support(0, 2)) == 2


def test_the_bracket_finds_what_the_order_statistic_knows():
    solver = first_order()
    magnitudes = pixel_magnitudes(solver.gradient, 3)
    exact = smallest_for_point(magnitudes, Support(1, 8))
    # From a poor guess.
    found = smallest_admissible(solver.pixels, exact * 0.2, magnitudes.amax(-1), Support(1, 8))
    assert torch.all((found >= exact) & (found <= exact * (1 + 2e-3)))


def test_the_bracket_of_a_row_does_not_depend_on_the_others():
    solver = first_order()
    magnitudes = pixel_magnitudes(solver.gradient, 3)
    guess, largest = magnitudes.median(-1).values, magnitudes.amax(-1)
    together = smallest_admissible(solver.pixels, guess, largest, Support(1, 3))
    for row in range(4):
        part = slice(row, row + 1)
        alone = FirstOrder(solver.gradient[part], torch.ones(1, 1, dtype=torch.float64), 3)
        single = smallest_admissible(alone.pixels, guess[part], largest[part], Support(1, 3))
        assert single[0] == together[row]


def test_zero_will_do_where_enough_pixels_are_zero_already():
    gradient = torch.tensor([[0.0, 0.0, 0.0, 2.0]], dtype=torch.float64)
    solver = FirstOrder(gradient, torch.ones(1, 1, dtype=torch.float64), 1)
    two = torch.tensor([2.0], dtype=torch.float64)
    assert smallest_admissible(solver.pixels, two / 2, two, Support(1, 1)) == 0


def test_equal_pixels_give_too_many_rather_than_none():
    gradient = torch.ones(1, 8, dtype=torch.float64)
    solver = FirstOrder(gradient, torch.ones(1, 1, dtype=torch.float64), 1)
    one = torch.ones(1, dtype=torch.float64)
    found = smallest_admissible(solver.pixels, one, one, Support(1, 2))
    assert solver.pixels(found[:, None]).item() == 8


def evaluate(solver: FirstOrder):
    def call(lambda1):
        pixels, objective = solver.evaluate(lambda1)
        return 1 - pixels / (solver.gradient.shape[1] // solver.n_channels), objective

    return call


def test_the_papers_search_takes_the_best_of_its_trials():
    solver = first_order()
    scale = torch.tensor([1.0, 1e-2, 1e2, 3.0], dtype=torch.float64)
    solver.gradient *= scale[:, None]
    largest = solver.gradient.abs().amax(1, keepdim=True)
    found = paper_search(evaluate(solver), (0.75, 1.0), largest)
    ratio, _ = evaluate(solver)(found)
    assert torch.all((ratio >= 0.75) & (ratio < 1))
    for row in range(4):
        trials, first_zero = [], 1e-5
        while evaluate(solver)(torch.full((4, 1), first_zero))[0][row] < 1:
            trials.append(first_zero)
            first_zero *= 10
        good = [t for t in trials if evaluate(solver)(torch.full((4, 1), t))[0][row] >= 0.75]
        if good:
            assert found[row].item() == pytest.approx(good[0])
        else:
            # Half of the first zero, again and again, until it is dense enough not to be zero.
            halved = first_zero / 2
            while evaluate(solver)(torch.full((4, 1), halved))[0][row] == 1:
                halved /= 2
            if evaluate(solver)(torch.full((4, 1), halved))[0][row] >= 0.75:
                assert found[row].item() == pytest.approx(halved)
            else:
                assert halved < found[row].item() < 2 * halved


def test_the_papers_search_of_gradients_that_are_tiny_or_zero():
    solver = first_order()
    solver.gradient *= torch.tensor([1e-30, 0.0, 1.0, 1e-9], dtype=torch.float64)[:, None]
    largest = solver.gradient.abs().amax(1, keepdim=True)
    found = paper_search(evaluate(solver), (0.75, 1.0), largest)
    ratio, _ = evaluate(solver)(found)
    assert found[1] == 0
    assert torch.all((ratio[[0, 2, 3]] >= 0.75) & (ratio[[0, 2, 3]] < 1))


def test_the_papers_search_says_when_it_fails():
    solver = FirstOrder(
        torch.ones(1, 8, dtype=torch.float64), torch.ones(1, 1, dtype=torch.float64), 1
    )
    with pytest.raises(ValueError, match="input row 0"):
        paper_search(evaluate(solver), (0.75, 1.0), torch.ones(1, 1, dtype=torch.float64))
