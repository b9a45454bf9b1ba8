"""Krylov spaces: Rayleigh-Ritz pairs, bounds and Nystroem factors against dense matrices."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hessx.solve.krylov import KrylovSpace
from hessx.solve.spectrum import gram_spectrum, top_space

D = 40


@pytest.fixture
def matrices() -> Tensor:
    """Three positive semidefinite matrices with falling eigenvalues, of ranks 40, 6 and 0."""
    q, _ = torch.linalg.qr(torch.randn(3, D, D, dtype=torch.float64))
    values = 0.6 ** torch.arange(D, dtype=torch.float64)
    values = torch.stack([values, torch.where(torch.arange(D) < 6, values, 0), 0 * values])
    return (q * values[:, None]) @ q.mT


def product_with(h: Tensor):
    return lambda vectors: vectors @ h.to(vectors)


def start(h: Tensor) -> Tensor:
    return torch.randn(len(h), 2, D, dtype=torch.float64)


def test_vectors_are_orthonormal_and_images_are_products(matrices):
    space = KrylovSpace.started(product_with(matrices), start(matrices))
    for _ in range(3):
        space.extend()
    gram = space.vectors @ space.vectors.mT
    lengths = gram.diagonal(dim1=1, dim2=2)
    # Zero vectors stand where a row's space is exhausted.
    assert torch.allclose(gram, torch.diag_embed(lengths), atol=1e-13)
    assert torch.all((lengths - 1).abs() < 1e-13) or torch.all(lengths[lengths < 0.5] == 0)
    torch.testing.assert_close(space.images, space.vectors @ matrices, atol=1e-14, rtol=0)


def test_eigenvalues_converge_and_are_bounded(matrices):
    found = top_space(product_with(matrices), start(matrices), 3, 1e-8, 3, D)
    exact = torch.linalg.eigvalsh(matrices).flip(-1)
    torch.testing.assert_close(found.ritz.values[:2], exact[:2, :3], rtol=1e-8, atol=0)
    assert torch.all(found.bound >= exact[:, 0] - 1e-15)
    assert torch.all(found.bottom() <= exact[:, -1] + 1e-15)
    assert found.converged.all()
    residual = matrices @ found.ritz.vectors - found.ritz.vectors * found.ritz.values[:, None]
    torch.testing.assert_close(residual.norm(dim=1), found.ritz.residuals, atol=1e-13, rtol=0)


def test_a_row_stops_where_it_would_alone(matrices):
    first = start(matrices)
    together = top_space(product_with(matrices), first, 2, 1e-4, 2, D)
    for row in range(3):
        part = slice(row, row + 1)
        alone = top_space(product_with(matrices[part]), first[part], 2, 1e-4, 2, D)
        used = (alone.space.vectors != 0).any(-1).sum()
        assert (together.space.vectors[row] != 0).any(-1).sum() == used
        torch.testing.assert_close(together.bound[row], alone.bound[0])


def test_too_small_a_space_says_so(matrices):
    found = top_space(product_with(matrices), start(matrices), 2, 1e-12, 2, 4)
    assert not found.converged[0]


def test_a_limit_is_decided(matrices):
    top = torch.linalg.eigvalsh(matrices)[:, -1]
    close = torch.where(top > 0, top * (1 + 1e-7), 1)
    found = top_space(product_with(matrices), start(matrices), 1, 0.5, 2, D, close)
    assert torch.all(found.bound < close)


def test_the_nystroem_factor_lies_below_and_agrees_on_the_space(matrices):
    space = KrylovSpace.started(product_with(matrices), start(matrices))
    space.extend()
    basis = space.nystrom()
    below = basis.mT @ basis
    assert torch.linalg.eigvalsh(matrices - below).min() > -1e-12
    torch.testing.assert_close(space.vectors @ below, space.vectors @ matrices, atol=1e-12, rtol=0)


def test_appended_vectors_keep_their_images(matrices):
    space = KrylovSpace.started(product_with(matrices), start(matrices))
    more = torch.randn(3, 2, D, dtype=torch.float64)
    space.append(more, more @ matrices)
    assert space.size == 4
    torch.testing.assert_close(space.images, space.vectors @ matrices, atol=1e-13, rtol=0)


def test_what_is_known_is_not_appended_again(matrices):
    space = KrylovSpace.started(product_with(matrices), start(matrices))
    known = space.vectors.sum(1, keepdim=True) + 1e-5 * torch.randn(3, 1, D, dtype=torch.float64)
    space.append(known, known @ matrices)
    assert space.size == 2


def test_an_invariant_space_ends(matrices):
    space = KrylovSpace.started(product_with(matrices[1:2]), start(matrices[1:2]))
    for _ in range(D):
        space.extend()
    # Two random vectors and the six eigenvectors; rounding may add a block.
    assert 8 <= space.size <= 10


def test_images_too_small_to_square_keep_their_directions(matrices):
    tiny = (matrices * 1e-30).float()
    space = KrylovSpace.started(lambda v: v @ tiny, start(matrices).float())
    for _ in range(4):
        space.extend()
    values = space.ritz(1).values
    exact = torch.linalg.eigvalsh(matrices)[:2, -1] * 1e-30
    assert torch.all(values[:2, 0] > 0.99 * exact)


def test_rows_ask_for_their_own_products(matrices):
    space = KrylovSpace.started(product_with(matrices), start(matrices))
    some = space.rows(torch.tensor([True, False, True]))
    some.extend()
    torch.testing.assert_close(some.images, some.vectors @ matrices[[0, 2]], atol=1e-13, rtol=0)


def test_the_gram_spectrum_is_that_of_the_product(matrices):
    factor = torch.randn(2, 5, D, dtype=torch.float64)
    values, vectors = gram_spectrum(factor @ factor.mT)
    exact = torch.linalg.svdvals(factor).square()
    torch.testing.assert_close(values, exact)
    torch.testing.assert_close((factor.mT @ vectors).norm(dim=1).square(), exact)
