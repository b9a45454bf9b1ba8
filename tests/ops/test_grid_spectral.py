"""Powers of the grid's Laplacian: spectrum, inverses and roots, by products and by torch.fft."""

from __future__ import annotations

import pytest
import torch

from hessx import ops
from hessx.ops.grid import spectral
from tests.references.grid import difference_matrix

DTYPES = (torch.float32, torch.float64)
GRIDS = ((1, 1), (1, 9), (8, 1), (2, 2), (3, 5), (7, 4), (12, 12))


@pytest.fixture(params=["products", "fourier"])
def way(request, monkeypatch):
    """Transform every axis one way."""
    monkeypatch.setattr(spectral, "DENSE_UP_TO", 10**9 if request.param == "products" else 0)
    return request.param


def matrix(p1, p2, power, constant, dtype=torch.float64):
    """What grid_spectral multiplies by, column by column."""
    p = p1 * p2
    basis = torch.eye(p, dtype=dtype).reshape(p, p1, p2)
    return ops.grid_spectral(basis, power, constant).reshape(p, p).T


def laplacian(p1, p2):
    d = difference_matrix(p1, p2)
    return d.T @ d


def assert_near(found, expected, dtype=torch.float64):
    """Equal but for rounding: sums of a dozen numbers near 1, scaled by the largest of all."""
    largest = max([1.0, *expected.abs().flatten().tolist()])
    atol = 64 * torch.finfo(dtype).eps * largest
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=atol)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", GRIDS)
def test_spectrum(way, shape, dtype):
    """V diag(lambda) V^T = D^T D, V is orthonormal, and Sigma = D^T D + 1 1^T / p."""
    p = shape[0] * shape[1]
    assert_near(matrix(*shape, 1, 0, dtype), laplacian(*shape), dtype)
    assert_near(matrix(*shape, 0, 1, dtype), torch.eye(p).double(), dtype)
    assert_near(matrix(*shape, 1, 1, dtype), laplacian(*shape) + 1 / p, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", GRIDS)
def test_pseudo_inverse(way, shape, dtype):
    inverse, a = matrix(*shape, -1, 0, dtype), laplacian(*shape)
    assert_near(inverse, torch.linalg.pinv(a, hermitian=True), dtype)


@pytest.mark.parametrize("shape", GRIDS)
def test_moore_penrose(way, shape):
    a, inverse = laplacian(*shape), matrix(*shape, -1, 0)
    assert_near(a @ inverse @ a, a)
    assert_near(inverse @ a @ inverse, inverse)
    for product in (a @ inverse, inverse @ a):
        assert_near(product, product.T)


@pytest.mark.parametrize("shape", GRIDS)
def test_projection_on_differences(way, shape):
    """D (D^T D)^+ D^T D = D, through the ops."""
    g = torch.randn(5, *shape, dtype=torch.float64)
    recovered = ops.grid_spectral(ops.grid_laplacian(g), -1, 0)
    assert_near(ops.grid_difference(recovered), ops.grid_difference(g))
    assert_near(recovered, g - g.mean((1, 2), keepdim=True))


@pytest.mark.parametrize("shape", GRIDS)
def test_covariance(way, shape):
    """Sigma^-1 Sigma = I, and the root squares to Sigma."""
    p = shape[0] * shape[1]
    sigma, root = matrix(*shape, 1, 1), matrix(*shape, 0.5, 1)
    assert_near(matrix(*shape, -1, 1) @ sigma, torch.eye(p).double())
    assert_near(root, root.T)
    assert_near(root @ root, sigma)
    # Any number may stand for the power of lambda_00.
    assert_near(
        matrix(*shape, -1, 3) - matrix(*shape, -1, 0), torch.full((p, p), 3 / p, dtype=root.dtype)
    )


@pytest.mark.parametrize("dtype", DTYPES)
def test_large_grids(monkeypatch, dtype):
    """The products and torch.fft agree where either may be taken, and solve Poisson's equation."""
    g = torch.randn(2, 130, 70, dtype=dtype)
    g -= g.mean((1, 2), keepdim=True)
    products = ops.grid_spectral(ops.grid_laplacian(g), -1, 0)
    monkeypatch.setattr(spectral, "DENSE_UP_TO", 100)
    mixed = ops.grid_spectral(ops.grid_laplacian(g), -1, 0)
    # What D^T D rounds, its inverse multiplies by up to 1 / lambda_10 = 1700, in few directions.
    tolerance = 1000 * torch.finfo(dtype).eps
    torch.testing.assert_close(products, g, rtol=0, atol=tolerance)
    torch.testing.assert_close(mixed, g, rtol=0, atol=tolerance)
    assert not torch.equal(mixed, products)
    assert_near(ops.grid_spectral(g, 0.5, 1), ops.grid_spectral(g.double(), 0.5, 1), dtype)


def test_beyond_the_crossover():
    """Of one row, the longest that is multiplied and the first that is not."""
    for p2 in (spectral.DENSE_UP_TO, spectral.DENSE_UP_TO + 1, spectral.DENSE_UP_TO + 2):
        g = torch.randn(1, 1, p2, dtype=torch.float64)
        assert_near(ops.grid_spectral(g, 1, 0), ops.grid_laplacian(g))


def test_any_leading_axes_and_strides(way):
    g = torch.randn(5, 3, 2, 4, dtype=torch.float64)
    turned = g.permute(2, 1, 3, 0)
    expected = torch.stack([ops.grid_spectral(x, -1, 0) for x in turned.flatten(0, 1)])
    assert_near(ops.grid_spectral(turned, -1, 0), expected.reshape(turned.shape))
    assert ops.grid_spectral(torch.ones(0, 3, 4), -1, 0).shape == (0, 3, 4)


def test_nan_stays_in_its_grid(way):
    g = torch.randn(3, 6, 5)
    clean = ops.grid_spectral(g, -1, 0)
    g[1, 2, 3] = torch.nan
    result = ops.grid_spectral(g, -1, 0)
    assert result[1].isnan().all()
    assert torch.equal(result[[0, 2]], clean[[0, 2]])


def test_gradient(way):
    g = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda g: ops.grid_spectral(g, -1, 0.5), (g,))
    assert torch.autograd.gradgradcheck(lambda g: ops.grid_spectral(g, -1, 0.5), (g,))


def test_modes_of_the_caller(way):
    """Constants made in inference mode serve gradients; autocast changes nothing."""
    g = torch.randn(2, 5, 4)
    spectral._kept.cache_clear()
    with torch.inference_mode():
        expected = ops.grid_spectral(g, -1, 1).clone()
    with torch.autocast("cpu"):
        result = ops.grid_spectral(g.requires_grad_(), -1, 1)
    assert torch.equal(result, expected)
    result.sum().backward()
    torch.testing.assert_close(g.grad, torch.ones_like(g))


def test_compiled_full_graph(monkeypatch):
    """One axis by a product, one by torch.fft."""
    monkeypatch.setattr(spectral, "DENSE_UP_TO", 4)
    compiled = torch.compile(
        lambda g: ops.grid_spectral(g, -1, 0), fullgraph=True, backend="aot_eager"
    )
    g = torch.randn(2, 5, 4)
    torch.testing.assert_close(compiled(g), ops.grid_spectral(g, -1, 0))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (([[1.0]], 1, 0), TypeError, "grid must be a tensor, got list"),
        ((torch.ones(2, 2).half(), 1, 0), TypeError, "grid must have a dtype of"),
        ((torch.ones(2), 1, 0), ValueError, r"shape \(..., p1, p2\), got \(2,\)"),
        ((torch.ones(2, 0), 1, 0), ValueError, r"p1 >= 1 and p2 >= 1, got \(2, 0\)"),
        ((torch.ones(2, 2), "1", 0), TypeError, "power must be a number, got str"),
        ((torch.ones(2, 2), True, 0), TypeError, "power must be a number, got bool"),
        ((torch.ones(2, 2), 1, None), TypeError, "constant must be a number, got NoneType"),
        ((torch.ones(2, 2), float("nan"), 0), ValueError, "power must be finite, got nan"),
        ((torch.ones(2, 2), 1, float("inf")), ValueError, "constant must be finite, got inf"),
    ],
)
def test_wrong_arguments(call, error, message):
    with pytest.raises(error, match=message):
        ops.grid_spectral(*call)
