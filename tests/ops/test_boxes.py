"""Box sums on every CPU backend: values, bounds, gradients, NaN, threads, arguments."""

from __future__ import annotations

import pytest
import torch

import hessx
from hessx import ops
from tests.references.boxes import (
    PROBLEMS,
    assert_box_sums,
    assert_box_sums_adjoint,
    box_matrix,
    on_squares,
    pictures,
)
from tests.references.shrink import spread

DTYPES = (torch.float32, torch.float64)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("p1", "p2", "sides"), PROBLEMS)
def test_values(cpu_backend, p1, p2, sides, dtype):
    x, w = pictures(3, p1, p2, dtype), on_squares(3, p1, p2, sides, dtype)
    assert_box_sums(ops.box_sums(x, sides), x, sides)
    assert_box_sums_adjoint(ops.box_sums_adjoint(w, sides, p1, p2), w, sides, p1, p2)


def test_every_side(native_level):
    """Every step of the ladder, and bands that end anywhere: rows of a task, and one more."""
    for p1, p2, sides in ((40, 36, range(1, 37)), (65, 17, (16,)), (33, 5, (1, 2)), (96, 3, (2,))):
        x = pictures(1, p1, p2)
        sides = tuple(sides)
        w = ops.box_sums(x, sides)
        with hessx.backend("reference"):
            expected, back = ops.box_sums(x, sides), ops.box_sums_adjoint(w, sides, p1, p2)
            terms = ops.box_sums(x.abs(), sides)
            back_terms = ops.box_sums_adjoint(w.abs(), sides, p1, p2)
        # Either side of the comparison has the error of the bound.
        bound = 2 * 2 * (max(sides) - 1) * 2.0**-53
        assert ((w - expected).abs() <= bound * terms).all()
        bound += 2 * len(sides) * 2.0**-53
        found = ops.box_sums_adjoint(w, sides, p1, p2)
        assert ((found - back).abs() <= bound * back_terms).all()


def test_error_bound_on_a_photograph_sized_picture(native_level):
    """Integers are exact, so that sums of mixed size can be compared with the truth to the bit.

    The picture is 1e9 or so in its first quarter, and some units elsewhere: prefix sums in float64
    would leave errors of 1e-3 there.
    """
    generator = torch.Generator().manual_seed(3)
    x = torch.randint(-9, 10, (1, 224, 224), generator=generator)
    x[:, :100, :120] += torch.randint(10**9, (1, 100, 120), generator=generator)
    small = x.double() / 3
    sides = (1, 7, 15, 30)
    found = ops.box_sums(small, sides)
    with hessx.backend("reference"):
        # Sums of integers up to 2^53: no rounding.
        exact = ops.box_sums(x.double(), sides)
        terms = ops.box_sums(small.abs(), sides)
    # A third is rounded once in each term, and once in the exact sum.
    assert ((found - exact / 3).abs() <= (2 * 29 + 2) * 2.0**-53 * terms).all()


def test_levels_agree_to_the_bit():
    """There is no product to contract."""
    sides = (1, 5, 14)
    x, w = pictures(2, 33, 19), on_squares(2, 33, 19, sides)
    with hessx.backend("native", hessx.backends.levels()[0]):
        expected, back = ops.box_sums(x, sides), ops.box_sums_adjoint(w, sides, 33, 19)
    for level in hessx.backends.levels():
        with hessx.backend("native", level):
            assert torch.equal(ops.box_sums(x, sides), expected)
            assert torch.equal(ops.box_sums_adjoint(w, sides, 33, 19), back)


def test_adjoint(cpu_backend):
    """<B x, w> = <x, B^T w>, of numbers near 1."""
    for p1, p2, sides in PROBLEMS:
        generator = torch.Generator().manual_seed(1)
        x = torch.randn(4, p1, p2, generator=generator, dtype=torch.float64)
        sums = ops.box_sums(x, sides)
        w = torch.randn(sums.shape, generator=generator, dtype=torch.float64)
        found = (x * ops.box_sums_adjoint(w, sides, p1, p2)).flatten(1).sum(1)
        torch.testing.assert_close(found, (sums * w).sum(1), rtol=1e-12, atol=1e-11)


def test_empty(cpu_backend):
    assert ops.box_sums(torch.ones(0, 3, 5), [2, 1]).shape == (0, 23)
    assert ops.box_sums_adjoint(torch.ones(0, 23), [2, 1], 3, 5).shape == (0, 3, 5)


def test_strided(cpu_backend):
    sides = (1, 3)
    for call, x in (
        (lambda x: ops.box_sums(x, sides), pictures(3, 4, 7)),
        (lambda w: ops.box_sums_adjoint(w, sides, 4, 7), on_squares(3, 4, 7, sides)),
    ):
        expected = call(x)
        # Axes turned round, with gaps, and one picture for all.
        for strided in (spread(x), torch.zeros(*x.shape, 2).double()[..., 1].copy_(x)):
            assert not strided.is_contiguous()
            assert torch.equal(call(strided), expected)
        assert torch.equal(call(x[:1].expand_as(x)), expected[:1].expand_as(expected))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_nan_reaches_only_what_it_is_a_term_of(cpu_backend, bad):
    p1, p2, sides = 5, 40, (2, 5, 3)
    covers = box_matrix(p1, p2, sides) > 0
    for call, x, touched in (
        (lambda x: ops.box_sums(x, sides), pictures(2, p1, p2, torch.float32), covers.T),
        (
            lambda w: ops.box_sums_adjoint(w, sides, p1, p2),
            on_squares(2, p1, p2, sides, torch.float32),
            covers,
        ),
    ):
        clean = call(x)
        # The first, one within, the end of a row, the last.
        for at in (0, 57, p2 - 1, x[0].numel() - 1):
            wrong = x.clone()
            wrong[1].view(-1)[at] = bad
            result = call(wrong)
            assert torch.equal(result[0], clean[0])
            assert torch.equal(~result[1].isfinite().flatten(), touched[at])
            rest = ~touched[at]
            assert torch.equal(result[1].flatten()[rest], clean[1].flatten()[rest])


@pytest.mark.parametrize("dtype", DTYPES)
def test_threads_and_company_do_not_change_a_bit(native_level, dtype):
    """Many small pictures, and one that several threads share."""
    for n, p1, p2, sides in ((9, 28, 28, (3, 1, 10)), (2, 150, 70, (4, 15))):
        x = torch.randn(n, p1, p2, generator=torch.Generator().manual_seed(0)).to(dtype)
        torch.set_num_threads(1)
        alone = ops.box_sums(x, sides)
        back = ops.box_sums_adjoint(alone, sides, p1, p2)
        for n_threads in (2, 5):
            torch.set_num_threads(n_threads)
            assert torch.equal(ops.box_sums(x, sides), alone)
            assert torch.equal(ops.box_sums_adjoint(alone, sides, p1, p2), back)
        assert torch.equal(ops.box_sums(x[1:2], sides), alone[1:2])
        assert torch.equal(ops.box_sums_adjoint(alone[1:2], sides, p1, p2), back[1:2])


# The gradients are ops of the table: one level stands for all.
@pytest.mark.parametrize("backend", ["reference", "native"])
def test_gradient(backend):
    for p1, p2, sides in ((3, 4, (2, 1)), (1, 3, (1,)), (2, 2, (2,))):
        with hessx.backend(backend):
            x = pictures(2, p1, p2).sign().requires_grad_()
            w = on_squares(2, p1, p2, sides).sign().requires_grad_()
            for call, y in (
                (lambda x, sides=sides: ops.box_sums(x, sides), x),
                (lambda w, size=(sides, p1, p2): ops.box_sums_adjoint(w, *size), w),
            ):
                assert torch.autograd.gradcheck(call, (y,))
                assert torch.autograd.gradgradcheck(call, (y,))


def test_compiled_for_any_size():
    compiled = torch.compile(
        lambda x: ops.box_sums_adjoint(ops.box_sums(x, [1, 3]), [1, 3], *x.shape[1:]),
        fullgraph=True,
        backend="aot_eager",
        dynamic=True,
    )
    for p1, p2 in ((4, 6), (9, 5)):
        x = torch.randn(2, p1, p2, requires_grad=True)
        result = compiled(x)
        expected = ops.box_sums_adjoint(ops.box_sums(x, [1, 3]), [1, 3], p1, p2)
        assert torch.equal(result, expected)
        result.sum().backward()


@pytest.mark.parametrize(
    ("x", "sides", "error", "message"),
    [
        ([[[1.0]]], [1], TypeError, "x must be a tensor, got list"),
        (torch.ones(1, 2, 2).half(), [1], TypeError, "x must have a dtype of .* torch.float16"),
        (torch.ones(2, 2), [1], ValueError, r"x must have shape \(N, p1, p2\).*got \(2, 2\)"),
        (torch.ones(2, 0, 2), [1], ValueError, r"p1, p2 >= 1, got \(2, 0, 2\)"),
        (torch.ones(1, 2, 3), [], ValueError, "sides must name at least one side, got none"),
        (torch.ones(1, 2, 3), [3], ValueError, r"\[1, min\(p1, p2\)\] = \[1, 2\], got 3"),
        (torch.ones(1, 2, 3), [1, 0], ValueError, r"= \[1, 2\], got 0"),
        (torch.ones(1, 2, 3), [1.0], TypeError, "sides must be integers, got float"),
        (torch.ones(1, 2, 3), [True], TypeError, "sides must be integers, got bool"),
        (torch.ones(1, 2, 3), 2, TypeError, "sides must be a list of integers, got int"),
        (torch.ones(1, 2, 3), "12", TypeError, "sides must be a list of integers, got str"),
    ],
)
def test_wrong_pictures_and_sides(x, sides, error, message):
    with pytest.raises(error, match=message):
        ops.box_sums(x, sides)


@pytest.mark.parametrize(
    ("w", "p1", "p2", "error", "message"),
    [
        ([1.0], 2, 2, TypeError, "w must be a tensor, got list"),
        (torch.ones(1, 5).int(), 2, 2, TypeError, "w must have a dtype of"),
        (torch.ones(1, 5), 2.0, 2, TypeError, "p1 must be an integer, got float"),
        (torch.ones(1, 5), 2, True, TypeError, "p2 must be an integer, got bool"),
        (torch.ones(1, 5), 0, 2, ValueError, "p1 must be >= 1, got 0"),
        (torch.ones(5), 2, 2, ValueError, r"w must have shape \(N, n_boxes\).*got \(5,\)"),
        (torch.ones(1, 4), 2, 2, ValueError, r"= 5 for p1 = 2, p2 = 2 and sides \[1, 2\], got"),
        (torch.ones(1, 5), 1, 5, ValueError, r"= \[1, 1\], got 2"),
    ],
)
def test_wrong_numbers_on_squares(w, p1, p2, error, message):
    with pytest.raises(error, match=message):
        ops.box_sums_adjoint(w, [1, 2], p1, p2)


def test_raw_ops_refuse_what_would_read_out_of_bounds(cpu_backend):
    with pytest.raises(ValueError, match="sides must lie in"):
        torch.ops.hessx.box_sums(torch.ones(1, 2, 3), [3])
    with pytest.raises(ValueError, match="w must have shape"):
        torch.ops.hessx.box_sums_adjoint(torch.ones(2, 4), [1], 2, 3)
