"""Factored symmetric operators: algebra against the dense matrix, errors against simulation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.sparse.linalg import aslinearoperator, eigsh

from hessx.contributions import Contributions
from hessx.operators import SymmetricOperator

ROWS, K, R, COUNT, N = 2, 7, 4, 50, 80


def operator(seed: int = 0, dtype: torch.dtype = torch.float64) -> SymmetricOperator:
    def random(*shape: int) -> torch.Tensor:
        return torch.randn(ROWS, *shape, generator=generator, dtype=dtype)

    generator = torch.Generator().manual_seed(seed)
    contributions = Contributions.of(random(COUNT, R), random(COUNT, R), random(R, R), N)
    core, variance = random(R, R), random(R, R).abs()
    return SymmetricOperator(random(K, R), core + core.mT, variance + variance.mT, contributions)


@pytest.fixture
def h() -> SymmetricOperator:
    return operator()


@pytest.fixture
def dense(h: SymmetricOperator) -> torch.Tensor:
    return h.basis @ h.core @ h.basis.mT


def test_reading_off_values(h, dense):
    torch.testing.assert_close(h.to_dense(), dense)
    assert h.shape == (ROWS, K, K)
    torch.testing.assert_close(h.diagonal(), dense.diagonal(dim1=1, dim2=2))
    v, w = torch.randn(2, ROWS, K, dtype=torch.float64)
    torch.testing.assert_close(h @ v[0], dense @ v[0])
    torch.testing.assert_close(h @ v.mT, dense @ v.mT)
    torch.testing.assert_close(h.quadratic_form(v), torch.einsum("bi,bij,bj->b", v, dense, v))
    torch.testing.assert_close(h.quadratic_form(v, w), torch.einsum("bi,bij,bj->b", v, dense, w))
    labels = torch.tensor([0, 1, 2, 0, 1, 2, 2])
    s = torch.nn.functional.one_hot(labels).double()
    torch.testing.assert_close(h.group(labels), s.mT @ dense @ s)


def test_eigenvalues_are_sorted_by_size(h, dense):
    assert (h.eigenvalues.abs().diff(dim=1) <= 0).all()
    rebuilt = h.eigenvectors @ torch.diag_embed(h.eigenvalues) @ h.eigenvectors.mT
    torch.testing.assert_close(rebuilt, dense)
    gram = h.eigenvectors.mT @ h.eigenvectors
    torch.testing.assert_close(gram, torch.eye(R, dtype=torch.float64).expand_as(gram))


def test_a_row_is_an_operator_that_scipy_accepts(h, dense):
    single = h[1]
    assert single.shape == (K, K)
    values = np.linalg.eigvalsh(dense[1].numpy())
    top = eigsh(aslinearoperator(single), k=1, which="LM", return_eigenvectors=False)
    assert top[0] == pytest.approx(max(values, key=abs))
    with pytest.raises(TypeError, match="single operator has no rows"):
        single[0]


def test_standard_errors_are_those_of_the_mean_of_the_contributions(h):
    """Every sample's own matrix, formed and read off like the mean."""
    row = h[0]
    c = row.contributions
    one = c.weight * c.u[:, :, None] * c.w[:, None, :]
    samples = row.basis @ (one + one.mT) @ row.basis.mT
    u, v = torch.randn(2, K, dtype=torch.float64)
    labels = torch.tensor([0, 0, 1, 1, 1, 2, 2])
    s = torch.nn.functional.one_hot(labels).double()

    def error(values: torch.Tensor) -> torch.Tensor:
        return values.std(0, correction=0) / (N - 1) ** 0.5

    torch.testing.assert_close(row.to_dense(stderr=True)[1], error(samples))
    diagonal = error(samples.diagonal(dim1=1, dim2=2))
    torch.testing.assert_close(row.diagonal(stderr=True)[1], diagonal)
    torch.testing.assert_close(row.group(labels, stderr=True)[1], error(s.mT @ samples @ s))
    for y in (None, v):
        found = row.quadratic_form(u, y, stderr=True)[1]
        torch.testing.assert_close(found, error(samples @ (u if y is None else y) @ u))
    torch.testing.assert_close(h.to_dense(stderr=True)[1][0], row.to_dense(stderr=True)[1])
    torch.testing.assert_close(h.quadratic_form(u, v, stderr=True)[1][0], found)


def test_rows_of_different_sizes_join():
    a, b = operator(0), operator(1)
    smaller = SymmetricOperator(
        b.basis[..., :3],
        b.core[:, :3, :3],
        b.variance[:, :3, :3],
        Contributions.of(
            b.contributions.u[:, :20, :3],
            b.contributions.w[:, :20, :3],
            b.contributions.weight[:, :3, :3],
            30,
        ),
    )
    joined = SymmetricOperator.joined([a, smaller])
    for part, rows in ((a, slice(0, ROWS)), (smaller, slice(ROWS, None))):
        for whole, own in zip(
            joined.to_dense(stderr=True), part.to_dense(stderr=True), strict=True
        ):
            torch.testing.assert_close(whole[rows], own)


def test_relative_error_of_independent_entries(h):
    """Cores drawn with these variances: the energy of what they add."""
    row = h[0]
    noise = torch.randn(20_000, R, R, dtype=torch.float64).triu()
    cores = (noise + noise.triu(1).mT) * row.variance.sqrt()
    added = (row.basis @ cores @ row.basis.mT).square().sum((1, 2)).mean()
    energy = row.to_dense().square().sum()
    louder = SymmetricOperator(row.basis, 10 * row.core, row.variance, row.contributions)
    expected = (added / (100 * energy - added)).sqrt()
    # The mean of 20,000 energies, each within about its own size.
    torch.testing.assert_close(louder.relative_error, expected, rtol=0.02, atol=0)


def test_relative_error_at_its_limits(h):
    def error(core: torch.Tensor, variance: torch.Tensor) -> torch.Tensor:
        return SymmetricOperator(torch.eye(3), core, variance, h.contributions).relative_error

    zero = torch.zeros(3, 3)
    assert error(zero, zero).isnan()
    assert error(zero, torch.ones(3, 3)) == torch.inf
    assert error(torch.eye(3), zero) == 0


def test_numpy_comes_back_as_numpy(h, dense):
    vector = np.arange(K, dtype=np.float64)
    found = h[0] @ vector
    assert isinstance(found, np.ndarray)
    np.testing.assert_allclose(found, dense[0].numpy() @ vector)


def test_misuse_is_refused(h):
    with pytest.raises(ValueError, match="vectors must have 7 entries"):
        h.quadratic_form(torch.zeros(3))
    with pytest.raises(ValueError, match=r"labels must be \(7,\) integers"):
        h.group(torch.zeros(3, dtype=torch.long))
