"""Trust-region problems on every CPU backend: optimality, hard cases, gradients, arguments."""

from __future__ import annotations

import math

import pytest
import scipy.optimize
import torch

import hessx
from hessx.ops import trust_region
from tests.references.trust_region import (
    assert_as_reference,
    assert_optimal,
    objective,
    problems,
)

DTYPES = (torch.float32, torch.float64)
PROBLEMS = {dtype: problems(dtype) for dtype in DTYPES}
KINDS = tuple(PROBLEMS[torch.float32])
# Around the vector widths (2, 4, 8, 16 numbers) and twice the widest.
SIZES = (1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 65)


def random_problems(batch, k, dtype=torch.float64):
    e, g = torch.randn(batch, k, dtype=dtype), torch.randn(batch, k, dtype=dtype)
    return e, g, torch.rand(batch, dtype=dtype) + 0.1


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
def test_solutions_are_optimal(cpu_backend, kind, dtype):
    arguments = PROBLEMS[dtype][kind]
    solution = trust_region(*arguments)
    assert_optimal(*arguments, solution)
    assert_as_reference(*arguments, solution)


@pytest.mark.parametrize(
    ("dtype", "tiny", "huge"), [(torch.float32, 1e-39, 1e38), (torch.float64, 1e-310, 1e308)]
)
def test_all_zero_beside_extremes(native_level, dtype, tiny, huge):
    """Zero times the power of two that the other argument asks for is still zero."""
    step, multiplier = trust_region(
        torch.tensor([[0.0, 0.0], [-tiny, tiny]], dtype=dtype),
        torch.tensor([[tiny, 0.0], [0.0, 0.0]], dtype=dtype),
        torch.tensor([huge, tiny], dtype=dtype),
    )
    expected = torch.tensor([[-huge, 0.0], [tiny, 0.0]], dtype=dtype)
    torch.testing.assert_close(step, expected, rtol=1e-6, atol=0)
    torch.testing.assert_close(multiplier[1:], torch.tensor([tiny], dtype=dtype), rtol=1e-6, atol=0)
    assert 0 <= multiplier[0] <= tiny / huge * 2


@pytest.mark.parametrize("dtype", DTYPES)
def test_sizes(cpu_backend, dtype):
    for k in SIZES:
        arguments = random_problems(5, k, dtype)
        solution = trust_region(*arguments)
        assert_optimal(*arguments, solution)
        assert_as_reference(*arguments, solution)


@pytest.mark.parametrize("kind", ["random", "convex", "interior", "many coordinates"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_well_conditioned_steps_are_exact(cpu_backend, kind, dtype):
    """Far from the hard case the step itself is determined to rounding, not only its quality."""
    e, g, radius = PROBLEMS[dtype][kind]
    step, _ = trust_region(e, g, radius)
    with hessx.backend("reference"):
        exact, _ = trust_region(e.double(), g.double(), radius.double())
    error = (step - exact).norm(dim=1) / exact.norm(dim=1)
    assert error.max() < 16 * torch.finfo(dtype).eps


def test_no_feasible_point_is_better(cpu_backend):
    for name, (e, g, radius) in PROBLEMS[torch.float64].items():
        step, _ = trust_region(e, g, radius)
        direction = torch.randn(60, *step.shape, dtype=step.dtype)
        direction /= direction.norm(dim=2, keepdim=True)
        length = torch.rand(60, len(radius), 1, dtype=step.dtype) ** (1 / step.shape[1])
        scale = (g.norm(dim=1) + radius * e.abs().amax(1)) * radius
        for points in (direction, length * direction, step / radius[:, None] + 0.01 * direction):
            inside = points / points.norm(dim=2, keepdim=True).clamp(min=1)
            others = objective(e, g, inside * radius[:, None])
            assert (objective(e, g, step) <= others + 1e-14 * scale).all(), name


def polar_objective(eigenvalues, gradient, radius):
    """The objective as a function of one or two angles and the share of the radius."""
    terms = list(zip(eigenvalues.tolist(), gradient.tolist(), strict=True))

    def at(polar):
        *angles, share = polar
        length = share * radius
        ring = length if len(terms) == 2 else length * math.sin(angles[1])
        t = [ring * math.cos(angles[0]), ring * math.sin(angles[0])]
        if len(terms) == 3:
            t.append(length * math.cos(angles[1]))
        return sum(g * x + e * x * x / 2 for (e, g), x in zip(terms, t, strict=True))

    return at


@pytest.mark.parametrize("k", [2, 3])
def test_brute_force(cpu_backend, k):
    e, g, radius = random_problems(3, k)
    best = objective(e, g, trust_region(e, g, radius)[0])
    bounds = [*[(0, 2 * math.pi), (0, math.pi)][: k - 1], (0, 1)]
    for row in range(3):
        of_polar = polar_objective(e[row], g[row], radius[row].item())
        # The best grid point is polished without leaving the ball.
        grid = scipy.optimize.brute(of_polar, bounds, Ns=12, finish=None)
        polished = scipy.optimize.minimize(of_polar, grid, bounds=bounds, tol=1e-14).fun
        assert best[row].item() == pytest.approx(polished, rel=1e-6)


def test_many_coordinates_lose_no_digits(cpu_backend):
    """200,000 equal float32 terms: a plain sum would be off by 1e-4."""
    e, g = torch.full((1, 200_000), 0.5), torch.full((1, 200_000), 0.3)
    arguments = (e, g, torch.tensor([1.7]))
    assert_optimal(*arguments, trust_region(*arguments))


def test_interior_solution_is_the_newton_step(cpu_backend):
    e, g, radius = PROBLEMS[torch.float32]["interior"]
    step, multiplier = trust_region(e, g, radius)
    assert torch.equal(step, -g / e)
    assert (multiplier == 0).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_hard_case_takes_the_first_lowest_coordinate(cpu_backend, dtype):
    e = torch.tensor([[1.0, -2.0, 0.0, -2.0]], dtype=dtype)
    g = torch.tensor([[3.0, 0.0, -4.0, 0.0]], dtype=dtype)
    radius = torch.tensor([3.0], dtype=dtype)
    step, multiplier = trust_region(e, g, radius)
    # t = -g / (e + 2) elsewhere: -1 and 2; the rest of 9 is 4.
    expected = torch.tensor([[-1.0, 2.0, 2.0, 0.0]], dtype=dtype)
    torch.testing.assert_close(step, expected, rtol=4 * torch.finfo(dtype).eps, atol=0)
    assert multiplier.item() == 2
    # A gradient below any rounding decides the sign.
    for sign in (-1, 1):
        g[0, 1] = sign * torch.finfo(dtype).smallest_normal
        step, multiplier = trust_region(e, g, radius)
        assert step[0, 1].sign() == -sign
        torch.testing.assert_close(step.abs(), expected.abs(), rtol=1e-6, atol=1e-30)


@pytest.mark.parametrize("exponent", [-3, -6, -9, -12, -20, -30])
def test_nearly_hard_keeps_full_precision(cpu_backend, exponent):
    """The lowest component is what the others leave, though lambda + e_min is lost in lambda."""
    e, g = torch.tensor([[-1.0, 1.0]]), torch.tensor([[10.0**exponent, 2.0]])
    step, multiplier = trust_region(e, g, 2.0)
    shift = 10.0**exponent / 3**0.5
    expected = torch.tensor([[-(3**0.5), -1.0]], dtype=torch.float64)
    # To first order, the other component is 2 / (2 + shift), and the lowest one makes up for it.
    expected += shift * torch.tensor([[-0.5 / 3**0.5, 0.5]], dtype=torch.float64)
    tolerance = 4e-7 + shift**2
    torch.testing.assert_close(step.double(), expected, rtol=tolerance, atol=0)
    assert multiplier.item() == pytest.approx(1 + shift, rel=1e-6 + shift**2)


@pytest.mark.parametrize("dtype", DTYPES)
def test_nothing_to_gain(cpu_backend, dtype):
    zero = torch.zeros(3, 5, dtype=dtype)
    for e in (zero, zero + 2, torch.arange(5, dtype=dtype).expand(3, 5)):
        step, multiplier = trust_region(e, zero, 1.5)
        assert (step == 0).all()
        assert (multiplier == 0).all()
    step, multiplier = trust_region(torch.arange(5, dtype=dtype).expand(3, 5), zero + 1, 99)
    assert (step.norm(dim=1) > 98).all()
    assert (multiplier > 0).all()
    step, multiplier = trust_region(zero - 3, zero, 1.5)
    assert torch.equal(step, torch.tensor([1.5, 0, 0, 0, 0], dtype=dtype).expand(3, 5))
    assert (multiplier == 3).all()


def test_radius_zero(cpu_backend):
    e, g = torch.tensor([[1.0, -2.0], [1.0, 2.0]]), torch.ones(2, 2)
    step, multiplier = trust_region(e, g, 0)
    assert (step == 0).all()
    assert multiplier.tolist() == [2, 0]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("argument", [0, 1, 2])
def test_what_is_not_finite_stays_in_its_row(cpu_backend, argument, bad):
    arguments = random_problems(5, 37)
    # Also where the step would be inside: g / inf = 0.
    arguments[0][1] = 40
    expected = trust_region(*arguments)
    arguments[argument].view(5, -1)[[1, 3], -1] = bad
    for result, clean in zip(trust_region(*arguments), expected, strict=True):
        assert result[[1, 3]].isnan().all()
        assert torch.equal(result[[0, 2, 4]], clean[[0, 2, 4]])


def test_negative_radius_in_a_tensor_is_nan(cpu_backend):
    e, g, radius = random_problems(3, 4)
    radius[1] = -1
    step, multiplier = trust_region(e, g, radius)
    assert step.isnan().all(1).tolist() == multiplier.isnan().tolist() == [False, True, False]


@pytest.mark.parametrize("dtype", DTYPES)
def test_powers_of_two_change_no_bit(native_level, dtype):
    e, g, radius = random_problems(50, 19, dtype)
    step, multiplier = trust_region(e, g, radius)
    for of_force, of_length in [(90, 0), (-60, 60), (0, -100), (60, 60)]:
        bend = 2.0 ** (of_force - of_length)
        scaled = trust_region(e * bend, g * 2.0**of_force, radius * 2.0**of_length)
        assert torch.equal(scaled[0], step * 2.0**of_length)
        assert torch.equal(scaled[1], multiplier * bend)


def test_order_of_coordinates_does_not_matter(cpu_backend):
    e, g, radius = random_problems(20, 40)
    order = torch.randperm(40)
    step, multiplier = trust_region(e, g, radius)
    shuffled = trust_region(e[:, order], g[:, order], radius)
    torch.testing.assert_close(shuffled[0], step[:, order], rtol=1e-13, atol=1e-14)
    torch.testing.assert_close(shuffled[1], multiplier, rtol=1e-14, atol=0)


def test_rest_of_the_gradient_as_one_coordinate(cpu_backend):
    """A Hessian of rank 3 in 12 dimensions, solved in 4 coordinates and in all of them."""
    basis, _ = torch.linalg.qr(torch.randn(12, 12, dtype=torch.float64))
    low_rank = torch.tensor([3.0, -2.0, 0.5], dtype=torch.float64)
    gradient = torch.randn(12, dtype=torch.float64)
    full = torch.cat([low_rank, torch.zeros(9, dtype=torch.float64)])
    step, multiplier = trust_region(full[None], (gradient @ basis)[None], 1.3)
    kept = gradient @ basis[:, :3]
    rest = gradient - basis[:, :3] @ kept
    short, same_multiplier = trust_region(
        torch.cat([low_rank, low_rank.new_zeros(1)])[None],
        torch.cat([kept, rest.norm()[None]])[None],
        1.3,
    )
    rebuilt = basis[:, :3] @ short[0, :3] + short[0, 3] * rest / rest.norm()
    torch.testing.assert_close(rebuilt, basis @ step[0], rtol=0, atol=1e-14)
    torch.testing.assert_close(same_multiplier, multiplier, rtol=1e-14, atol=0)


def test_strided_arguments(cpu_backend):
    base = torch.randn(3, 80, 14)
    e, g = base[0].mT[::2, ::3], base[1, ::3, ::2].mT
    radius = torch.rand(14, 5)[::2, 3]
    assert e.shape == g.shape == (7, 27)
    strided = trust_region(e, g, radius)
    plain = trust_region(e.contiguous(), g.contiguous(), radius.contiguous())
    assert all(torch.equal(a, b) for a, b in zip(strided, plain, strict=True))
    assert all(x.is_contiguous() for x in strided)


def test_one_radius_for_all(cpu_backend):
    e, g, _ = random_problems(4, 6)
    shared = trust_region(e, g, 0.7)
    each = trust_region(e, g, torch.full((4,), 0.7, dtype=torch.float64))
    assert all(torch.equal(a, b) for a, b in zip(shared, each, strict=True))


def test_empty_batch(cpu_backend):
    step, multiplier = trust_region(torch.empty(0, 5), torch.empty(0, 5), 1.0)
    assert step.shape == (0, 5)
    assert multiplier.shape == (0,)


@pytest.mark.parametrize("dtype", DTYPES)
def test_threads_and_company_do_not_change_a_bit(native_level, dtype):
    arguments = random_problems(100, 21, dtype)
    torch.set_num_threads(1)
    alone = trust_region(*arguments)
    for n_threads in (2, 3, 5):
        torch.set_num_threads(n_threads)
        again = trust_region(*arguments)
        assert all(torch.equal(a, b) for a, b in zip(alone, again, strict=True))
    single = trust_region(*(x[40:41] for x in arguments))
    assert all(torch.equal(a[40:41], b) for a, b in zip(alone, single, strict=True))


# The gradient is written in torch and calls no kernel: one backend stands for all.
@pytest.mark.parametrize("kind", ["random", "convex", "interior"])
def test_gradient(kind):
    e, g, radius = PROBLEMS[torch.float64][kind]
    arguments = [x.clone().requires_grad_() for x in (e[:2, :3], g[:2, :3], radius[:2])]
    assert torch.autograd.gradcheck(trust_region, arguments)
    assert torch.autograd.gradgradcheck(trust_region, arguments)


def test_no_gradient_in_the_hard_case(cpu_backend):
    e, g, radius = (x.clone().requires_grad_() for x in PROBLEMS[torch.float64]["hard"])
    step, multiplier = trust_region(e, g, radius)
    for gradient in torch.autograd.grad(step.sum() + multiplier.sum(), (e, g, radius)):
        assert not gradient.isfinite().all()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (([[1.0]], torch.ones(1, 1), 1.0), TypeError, "eigenvalues must be a tensor, got list"),
        ((torch.ones(1, 1), 1.0, 1.0), TypeError, "gradient must be a tensor, got float"),
        ((torch.ones(1, 1).half(),) * 2 + (1.0,), TypeError, "eigenvalues must have a dtype"),
        ((torch.ones(1, 1), torch.ones(1, 1).double(), 1.0), TypeError, "gradient must have the"),
        ((torch.ones(1, 1),) * 2 + (torch.ones(1).double(),), TypeError, "radius must have the"),
        ((torch.ones(3),) * 2 + (1.0,), ValueError, r"eigenvalues must have shape \(B, k\)"),
        ((torch.ones(3, 0),) * 2 + (1.0,), ValueError, "k >= 1"),
        ((torch.ones(3, 2), torch.ones(2, 3), 1.0), ValueError, "gradient must have the shape"),
        ((torch.ones(3, 2),) * 2 + (torch.ones(2),), ValueError, "radius must hold one number"),
        ((torch.ones(3, 2),) * 2 + (torch.ones(()),), ValueError, "radius must hold one number"),
        ((torch.ones(3, 2),) * 2 + (-1.0,), ValueError, r"radius must be in .*, got -1"),
        ((torch.ones(3, 2),) * 2 + (math.nan,), ValueError, "radius must be in"),
        ((torch.ones(3, 2),) * 2 + (math.inf,), ValueError, "radius must be in"),
        ((torch.ones(3, 2),) * 2 + ("1",), TypeError, "radius must be a number or a tensor"),
        (
            (torch.ones(3, 2), torch.ones(3, 2, device="meta"), 1.0),
            ValueError,
            "gradient must be on the device of eigenvalues",
        ),
    ],
)
def test_wrong_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        trust_region(*arguments)


def test_raw_op_refuses_what_would_read_out_of_bounds(cpu_backend):
    op = torch.ops.hessx.trust_region
    with pytest.raises(ValueError, match="gradient must have the shape"):
        op(torch.ones(3, 2), torch.ones(3, 1), torch.ones(3))
    with pytest.raises(ValueError, match="radius must hold one number"):
        op(torch.ones(3, 2), torch.ones(3, 2), torch.ones(2))
    with pytest.raises(TypeError, match="one dtype"):
        op(torch.ones(3, 2), torch.ones(3, 2).double(), torch.ones(3))


def test_results_stay_on_the_tensors_device(cpu_backend):
    """A default device for new tensors must not reach the outputs of kernels."""
    arguments = (torch.randn(2, 5), torch.randn(2, 5), 1.0)
    expected = trust_region(*arguments)
    with torch.device("meta"):
        found = trust_region(*arguments)
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))
