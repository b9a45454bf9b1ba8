"""The prox pass and Gram matrices on every CPU backend: values, ties, NaN, threads, arguments."""

from __future__ import annotations

import itertools

import pytest
import torch

import hessx
from hessx.ops import gram, prox_pass
from hessx.ops.prox import native
from tests.references.prox import bounds_of_gram, bounds_of_pass, numbers, problem

DTYPES = (torch.float32, torch.float64)
TILE = 512
# Around the vector widths (2 to 16 numbers), a tile, and the eight runs of tiles.
WIDTHS = (1, 3, 8, 15, 17, TILE - 1, TILE, TILE + 1, 2 * TILE + 5, 9 * TILE + 3)


def check_pass(basis, gradient, z, lambda1):
    results = prox_pass(basis, gradient, z, lambda1)
    with hessx.backend("reference"):
        expected = prox_pass(basis, gradient, z, lambda1)
    bounds = bounds_of_pass(basis, gradient, z, lambda1)
    for result, exact, bound in zip(results, expected, bounds, strict=True):
        assert result.dtype == torch.float64
        assert result.shape == exact.shape
        assert ((result - exact).abs() <= bound).all()
    assert torch.equal(results[2], results[2].mT)
    without = prox_pass(basis, gradient, z, lambda1, with_gram=False)
    assert all(torch.equal(a, b) for a, b in zip(results[:2], without[:2], strict=True))
    assert without[2].shape == (*z.shape[:2], 0, 0)


def check_gram(x):
    result = gram(x)
    with hessx.backend("reference"):
        expected = gram(x)
    assert result.dtype == torch.float64
    assert result.shape == expected.shape
    assert ((result - expected).abs() <= bounds_of_gram(x)).all()
    assert torch.equal(result, result.mT)


@pytest.mark.parametrize("dtype", DTYPES)
def test_sizes(cpu_backend, dtype):
    ranks = (1, 2, 3, 4, 5, 7, 8, 9, 13, 33)
    for d, r, lambdas in zip(WIDTHS, ranks, (1, 2, 3, 8, 9, 1, 2, 17, 3, 8), strict=True):
        check_pass(*problem(1, lambdas, r, d, dtype))
        check_gram(numbers(2, r, d, dtype=dtype))


@pytest.mark.parametrize("nested", [True, False])
def test_lambdas_of_one_row(cpu_backend, nested):
    """In any order, equal ones among them; points that differ break the nesting of active sets."""
    basis, gradient, z, _ = problem(3, 6, 5, 1400, torch.float32)
    lambda1 = torch.tensor([0.9, 0.3, 2.0, 0.3, 0.0, 1.1]).expand(3, 6)
    check_pass(basis, gradient, z[:, :1].expand_as(z) if nested else 3 * z, lambda1)


def test_ties_and_extreme_lambdas_are_exact(cpu_backend):
    """Integers below 2^24: no rounding. An entry of exactly lambda1 is zero."""
    gradient = (torch.arange(1410.0) % 141 - 70)[None]
    basis = torch.ones(1, 1, 1410)
    lambda1 = torch.tensor([[0.0, 5.0, 70.0, 1e30]])
    w, sums, grams = prox_pass(basis, gradient, torch.zeros(1, 4, 1), lambda1)
    assert sums[0, :, 3].tolist() == [10, 110, 1410, 1410]
    assert grams.flatten().tolist() == [1400, 1300, 0, 0]
    s = gradient.sign() * (gradient.abs() - lambda1.mT).clamp(min=0)
    assert torch.equal(w.flatten(), s.sum(1).double())
    assert torch.equal(sums[0, :, 1], s.abs().sum(1).double())
    assert torch.equal(sums[0, :, 0], s.square().sum(1).double())
    assert torch.equal(sums[0, :, 2], (s * gradient).sum(1).double())


def test_infinity_that_does_not_exceed_lambda_is_zero(cpu_backend):
    gradient = torch.tensor([[torch.inf, 1.0, -torch.inf]]).repeat(1, 20)
    lambda1 = torch.full((1, 1), torch.inf)
    w, sums, grams = prox_pass(torch.ones(1, 1, 60), gradient, torch.zeros(1, 1, 1), lambda1)
    assert w.item() == grams.item() == sums[0, 0, 0].item() == sums[0, 0, 1].item() == 0
    assert sums[0, 0, 3].item() == 60


@pytest.mark.parametrize("shape", [(0, 2, 3, 5), (2, 0, 3, 5), (2, 2, 0, 5), (2, 2, 3, 0)])
def test_empty(cpu_backend, shape):
    arguments = problem(*shape, torch.float32)
    check_pass(*arguments)
    check_gram(arguments[0])


def test_layouts(cpu_backend):
    basis, gradient, z, lambda1 = problem(3, 2, 4, 1100, torch.float32)
    shared = basis[:1].expand(3, -1, -1), gradient[:1].expand(3, -1)
    check_pass(*shared, z, lambda1)
    rows = numbers(3, 9, 1100)[:, 1::2]
    check_pass(rows, numbers(6, 1100)[::2], z.mT.contiguous().mT, lambda1.mT.contiguous().mT)
    columns = numbers(1100, 4, 3).permute(2, 1, 0)
    check_pass(columns, numbers(1100, 3).mT, z, lambda1)
    unaligned = numbers(3 * 4 * 1100 + 1)[1:].view(3, 4, 1100)
    check_pass(unaligned, gradient, z, lambda1)
    for x in (rows, columns, unaligned, shared[0]):
        check_gram(x)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_nan_stays_in_its_row(cpu_backend, bad):
    clean = problem(3, 3, 4, 1100, torch.float32)
    expected = prox_pass(*clean)
    for number, argument in enumerate(clean[:3]):
        arguments = [x.clone() for x in clean]
        arguments[number][1].view(-1)[-1] = bad
        others = [0, 2]
        results = prox_pass(*arguments)
        for result, value in zip(results, expected, strict=True):
            assert torch.equal(result[others], value[others])
        # The last point meets each of them.
        assert not results[0][1, -1].isfinite().any()
        assert not results[1][1, -1, :3].isfinite().any()
        assert argument.isfinite().all()
    arguments = [x.clone() for x in clean]
    arguments[3][1, 2] = torch.nan
    results = prox_pass(*arguments)
    assert results[0][1, 2].isnan().all()
    for result, value in zip(results, expected, strict=True):
        # Lambdas of one row share sums: those of a tile in float32 change with the company.
        torch.testing.assert_close(result[:, :2], value[:, :2], rtol=1e-5, atol=1e-4)
        assert torch.equal(result[others], value[others])


@pytest.mark.parametrize("rows", [5, 40])
def test_gram_with_nan(cpu_backend, rows):
    x = numbers(2, rows, 600)
    x[1, 2, 577] = torch.nan
    finite = torch.ones(2, rows, rows, dtype=torch.bool)
    finite[1, 2], finite[1, :, 2] = False, False
    assert torch.equal(gram(x).isfinite(), finite)


def test_float32_sums_are_added_up_in_float64(cpu_backend):
    """2^24 + 1 is no float32 number: a float32 total would lose every later tile."""
    x = torch.zeros(1, 1, 40 * TILE)
    x[..., 0] = 2.0**12
    x[..., TILE::TILE] = 1.0
    assert gram(x).item() == 2.0**24 + 39
    w, sums, _ = prox_pass(x, x[0], torch.zeros(1, 1, 1), torch.zeros(1, 1))
    assert w.item() == sums[0, 0, 0].item() == 2.0**24 + 39


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("dtype", DTYPES)
def test_threads_do_not_change_a_bit(native_level, batch, dtype):
    arguments = problem(batch, 10, 9, 20 * TILE + 7, dtype)
    torch.set_num_threads(1)
    alone = (*prox_pass(*arguments), gram(arguments[0]))
    for n_threads in (2, 3, 12):
        torch.set_num_threads(n_threads)
        again = (*prox_pass(*arguments), gram(arguments[0]))
        assert all(torch.equal(a, b) for a, b in zip(alone, again, strict=True))


def test_batch_element_equals_the_single_call(native_level):
    arguments = problem(5, 9, 6, 1100, torch.float32)
    whole = (*prox_pass(*arguments), gram(arguments[0]))
    single = [x[3:4] for x in arguments]
    alone = (*prox_pass(*single), gram(single[0]))
    assert all(torch.equal(a[3:4], b) for a, b in zip(whole, alone, strict=True))


@pytest.mark.parametrize("dtype", DTYPES)
def test_both_ways_of_gram_at_every_size(native_level, monkeypatch, dtype):
    """The crossover between kernel and matrix product changes the time, never the contract."""
    for fused, (rows, d) in itertools.product([True, False], [(3, 70), (40, 5000), (2, 0)]):
        monkeypatch.setattr(native, "fused_gram_wins", lambda x, fused=fused: fused)
        check_gram(numbers(2, rows, d, dtype=dtype))


def test_many_rows_take_the_matrix_product(native_level, monkeypatch):
    monkeypatch.setattr(native, "_fused_gram", None)
    check_gram(numbers(1, 401, 20))


# The gradient is written in torch and calls no kernel: one level stands for all.
@pytest.mark.parametrize("backend", ["reference", "native"])
def test_gram_gradient(backend):
    x = numbers(2, 3, 4, dtype=torch.float64).requires_grad_()
    with hessx.backend(backend):
        assert torch.autograd.gradcheck(gram, x)
        assert torch.autograd.gradgradcheck(gram, x)
    y = numbers(3, 4).requires_grad_()
    gram(y).sum().backward()
    torch.testing.assert_close(y.grad, 2 * y.detach().sum(0, keepdim=True).expand(3, 4))


def test_gram_without_a_batch(cpu_backend):
    x = numbers(4, 30)
    assert torch.equal(gram(x), gram(x[None])[0])


def test_compiled_full_graph(cpu_backend):
    def step(basis, gradient, z, lambda1):
        w, _, grams = prox_pass(basis, gradient, z, lambda1)
        return torch.linalg.solve(torch.eye(4) + grams, w) + gram(basis)[:, :2, :4]

    arguments = problem(2, 2, 4, 100, torch.float64)
    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(*arguments), step(*arguments))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (dict(basis=torch.ones(3, 2)), ValueError, r"basis must have shape \(B, r, d\)"),
        (dict(basis=[[1.0]]), TypeError, "basis must be a tensor, got list"),
        (dict(basis=torch.ones(2, 3, 5).half()), TypeError, "basis must have a dtype"),
        (dict(gradient=torch.ones(2, 4)), ValueError, r"gradient must have shape \(B, d\), \(2, 5"),
        (dict(gradient=torch.ones(1, 5)), ValueError, "gradient must have shape"),
        (dict(gradient=torch.ones(2, 5).double()), TypeError, "gradient must have the dtype of"),
        (dict(z=torch.ones(2, 4, 2)), ValueError, r"z must have shape \(B, M, r\)"),
        (dict(z=torch.ones(2, 3)), ValueError, "z must have shape"),
        (dict(z=torch.ones(1, 4, 3)), ValueError, "z must have shape"),
        (dict(lambda1=torch.ones(2, 3)), ValueError, r"lambda1 must have shape \(B, M\), \(2, 4\)"),
        (dict(lambda1=1.0), TypeError, "lambda1 must be a tensor, got float"),
        (dict(z=torch.ones(2, 4, 3, device="meta")), ValueError, "z must be on the device of"),
        (dict(with_gram=1), TypeError, "with_gram must be a bool, got int"),
    ],
)
def test_wrong_prox_pass_arguments(change, error, message):
    arguments = dict(
        basis=torch.ones(2, 3, 5),
        gradient=torch.ones(2, 5),
        z=torch.ones(2, 4, 3),
        lambda1=torch.ones(2, 4),
    )
    with pytest.raises(error, match=message):
        prox_pass(**arguments | change)


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (torch.ones(3), ValueError, r"x must have shape \(c, d\) or \(B, c, d\), got \(3,\)"),
        (torch.ones(3, 2).int(), TypeError, "x must have a dtype"),
        (None, TypeError, "x must be a tensor, got NoneType"),
    ],
)
def test_wrong_gram_argument(x, error, message):
    with pytest.raises(error, match=message):
        gram(x)


def test_raw_ops_refuse_what_would_read_out_of_bounds(cpu_backend):
    basis, gradient, z, lambda1 = problem(2, 2, 3, 5, torch.float32)
    for wrong in [
        (basis, gradient[:, :4], z, lambda1),
        (basis, gradient, z[..., :2], lambda1),
        (basis, gradient, z, lambda1[:, :1]),
        (basis[0], gradient, z, lambda1),
    ]:
        with pytest.raises(ValueError, match="must have shape"):
            torch.ops.hessx.prox_pass(*wrong, True)
    with pytest.raises(TypeError, match="one dtype"):
        torch.ops.hessx.prox_pass(basis, gradient.double(), z, lambda1, True)
    with pytest.raises(ValueError, match="x must have shape"):
        torch.ops.hessx.gram(basis[0])
    with pytest.raises(TypeError, match="x must have a dtype"):
        torch.ops.hessx.gram(basis.half())
