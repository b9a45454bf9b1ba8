"""Pictures of least total variation on every CPU backend: optimality, bounds, ties, arguments."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import hessx
from hessx.ops import tv_flow
from tests.references.tv_flow import (
    KINDS,
    circulation,
    difference_matrix,
    differences,
    dual_value,
    exactly_within,
    objective,
    picture,
    sparse_program,
)

SHAPES = [(1, 1), (1, 2), (2, 1), (1, 7), (6, 1), (2, 2), (2, 5), (3, 2), (7, 4)]
SHARES = (1.0, 0.5, 0.25, 0.1, 0.05, 0.01, 1e-6)


def pictures(n, p1, p2):
    return torch.randn(n, p1, p2, dtype=torch.float64)


def largest_difference(estimate):
    """|D estimate|_inf of each picture, (N, 1); 0 where there is no edge."""
    d = differences(estimate).abs()
    return d.amax(1, keepdim=True) if d.shape[1] else d.new_zeros(len(d), 1)


def assert_certified(estimate, radius, solution, potential):
    """Feasible, mean 0, and as small as the dual value says."""
    largest = largest_difference(estimate)
    distance = differences(solution - estimate[:, None]).abs()
    # Rounding of the differences taken here.
    assert (distance <= radius[..., None] + 1e-14 * largest[..., None]).all()
    assert (solution.mean((-1, -2)).abs() <= 1e-12 * largest).all()
    value, bound = objective(solution), dual_value(estimate, radius, potential)
    # The fixed point costs a unit or two of 2^-45 |D estimate|_inf an edge; near the largest
    # radius, where next to nothing is left, that is more than 1e-9 of it.
    assert (value - bound <= 1e-9 * value + 1e-12 * largest).all()
    # Never below, but for the rounding of both sums.
    assert (value - bound >= -1e-12 * (value + largest)).all()


def random_grid(number):
    """A picture of one of all kinds and its radii."""
    generator = torch.Generator().manual_seed(number)
    p1, p2 = torch.randint(2, 29, (2,), generator=generator).tolist()
    estimate = picture(KINDS[number % len(KINDS)], p1, p2, generator)[None]
    return estimate, largest_difference(estimate) * torch.tensor(SHARES, dtype=torch.float64)


def prove(numbers):
    for number in numbers:
        estimate, radius = random_grid(number)
        largest = largest_difference(estimate)
        solution, potential, _ = tv_flow(estimate, radius)
        value, bound = objective(solution), dual_value(estimate, radius, potential)
        assert ((value - bound).abs() <= 1e-9 * value + 1e-13 * largest).all()
        flow = circulation(potential)
        divergence = difference_matrix(*estimate.shape[1:]).T @ flow[0].T.numpy()
        assert (divergence == 0).all()
        # The largest radius gives 0, which keeps the bound to the rounding of |D estimate|_inf.
        assert (solution[:, 0] == 0).all()
        for k in range(1, len(SHARES)):
            assert exactly_within(solution[0, k], estimate[0], radius[0, k].item())
        k = 1 + number % (len(SHARES) - 1)
        _, expected = sparse_program(estimate[0].numpy(), radius[0, k].item())
        assert abs(value[0, k].item() - expected) <= 1e-8 * expected


def test_random_grids_are_solved_exactly():
    prove(range(50))


@pytest.mark.slow
def test_hundreds_of_random_grids_are_solved_exactly():
    prove(range(50, 500))


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes(cpu_backend, shape):
    estimate = pictures(3, *shape)
    radius = torch.tensor([0.0, 0.1, 2.0, 0.5, 100.0], dtype=torch.float64).expand(3, -1)
    solution, potential, pivots = tv_flow(estimate, radius)
    assert solution.shape == (3, 5, *shape)
    assert potential.shape == (3, 5, shape[0] - 1, shape[1] - 1)
    assert pivots.shape == (3, 5)
    assert [x.dtype for x in (solution, potential, pivots)] == [
        torch.float64,
        torch.int32,
        torch.int64,
    ]
    assert (solution[:, 4] == 0).all()
    assert (potential[:, 4] == 0).all()
    expected = estimate - estimate.mean((1, 2), keepdim=True)
    torch.testing.assert_close(solution[:, 0], expected, rtol=0, atol=1e-15)
    assert_certified(estimate, radius, solution, potential)


@pytest.mark.parametrize("shape", [(1, 30), (30, 1)])
def test_without_faces_each_difference_is_clipped(cpu_backend, shape):
    estimate = pictures(2, *shape)
    solution, _, pivots = tv_flow(estimate, 0.7)
    c = differences(estimate)
    expected = c.sign() * (c.abs() - 0.7).clamp(min=0)
    # Two units of the fixed point.
    torch.testing.assert_close(differences(solution[:, 0]), expected, rtol=0, atol=1e-12)
    assert (pivots == 0).all()


def test_a_square_by_hand(cpu_backend):
    """One pixel of 1: its two differences give way to the radius, the other two stay at 0."""
    estimate = torch.tensor([[[1.0, 0.0], [0.0, 0.0]]], dtype=torch.float64)
    solution, _, _ = tv_flow(estimate, 0.25)
    expected = torch.tensor([[-0.75, 0.0, -0.75, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(differences(solution[:, 0]), expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("kind", KINDS)
def test_certified(cpu_backend, kind):
    generator = torch.Generator().manual_seed(3)
    estimate = torch.stack([picture(kind, 9, 12, generator) for _ in range(3)])
    radius = largest_difference(estimate) * torch.tensor([0.999, 0.3, 0.02, 0.6]).double()
    solution, potential, _ = tv_flow(estimate, radius)
    assert_certified(estimate, radius, solution, potential)


def test_reference_agrees(native_level):
    estimate = pictures(4, 13, 8)
    radius = largest_difference(estimate) * torch.tensor([0.6, 0.2, 0.05]).double()
    with hessx.backend("reference"):
        by_highs, _, _ = tv_flow(estimate, radius)
    value = objective(tv_flow(estimate, radius)[0])
    torch.testing.assert_close(value, objective(by_highs), rtol=1e-10, atol=0)


@pytest.mark.parametrize("value", [0.0, 3.5, -1e300])
def test_constant_estimates_give_zero(cpu_backend, value):
    solution, potential, _ = tv_flow(torch.full((1, 4, 5), value, dtype=torch.float64), [0.0, 1.0])
    assert (solution == 0).all()
    assert (potential == 0).all()


@pytest.mark.parametrize("exponent", [-1000, -300, 300, 1015])
def test_powers_of_two_change_no_bit(native_level, exponent):
    estimate, scale = pictures(2, 6, 7), 2.0**exponent
    solution, potential, _ = tv_flow(estimate, [0.1, 1.0])
    scaled, same_potential, _ = tv_flow(estimate * scale, [0.1 * scale, scale])
    assert torch.equal(scaled, solution * scale)
    assert torch.equal(same_potential, potential)


def test_denormal_and_huge_numbers(cpu_backend):
    plain = torch.tensor([[[0.0, 1.0, 5.0], [2.0, 3.0, 4.0]]], dtype=torch.float64)
    expected = objective(tv_flow(plain, 1.0)[0])
    for scale in (1e-310, 1e-300, 1e300, 3e307):
        solution, _, _ = tv_flow(plain * scale, scale)
        torch.testing.assert_close(objective(solution / scale), expected, rtol=1e-10, atol=0)


def test_a_large_mean_is_no_part_of_the_problem(native_level):
    """1e9 leaves 1e-7 of the differences; they are solved as they are."""
    estimate = pictures(1, 8, 8) + 1e9
    radius = torch.tensor([[0.3]], dtype=torch.float64)
    solution, potential, _ = tv_flow(estimate, radius)
    value = objective(solution)
    torch.testing.assert_close(dual_value(estimate, radius, potential), value, rtol=1e-9, atol=0)
    assert exactly_within(solution[0, 0], estimate[0], 0.3)


@pytest.mark.parametrize("units", [0.0, 0.5, 1.0, 2.0, 2.9, 3.0, 3.1, 4.0])
def test_radii_at_the_edge_of_the_fixed_point(native_level, units):
    """|D estimate|_inf is 1 here, and a unit 2^(exponent of 1 + bits of 6 + 6 - 51)."""
    estimate = torch.randint(0, 2, (1, 6, 6)).double()
    estimate[0, 0, :2] = torch.tensor([0.0, 1.0])
    radius = torch.tensor([[units * 2.0**-46]]).double()
    solution, potential, _ = tv_flow(estimate, radius)
    value = objective(solution)
    torch.testing.assert_close(value, objective(estimate[:, None]), rtol=1e-11, atol=0)
    assert_certified(estimate, radius, solution, potential)


def test_several_radii_equal_single_ones(native_level):
    """To the bit, in any order and with repetitions, ties included."""
    generator = torch.Generator().manual_seed(5)
    for kind in KINDS:
        estimate = torch.stack([picture(kind, 11, 9, generator) for _ in range(2)])
        radius = largest_difference(estimate) * torch.tensor(
            [0.3, 0.9, 0.0, 0.05, 0.3, 1.0, 0.01, 0.5, 0.45]
        )
        solution, potential, _ = tv_flow(estimate, radius)
        for k in range(radius.shape[1]):
            single, single_potential, _ = tv_flow(estimate, radius[:, k : k + 1])
            assert torch.equal(solution[:, k], single[:, 0])
            assert torch.equal(potential[:, k], single_potential[:, 0])


def test_paths_equal_single_radii_on_hundreds_of_pictures(native_level):
    """Also where the mean is half a unit: the way to a solution must not decide its rounding."""
    generator = torch.Generator().manual_seed(8)
    tied = torch.randint(-3, 4, (400, 8, 8), generator=generator).double()
    smooth = torch.randn(100, 8, 8, generator=generator, dtype=torch.float64).cumsum(1)
    estimate = torch.cat([tied, smooth])
    radius = largest_difference(estimate) * torch.tensor([0.6, 0.5, 0.4, 0.3, 0.2]).double()
    solution, potential, _ = tv_flow(estimate, radius)
    for k in range(radius.shape[1]):
        single, single_potential, _ = tv_flow(estimate, radius[:, k : k + 1])
        assert torch.equal(solution[:, k], single[:, 0])
        assert torch.equal(potential[:, k], single_potential[:, 0])


def test_walks_and_solutions_from_scratch_meet():
    """Short and long steps at a size where both are taken, and walks that start late."""
    estimate = pictures(1, 40, 36).cumsum(1)
    radii = [0.9 * 0.8**k for k in range(12)] + [0.012, 0.0119]
    radius = largest_difference(estimate) * torch.tensor(radii, dtype=torch.float64)
    solution, potential, pivots = tv_flow(estimate, radius)
    # What is near takes a few pivots, what is far takes as many as from scratch.
    singles = [tv_flow(estimate, radius[:, k : k + 1]) for k in range(len(radii))]
    assert pivots[0, -1] < 0.1 * singles[-1][2].item()
    assert pivots[0, -2] == singles[-2][2].item()
    for k, (single, single_potential, _) in enumerate(singles):
        assert torch.equal(solution[:, k], single[:, 0])
        assert torch.equal(potential[:, k], single_potential[:, 0])


def test_threads_company_and_levels_do_not_change_a_bit(native_level):
    estimate = pictures(20, 10, 13)
    radius = torch.rand(20, 3, dtype=torch.float64)
    torch.set_num_threads(1)
    alone = tv_flow(estimate, radius)
    torch.set_num_threads(2)
    for both, one in zip(tv_flow(estimate, radius), alone, strict=True):
        assert torch.equal(both, one)
    for batched, single in zip(alone, tv_flow(estimate[7:8], radius[7:8]), strict=True):
        assert torch.equal(batched[7:8], single)
    with hessx.backend("native", hessx.backends.levels()[0]):
        for other, one in zip(tv_flow(estimate, radius), alone, strict=True):
            assert torch.equal(other, one)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(data=st.data())
def test_any_small_picture(data):
    """Numbers that collide on purpose; HiGHS decides."""
    p1, p2 = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 6))
    number = st.one_of(st.integers(-3, 3), st.floats(-4, 4, width=16))
    estimate = torch.tensor(
        data.draw(st.lists(number, min_size=p1 * p2, max_size=p1 * p2)), dtype=torch.float64
    ).view(1, p1, p2)
    radius = torch.tensor(
        [data.draw(st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0, 1.5]), max_size=3))]
    ).double()
    solution, potential, _ = tv_flow(estimate, radius)
    assert_certified(estimate, radius, solution, potential)
    with hessx.backend("reference"):
        expected = objective(tv_flow(estimate, radius)[0])
    torch.testing.assert_close(objective(solution), expected, rtol=1e-9, atol=1e-10)


def test_one_radius_for_all_and_sequences(cpu_backend):
    estimate = pictures(3, 4, 5)
    one = tv_flow(estimate, 0.4)
    for radius in ([0.4], (0.4,), torch.full((3, 1), 0.4, dtype=torch.float64)):
        for a, b in zip(tv_flow(estimate, radius), one, strict=True):
            assert torch.equal(a, b)


def test_strided_arguments(cpu_backend):
    base = torch.randn(4, 12, 18, dtype=torch.float64)
    estimate, radius = base[::2, ::2, ::3].mT, torch.rand(3, 2, dtype=torch.float64).mT
    for a, b in zip(
        tv_flow(estimate, radius),
        tv_flow(estimate.contiguous(), radius.contiguous()),
        strict=True,
    ):
        assert torch.equal(a, b)
        assert a.is_contiguous()


def test_empty(cpu_backend):
    solution, potential, pivots = tv_flow(torch.empty(0, 4, 5).double(), [0.1, 0.2])
    assert (solution.shape, potential.shape, pivots.shape) == ((0, 2, 4, 5), (0, 2, 3, 4), (0, 2))
    assert tv_flow(pictures(2, 4, 5), [])[0].shape == (2, 0, 4, 5)


def test_arguments_stay_as_they_are(cpu_backend):
    estimate, radius = pictures(2, 5, 5), torch.rand(2, 3, dtype=torch.float64)
    before = estimate.clone(), radius.clone()
    tv_flow(estimate, radius)
    assert torch.equal(estimate, before[0])
    assert torch.equal(radius, before[1])


ONES = torch.ones(2, 3, 4, dtype=torch.float64)


@pytest.mark.parametrize(
    ("estimate", "radius", "error", "message"),
    [
        ([[1.0]], 1.0, TypeError, "estimate must be a tensor, got list"),
        (ONES.float(), 1.0, TypeError, "estimate must have dtype torch.float64, got torch.float32"),
        (ONES, torch.ones(2, 1), TypeError, "radius must have dtype torch.float64"),
        (ONES, "1", TypeError, "radius must be a tensor, a number or a sequence"),
        (ONES, True, TypeError, "radius must be a tensor, a number or a sequence"),
        (ONES, [0.1, None], TypeError, "radius must be a tensor, .* got NoneType"),
        (ONES[0], 1.0, ValueError, r"estimate must have shape \(N, p1, p2\)"),
        (ONES[:, :0], 1.0, ValueError, "p1, p2 >= 1"),
        (ONES[:1, :1, :1].expand(1, 2**9, 2**9), 1.0, ValueError, "at most 131072 pixels"),
        (ONES, torch.ones(2).double(), ValueError, r"radius must have shape \(N, M\)"),
        (ONES, torch.ones(3, 1).double(), ValueError, "with N = 2"),
        (
            ONES,
            torch.ones(2, 1, device="meta").double(),
            ValueError,
            "radius must be on the device",
        ),
        (ONES, -0.5, ValueError, "radius must be finite and >= 0, got -0.5"),
        (ONES, [0.1, math.nan], ValueError, "radius must be finite and >= 0, got nan"),
        (ONES, math.inf, ValueError, "radius must be finite and >= 0, got inf"),
        (ONES * math.nan, 1.0, ValueError, "estimate must be finite"),
        (ONES * math.inf, 1.0, ValueError, "estimate must be finite"),
    ],
)
def test_wrong_arguments(cpu_backend, estimate, radius, error, message):
    with pytest.raises(error, match=message):
        tv_flow(estimate, radius)
