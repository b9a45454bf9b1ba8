"""Soft threshold and FISTA step on every CPU backend: values, sums, NaN, threads, arguments."""

from __future__ import annotations

import itertools

import pytest
import torch

import hessx
from hessx.ops import fista_step, soft_threshold
from hessx.ops.shrink.rules import COLUMN_BLOCK
from tests.references.shrink import assert_step, problem, spread

DTYPES = (torch.float32, torch.float64)
# Around the vector widths (2, 4, 8, 16 numbers) and a block of columns.
SIZES = (1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 65)
LONG = (COLUMN_BLOCK - 1, COLUMN_BLOCK, COLUMN_BLOCK + 1, 2 * COLUMN_BLOCK + 19)


@pytest.mark.parametrize("dtype", DTYPES)
def test_soft_threshold_values(cpu_backend, dtype):
    for d in (*SIZES, *LONG):
        x, threshold = torch.randn(3, d, dtype=dtype), torch.rand(3, dtype=dtype)
        t = threshold[:, None]
        # The difference is rounded once, by every backend.
        expected = torch.where(x > t, x - t, torch.where(x < -t, x + t, 0))
        assert torch.equal(soft_threshold(x, threshold), expected)


def test_soft_threshold_at_its_edges(cpu_backend):
    inf, nan = float("inf"), float("nan")
    x = torch.tensor([-2.0, -1.0, -0.5, -0.0, 0.0, 0.5, 1.0, 2.0, inf, -inf, nan])
    thresholds = torch.tensor([0.0, 1.0, inf, nan])
    result = soft_threshold(x.expand(4, -1), thresholds)
    shrunk = torch.tensor([-1.0, 0, 0, 0, 0, 0, 0, 1.0, inf, -inf, nan])
    # Infinity less infinity is nobody's number.
    beyond = torch.tensor([0.0, 0, 0, 0, 0, 0, 0, 0, nan, nan, nan])
    expected = torch.stack((x, shrunk, beyond, torch.full_like(x, nan)))
    torch.testing.assert_close(result, expected, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("dtype", DTYPES)
def test_step_values(cpu_backend, dtype):
    for d, (batch, m) in itertools.chain(
        itertools.product(SIZES, [(1, 1), (2, 3)]), zip(LONG, [(2, 1), (1, 2)] * 2, strict=True)
    ):
        arguments = problem(batch, m, d, dtype)
        assert_step(fista_step(*arguments), arguments)


def test_step_of_half_zeros(cpu_backend):
    """The problems that the other tests use are neither empty nor full."""
    sums = fista_step(*problem(1, 1, 1000))[2]
    assert 200 < sums[0, 0, 4] < 800


def test_step_is_that_of_the_reference(cpu_backend):
    """Also where shrinking loses digits: of the terms, not of the result."""
    arguments = problem(2, 2, 300)
    results = fista_step(*arguments)
    with hessx.backend("reference"):
        expected = fista_step(*arguments)
    for result, exact in zip(results, expected, strict=True):
        torch.testing.assert_close(result, exact, rtol=1e-13, atol=1e-14)


def test_float32_sums_are_added_up_in_float64(cpu_backend):
    """2^24 + 1 is no float32 number: a float32 total would lose every later block."""
    d = 4 * COLUMN_BLOCK
    gradient, zero, one = torch.zeros(1, d), torch.zeros(1, 1, d), torch.ones(1, 1)
    gradient[0, 0] = 2.0**12
    gradient[0, COLUMN_BLOCK::COLUMN_BLOCK] = 1.0
    sums = fista_step(gradient, zero, zero, zero, one, one, one * 0, one * 0)[2]
    expected = [2.0**24 + 3, 2.0**12 + 3, 2.0**24 + 3, 2.0**24 + 3, d - 4]
    assert sums.flatten().tolist() == expected


def test_steps_solve_a_problem(cpu_backend):
    """Steps with the constants of the problem reach the optimum, where all conditions hold."""
    factor = torch.randn(3, 40, dtype=torch.float64)
    gradient = torch.randn(1, 40, dtype=torch.float64)
    top = torch.linalg.matrix_norm(factor, 2) ** 2
    lambda1, lambda2 = torch.full((1, 1), 0.8).double(), (top / 2 + 10).reshape(1, 1)
    step, root = 1 / (2 * lambda2), ((2 * lambda2 - top) / (2 * lambda2)).sqrt()
    point = previous = torch.zeros(1, 1, 40, dtype=torch.float64)
    for _ in range(300):
        product = point @ factor.T @ factor
        numbers = (step, (1 - root) / (1 + root), lambda1, lambda2)
        previous, point, sums = fista_step(gradient, product, point, previous, *numbers)
    x = previous
    slope = (gradient + x @ factor.T @ factor - 2 * lambda2 * x)[0, 0]
    x = x[0, 0]
    assert sums[0, 0, 3] < 1e-28
    assert 0 < sums[0, 0, 4] < 40
    torch.testing.assert_close(slope[x != 0], 0.8 * x[x != 0].sign())
    assert (slope[x == 0].abs() <= 0.8).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_outputs_used_again(cpu_backend, dtype):
    """Buffers, or the very arguments that no later step needs."""
    arguments = problem(2, 2, COLUMN_BLOCK + 7, dtype)
    expected = fista_step(*arguments)
    out = tuple(torch.full_like(arguments[1], torch.nan) for _ in range(2))
    results = fista_step(*arguments, out=out)
    assert results[0] is out[0]
    assert results[1] is out[1]
    in_place = fista_step(*arguments, out=(arguments[3], arguments[2]))
    for found in (results, in_place):
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert torch.equal(arguments[3], expected[0])


def test_compiled_with_outputs_used_again():
    arguments = problem(2, 2, 30)
    compiled = torch.compile(
        lambda *x, out: fista_step(*x, out=out), fullgraph=True, backend="aot_eager"
    )
    out = tuple(torch.empty(2, 2, 30, dtype=torch.float64) for _ in range(2))
    _, _, sums = compiled(*arguments, out=out)
    for found, expected in zip((*out, sums), fista_step(*arguments), strict=True):
        assert torch.equal(found, expected)


@pytest.mark.parametrize("shape", [(0, 2, 5), (2, 0, 5), (2, 2, 0), (0, 0, 0)])
def test_empty(cpu_backend, shape):
    batch, m, d = shape
    assert soft_threshold(torch.ones(batch, d), torch.ones(batch)).shape == (batch, d)
    next_point, extrapolated, sums = fista_step(*problem(batch, m, d))
    assert next_point.shape == extrapolated.shape == shape
    assert sums.shape == (batch, m, 5)
    assert (sums == 0).all()


def test_strided(cpu_backend):
    arguments = problem(2, 3, 50)
    strided = tuple(spread(x) for x in arguments)
    assert not any(x.is_contiguous() for x in strided)
    # torch orders the sums of the reference by strides.
    for a, b in zip(fista_step(*strided), fista_step(*arguments), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-13, atol=0)
    x, threshold = strided[0], strided[4][:, 0]
    assert torch.equal(
        soft_threshold(x, threshold), soft_threshold(x.contiguous(), threshold.contiguous())
    )


@pytest.mark.parametrize("argument", range(8))
@pytest.mark.parametrize("dtype", DTYPES)
def test_nan_reaches_its_row_alone(cpu_backend, argument, dtype):
    arguments = problem(2, 2, 70, dtype)
    clean = fista_step(*arguments)
    arguments[argument][(1,) * arguments[argument].ndim] = torch.nan
    next_point, extrapolated, sums = fista_step(*arguments)
    rows = [(1, 0), (1, 1)] if argument == 0 else [(1, 1)]
    for row in rows:
        touched = range(70) if argument >= 4 else [1]
        moved = next_point if argument not in (3, 5) else extrapolated
        assert moved[row].isnan().nonzero().flatten().tolist() == list(touched)
        lost = {3: [3], 5: []}.get(argument, [0, 1, 2, 3])
        assert sums[row].isnan().nonzero().flatten().tolist() == lost
        for result, value in zip((next_point, extrapolated, sums), clean, strict=True):
            result[row] = value[row]
    for result, value in zip((next_point, extrapolated, sums), clean, strict=True):
        assert torch.equal(result, value)


@pytest.mark.parametrize("dtype", DTYPES)
def test_threads_and_company_do_not_change_a_bit(native_level, dtype):
    arguments = problem(3, 2, 5 * COLUMN_BLOCK + 11, dtype)
    torch.set_num_threads(1)
    alone = fista_step(*arguments)
    for n_threads in (2, 3, 5):
        torch.set_num_threads(n_threads)
        again = fista_step(*arguments)
        assert all(torch.equal(a, b) for a, b in zip(alone, again, strict=True))
    # One row without the others.
    single = [x[1:2] if x.ndim == 2 and x is arguments[0] else x[1:2, 1:] for x in arguments]
    for a, b in zip(fista_step(*single), alone, strict=True):
        assert torch.equal(a, b[1:2, 1:])


# The gradient is written in torch and calls no kernel: one level stands for all.
@pytest.mark.parametrize("backend", ["reference", "native"])
def test_soft_threshold_gradient(backend):
    x = torch.linspace(-2, 2, 14, dtype=torch.float64).reshape(2, 7).requires_grad_()
    threshold = torch.tensor([0.4, 1.1], dtype=torch.float64, requires_grad=True)
    with hessx.backend(backend):
        assert torch.autograd.gradcheck(soft_threshold, (x, threshold))
        assert torch.autograd.gradgradcheck(soft_threshold, (x, threshold))


def test_step_has_no_gradient():
    arguments = problem(1, 1, 3)
    arguments[0].requires_grad_()
    assert not any(x.requires_grad for x in fista_step(*arguments))


@pytest.mark.parametrize(
    ("x", "threshold", "error", "message"),
    [
        ([[1.0]], torch.ones(1), TypeError, "x must be a tensor, got list"),
        (torch.ones(2, 3).half(), torch.ones(2), TypeError, "x must have a dtype of"),
        (torch.ones(2, 3), torch.ones(2).double(), TypeError, "threshold must have the dtype of x"),
        (torch.ones(2, 3), 1.0, TypeError, "threshold must be a tensor, got float"),
        (torch.ones(3), torch.ones(3), ValueError, r"x must have shape \(N, d\), got \(3,\)"),
        (torch.ones(2, 3), torch.ones(3), ValueError, r"one number a row, 2, got \(3,\)"),
        (torch.ones(2, 3), torch.ones(2, device="meta"), ValueError, "on the device of x"),
    ],
)
def test_wrong_soft_threshold_arguments(x, threshold, error, message):
    with pytest.raises(error, match=message):
        soft_threshold(x, threshold)


NAMES = ("gradient", "product", "point", "previous", "step", "momentum", "lambda1", "lambda2")


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (dict(gradient=[1.0]), TypeError, "gradient must be a tensor, got list"),
        (dict(gradient=torch.ones(2, 4).int()), TypeError, "gradient must have a dtype of"),
        (dict(gradient=torch.ones(4)), ValueError, r"gradient must have shape \(B, d\)"),
        (dict(product=torch.ones(2, 4)), ValueError, r"product must have shape \(B, M, d\)"),
        (dict(product=torch.ones(3, 3, 4)), ValueError, r"B = 2 and d = 4, got \(3, 3, 4\)"),
        (dict(product=torch.ones(2, 3, 5)), ValueError, r"B = 2 and d = 4, got \(2, 3, 5\)"),
        (dict(point=torch.ones(2, 2, 4)), ValueError, "point must have the shape of product"),
        (dict(previous=torch.ones(2, 3)), ValueError, "previous must have the shape of product"),
        (dict(step=torch.ones(2)), ValueError, r"step must have shape \(B, M\), \(2, 3\), got"),
        (dict(momentum=0.5), TypeError, "momentum must be a tensor, got float"),
        (dict(lambda1=torch.ones(2, 3).double()), TypeError, "lambda1 must have the dtype of grad"),
        (dict(lambda2=torch.ones(2, 3, device="meta")), ValueError, "lambda2 must be on the dev"),
        (dict(out=(torch.ones(2, 3, 4), torch.ones(2, 3, 1))), ValueError, r"out\[1\] must have"),
        (dict(out=(torch.ones(2, 4, 3).mT,) * 2), ValueError, r"out\[0\] must be contiguous"),
    ],
)
def test_wrong_step_arguments(change, error, message):
    arguments = {name: torch.ones(2, 3, 4) for name in NAMES[1:4]}
    arguments |= {"gradient": torch.ones(2, 4)} | {name: torch.ones(2, 3) for name in NAMES[4:]}
    with pytest.raises(error, match=message):
        fista_step(**arguments | change)


def test_raw_ops_refuse_what_would_reach_out_of_bounds(cpu_backend):
    with pytest.raises(ValueError, match="threshold must hold one number a row"):
        torch.ops.hessx.soft_threshold(torch.ones(3, 2), torch.ones(2))
    arguments = (torch.ones(2, 4), *[torch.ones(2, 3, 4)] * 3, *[torch.ones(2, 3)] * 4)
    vector, sums = torch.ones(2, 3, 4), torch.ones(2, 3, 5, dtype=torch.float64)
    for outputs, message in [
        ((vector[:1], vector, sums), "next must have the shape of product"),
        ((vector, vector[..., :3], sums), "extrapolated must have the shape of product"),
        ((vector, vector, sums[:, :2]), r"sums must be contiguous, float64, of shape \(2, 3, 5\)"),
        ((vector, vector, sums.float()), "sums must be contiguous, float64"),
        ((vector, vector, sums.to("meta")), "sums must be on the device of product"),
    ]:
        with pytest.raises(ValueError, match=message):
            torch.ops.hessx.fista_step(*arguments, *outputs)
