"""Factored symmetric operators: algebra against the dense matrix, errors against simulation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.sparse.linalg import aslinearoperator, eigsh

from hessx.operators import SymmetricOperator

ROWS, K, R = 2, 7, 4


def operator(seed: int = 0, dtype: torch.dtype = torch.float64) -> SymmetricOperator:
    generator = torch.Generator().manual_seed(seed)
    basis = torch.randn(ROWS, K, R, generator=generator, dtype=dtype)
    core = torch.randn(ROWS, R, R, generator=generator, dtype=dtype)
    variance = torch.rand(ROWS, R, R, generator=generator, dtype=dtype)
    return SymmetricOperator(basis, core + core.mT, variance + variance.mT)


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


def test_standard_errors_match_simulated_cores(h):
    """Draw cores with these variances and compare the spread of everything that is read off."""
    draws = 20_000
    generator = torch.Generator().manual_seed(1)
    row = h[0]
    noise = torch.randn(draws, R, R, generator=generator, dtype=torch.float64).triu()
    noise = noise + noise.triu(1).mT
    cores = row.core + noise * row.variance.sqrt()
    many = SymmetricOperator(row.basis, cores, row.variance.expand_as(cores))
    # The deviation of a sample deviation is 1 / sqrt(2 draws) of it: 0.5 %, and 4 of those.
    close = {"rtol": 0.02, "atol": 0.0}
    u, v = torch.randn(2, K, generator=generator, dtype=torch.float64)
    labels = torch.tensor([0, 0, 1, 1, 1, 2, 2])
    torch.testing.assert_close(row.to_dense(stderr=True)[1], many.to_dense().std(0), **close)
    torch.testing.assert_close(row.diagonal(stderr=True)[1], many.diagonal().std(0), **close)
    torch.testing.assert_close(
        row.group(labels, stderr=True)[1], many.group(labels).std(0), **close
    )
    for y in (None, v):
        found = row.quadratic_form(u, y, stderr=True)[1]
        torch.testing.assert_close(found, many.quadratic_form(u, y).std(0), **close)
    noise_norm = (many.to_dense() - row.to_dense()).square().sum((1, 2)).mean()
    energy = row.to_dense().square().sum()
    expected = (noise_norm / (energy - noise_norm)).sqrt() if energy > noise_norm else torch.inf
    assert row.relative_error.item() == pytest.approx(float(expected), rel=0.05)


def test_relative_error_at_its_limits():
    basis, zero = torch.eye(3), torch.zeros(3, 3)
    assert SymmetricOperator(basis, zero, zero).relative_error.isnan()
    assert SymmetricOperator(basis, zero, torch.ones(3, 3)).relative_error == torch.inf
    assert SymmetricOperator(basis, torch.eye(3), zero).relative_error == 0


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
