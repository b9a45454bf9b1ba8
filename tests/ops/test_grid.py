"""Grid operators on every CPU backend: values, identities, gradients, NaN, threads, arguments."""

from __future__ import annotations

import pytest
import torch

import hessx
from hessx import ops
from tests.references.grid import GRIDS, arguments, assert_product, n_edges
from tests.references.shrink import spread

DTYPES = (torch.float32, torch.float64)
NAMES = (
    "grid_difference",
    "grid_difference_adjoint",
    "grid_laplacian",
    "grid_curl",
    "grid_curl_adjoint",
)
# Rows around the vector widths (2, 4, 8, 16 numbers), also with an end taken off each.
COLUMNS = (2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 15, 16, 17, 18, 19, 31, 32, 33, 34, 50)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_values(cpu_backend, name, dtype):
    for p1, p2 in GRIDS:
        call = arguments(name, 3, p1, p2, dtype)
        assert_product(getattr(ops, name)(*call), name, call[0], p1, p2)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_values_around_the_vector_widths(native_level, name, dtype):
    for p2 in COLUMNS:
        call = arguments(name, 2, 3, p2, dtype)
        assert_product(getattr(ops, name)(*call), name, call[0], 3, p2)


@pytest.mark.parametrize("name", NAMES)
def test_levels_agree_to_the_bit(name):
    """There are no products to contract; float64 of the reference has the same roundings."""
    call = arguments(name, 3, 21, 37)
    with hessx.backend("reference"):
        expected = getattr(ops, name)(*call)
    for level in hessx.backends.levels():
        with hessx.backend("native", level):
            assert torch.equal(getattr(ops, name)(*call), expected)


def test_adjoints(cpu_backend):
    """<D g, a> = <g, D^T a> and <C a, psi> = <a, C^T psi>, of numbers near 1."""
    for p1, p2 in GRIDS:
        generator = torch.Generator().manual_seed(1)
        size = dict(generator=generator, dtype=torch.float64)
        g, a = torch.randn(4, p1, p2, **size), torch.randn(4, n_edges(p1, p2), **size)
        psi = torch.randn(4, p1 - 1, p2 - 1, **size)
        for left, right in [
            (ops.grid_difference(g) * a, g * ops.grid_difference_adjoint(a, p1, p2)),
            (ops.grid_curl(a, p1, p2) * psi, a * ops.grid_curl_adjoint(psi)),
        ]:
            found, expected = left.flatten(1).sum(1), right.flatten(1).sum(1)
            torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", DTYPES)
def test_exact_sequence(cpu_backend, dtype):
    """C D = 0 and D^T C^T = 0, exactly on integers, and D^T D is the Laplacian."""
    for p1, p2 in GRIDS:
        g = torch.randint(-1000, 1000, (3, p1, p2)).to(dtype)
        psi = torch.randint(-1000, 1000, (3, p1 - 1, p2 - 1)).to(dtype)
        differences, circulation = ops.grid_difference(g), ops.grid_curl_adjoint(psi)
        assert (ops.grid_curl(differences, p1, p2) == 0).all()
        assert (ops.grid_difference_adjoint(circulation, p1, p2) == 0).all()
        assert torch.equal(ops.grid_difference_adjoint(differences, p1, p2), ops.grid_laplacian(g))


@pytest.mark.parametrize("dtype", DTYPES)
def test_laplacian_is_the_product_to_the_bit(native_level, dtype):
    (g,) = arguments("grid_laplacian", 3, 28, 28, dtype)
    expected = ops.grid_difference_adjoint(ops.grid_difference(g), 28, 28)
    assert torch.equal(ops.grid_laplacian(g), expected)


@pytest.mark.parametrize("name", NAMES)
def test_empty(cpu_backend, name):
    call = arguments(name, 0, 3, 5)
    assert_product(getattr(ops, name)(*call), name, call[0], 3, 5)


@pytest.mark.parametrize("name", NAMES)
def test_strided(cpu_backend, name):
    x, *size = arguments(name, 3, 4, 7)
    expected = getattr(ops, name)(x, *size)
    # Axes turned round, with gaps, and one grid for all.
    for strided in (spread(x), torch.zeros(*x.shape, 2).double()[..., 1].copy_(x)):
        assert not strided.is_contiguous()
        assert torch.equal(getattr(ops, name)(strided, *size), expected)
    assert torch.equal(
        getattr(ops, name)(x[:1].expand(3, *x.shape[1:]), *size), expected[:1].expand_as(expected)
    )


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", NAMES)
def test_nan_reaches_only_what_it_is_a_term_of(cpu_backend, name, bad):
    p1, p2 = 5, 40
    x, *size = arguments(name, 3, p1, p2, torch.float32)
    clean = getattr(ops, name)(x, *size)
    # An entry within, and the first of all, whose neighbours are in other registers.
    for at in (x[0].numel() // 2, 0):
        touched = torch.zeros_like(x)
        touched[1].view(-1)[at] = 1
        touched = getattr(ops, name)(touched, *size) != 0
        wrong = x.clone()
        wrong[1].view(-1)[at] = bad
        result = getattr(ops, name)(wrong, *size)
        assert torch.equal(~result.isfinite(), touched)
        assert torch.equal(result[~touched], clean[~touched])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_threads_and_company_do_not_change_a_bit(native_level, name, dtype):
    """Many small grids, and one that several threads share."""
    for n, p1, p2 in ((60, 28, 28), (2, 211, 301)):
        x, *size = arguments(name, n, p1, p2, dtype)
        torch.set_num_threads(1)
        alone = getattr(ops, name)(x, *size)
        for n_threads in (2, 5):
            torch.set_num_threads(n_threads)
            assert torch.equal(getattr(ops, name)(x, *size), alone)
        assert torch.equal(getattr(ops, name)(x[1:2], *size), alone[1:2])


# The gradients are ops of the table: one level stands for all.
@pytest.mark.parametrize("backend", ["reference", "native"])
@pytest.mark.parametrize("name", NAMES)
def test_gradient(backend, name):
    for p1, p2 in ((3, 4), (1, 3), (3, 1), (1, 1)):
        x, *size = arguments(name, 2, p1, p2)
        x.requires_grad_()

        def call(x, size=size):
            return getattr(ops, name)(x, *size)

        with hessx.backend(backend):
            assert torch.autograd.gradcheck(call, (x,))
            assert torch.autograd.gradgradcheck(call, (x,))


def test_compiled_for_any_size():
    compiled = torch.compile(
        lambda g: ops.grid_difference_adjoint(ops.grid_difference(g), *g.shape[1:]),
        fullgraph=True,
        backend="aot_eager",
        dynamic=True,
    )
    for p1, p2 in ((4, 6), (9, 5)):
        g = torch.randn(2, p1, p2, requires_grad=True)
        laplacian = compiled(g)
        assert torch.equal(laplacian, ops.grid_laplacian(g))
        laplacian.sum().backward()


@pytest.mark.parametrize("op", [ops.grid_difference, ops.grid_laplacian])
@pytest.mark.parametrize(
    ("grid", "error", "message"),
    [
        ([[[1.0]]], TypeError, "grid must be a tensor, got list"),
        (torch.ones(1, 2, 2).half(), TypeError, "grid must have a dtype of .* got torch.float16"),
        (torch.ones(2, 2), ValueError, r"grid must have shape \(N, p1, p2\), got \(2, 2\)"),
        (torch.ones(2, 0, 2), ValueError, r"p1 >= 1 and p2 >= 1, got \(2, 0, 2\)"),
        (torch.ones(2, 2, 0), ValueError, r"p1 >= 1 and p2 >= 1, got \(2, 2, 0\)"),
    ],
)
def test_wrong_grids(op, grid, error, message):
    with pytest.raises(error, match=message):
        op(grid)


@pytest.mark.parametrize("op", [ops.grid_difference_adjoint, ops.grid_curl])
@pytest.mark.parametrize(
    ("edges", "p1", "p2", "error", "message"),
    [
        ([1.0], 2, 2, TypeError, "edges must be a tensor, got list"),
        (torch.ones(1, 4).int(), 2, 2, TypeError, "edges must have a dtype of"),
        (torch.ones(1, 4), 2.0, 2, TypeError, "p1 must be an integer, got float"),
        (torch.ones(1, 4), 2, True, TypeError, "p2 must be an integer, got bool"),
        (torch.ones(1, 4), 0, 2, ValueError, "p1 must be >= 1, got 0"),
        (torch.ones(1, 4), 2, -1, ValueError, "p2 must be >= 1, got -1"),
        (torch.ones(4), 2, 2, ValueError, r"edges must have shape \(N, m\).*got \(4,\)"),
        (torch.ones(1, 4), 2, 3, ValueError, r"= 7 for p1 = 2 and p2 = 3, got \(1, 4\)"),
    ],
)
def test_wrong_edges(op, edges, p1, p2, error, message):
    with pytest.raises(error, match=message):
        op(edges, p1, p2)


@pytest.mark.parametrize(
    ("potential", "error", "message"),
    [
        (None, TypeError, "potential must be a tensor, got NoneType"),
        (torch.ones(1, 1, 1).bfloat16(), TypeError, "potential must have a dtype of"),
        (torch.ones(3, 4), ValueError, r"shape \(N, p1 - 1, p2 - 1\), got \(3, 4\)"),
    ],
)
def test_wrong_potentials(potential, error, message):
    with pytest.raises(error, match=message):
        ops.grid_curl_adjoint(potential)


def test_raw_ops_refuse_what_would_read_out_of_bounds(cpu_backend):
    for op in (torch.ops.hessx.grid_difference_adjoint, torch.ops.hessx.grid_curl):
        with pytest.raises(ValueError, match="edges must have shape"):
            op(torch.ones(2, 4), 2, 3)
