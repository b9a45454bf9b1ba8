"""Accumulated moments: the same however they were added, merged, saved or resumed."""

from __future__ import annotations

import pytest
import torch

from hessx.moments import Moments

DIM = 12


def coordinates(first: int, count: int) -> torch.Tensor:
    """Draws fixed by their number."""
    numbers = torch.arange(first, first + count, dtype=torch.float64)[:, None]
    return torch.sin(numbers * (1 + torch.arange(DIM, dtype=torch.float64)) * 1.7)


def gradients(first: int, count: int, rows: int = 2) -> torch.Tensor:
    """Large constant part, small variation: what cancellation would destroy."""
    z = coordinates(first, count)
    slopes = torch.linspace(0.5, 2, rows, dtype=torch.float64)[:, None, None]
    return 100 + 0.01 * slopes * torch.cos(z * 3 + 0.2)


def accumulated(ranges, dtype=torch.float64) -> Moments:
    moments = Moments(lambda first, count: coordinates(first, count).to(dtype), DIM, keep=0)
    for first, count in ranges:
        moments.add(first, coordinates(first, count).to(dtype), gradients(first, count).to(dtype))
    return moments


def check_scatter(moments: Moments, n: int, rtol: float = 1e-9) -> None:
    z, g = coordinates(0, n), gradients(0, n)
    zc, gc = z - z.mean(0), g - g.mean(1, keepdim=True)
    found = moments.scatter()
    assert found.n == n
    for value, expected in [
        (found.mean_z, z.mean(0)),
        (found.mean_g, g.mean(1)),
        (found.zz, zc.mT @ zc),
        (found.zg, zc.mT @ gc),
        (found.gg, gc.mT @ gc),
    ]:
        atol = rtol * expected.abs().max().item()
        torch.testing.assert_close(value, expected, rtol=rtol, atol=atol)


def test_few_samples_are_kept():
    moments = accumulated([(0, 4), (4, 5)])
    assert moments.keeps_samples
    assert moments.n == 9
    z, g = moments.samples()
    torch.testing.assert_close(z, coordinates(0, 9))
    torch.testing.assert_close(g, gradients(0, 9))


def test_many_samples_become_sums():
    moments = accumulated([(0, 5), (5, 6), (11, 40)])
    assert not moments.keeps_samples
    check_scatter(moments, 51)


def test_samples_are_kept_a_little_longer():
    moments = Moments(coordinates, DIM, keep=30)
    moments.add(0, coordinates(0, 29), gradients(0, 29))
    assert moments.keeps_samples
    moments.add(29, coordinates(29, 1), gradients(29, 1))
    assert not moments.keeps_samples
    check_scatter(moments, 30)


def test_a_head_of_the_samples_stays():
    moments = Moments(coordinates, DIM, keep=20)
    for first in range(0, 1500, 100):
        moments.add(first, coordinates(first, 100), gradients(first, 100))
    torch.testing.assert_close(moments.scatter().head_z, coordinates(0, 1024))
    torch.testing.assert_close(moments.scatter().head_g, gradients(0, 1024))


def test_float32_sums_lose_nothing_to_the_constant_part():
    moments = accumulated([(0, 40)], torch.float32)
    # Gradients of size 100 are known to 4e-6, their variation is 0.01: 4e-4 of it; squares
    # of gradients in float32 would be off by 6e-4 each, six times the sums themselves.
    check_scatter(moments, 40, rtol=2e-3)


@pytest.mark.parametrize("split", [3, 8, 20])
@pytest.mark.parametrize("order", ["forward", "backward"])
def test_merged_equals_whole(split, order):
    first, second = accumulated([(0, split)]), accumulated([(split, 30 - split)])
    if order == "backward":
        first, second = second, first
    first.merge(second)
    check_scatter(first, 30)


def test_kept_samples_merge():
    moments = accumulated([(0, 3)])
    moments.merge(accumulated([(3, 4)]))
    torch.testing.assert_close(moments.samples()[1], gradients(0, 7))


@pytest.mark.parametrize("n", [6, 25])
def test_saved_and_resumed(n, tmp_path):
    torch.save(accumulated([(0, n)]).state_dict(), tmp_path / "state.pt")
    resumed = Moments(coordinates, DIM, keep=0)
    resumed.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    resumed.add(n, coordinates(n, 20), gradients(n, 20))
    check_scatter(resumed, n + 20)


def test_saving_does_not_share_memory():
    moments = accumulated([(0, 20)])
    state = moments.state_dict()
    moments.add(20, coordinates(20, 5), gradients(20, 5))
    resumed = Moments(coordinates, DIM, keep=0)
    resumed.load_state_dict(state)
    check_scatter(resumed, 20)


@pytest.mark.parametrize("n", [6, 25])
def test_selected_rows(n):
    moments = accumulated([(0, n)])
    moments.select(torch.tensor([1]))
    moments.add(n, coordinates(n, 10), gradients(n, 10)[1:])
    z, g = coordinates(0, n + 10), gradients(0, n + 10)[1]
    expected = (z - z.mean(0)).mT @ (g - g.mean(0))
    torch.testing.assert_close(moments.scatter().zg[0], expected)


def test_draws_count_once():
    moments = accumulated([(0, 5)])
    with pytest.raises(ValueError, match="draws 4 to 4 were added before"):
        moments.add(4, coordinates(4, 2), gradients(4, 2))
    with pytest.raises(ValueError, match="draws 2 to 4 were added before"):
        moments.merge(accumulated([(2, 10)]))
    assert moments.n == 5


@pytest.mark.parametrize("n", [5, 30])
def test_merging_with_empty_moments(n):
    empty = Moments(coordinates, DIM, keep=0)
    empty.merge(accumulated([(0, n)]))
    empty.merge(Moments(coordinates, DIM, keep=0))
    empty.add(n, coordinates(n, 20), gradients(n, 20))
    empty.add(n + 20, coordinates(n + 20, 0), gradients(n + 20, 0))
    check_scatter(empty, n + 20)


@pytest.mark.parametrize("n", [5, 30])
def test_a_refused_merge_changes_nothing(n):
    moments, kept = accumulated([(0, 5)]), accumulated([(2, n)])
    with pytest.raises(ValueError, match="were added before"):
        moments.merge(kept)
    assert moments.keeps_samples
    other = Moments(coordinates, DIM, keep=0)
    other.add(5, coordinates(5, n), gradients(5, n, rows=3))
    with pytest.raises(ValueError, match="have 2 rows, got 3"):
        moments.merge(other)
    torch.testing.assert_close(moments.samples()[1], gradients(0, 5))


def test_misuse_is_refused():
    moments = Moments(coordinates, DIM, keep=0)
    with pytest.raises(ValueError, match="no samples were added"):
        moments.samples()
    with pytest.raises(ValueError, match=r"z must be \(count, 12\)"):
        moments.add(0, torch.zeros(3, 5), torch.zeros(1, 3, 5))
    moments.add(0, coordinates(0, 3), gradients(0, 3))
    with pytest.raises(ValueError, match="the samples themselves are kept"):
        moments.scatter()
    with pytest.raises(ValueError, match="cannot merge moments in 12 and 3 dimensions"):
        moments.merge(Moments(coordinates, 3))
    with pytest.raises(ValueError, match="state has 3 dimensions"):
        moments.load_state_dict(Moments(coordinates, 3).state_dict())
