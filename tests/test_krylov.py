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
    # Zero vectors stand where a row's space is complete.
    assert torch.allclose(gram, torch.diag_embed(lengths), atol=1e-13)
    assert torch.all(((lengths - 1).abs() < 1e-13) | (lengths == 0))
    assert torch.all(lengths[0] > 0)
    assert torch.equal((lengths > 0).sum(1), space.counts())
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


def test_appended_vectors_have_their_images(matrices):
    space = KrylovSpace.started(product_with(matrices), start(matrices))
    space.append(torch.randn(3, 2, D, dtype=torch.float64))
    assert space.size == 4
    torch.testing.assert_close(space.images, space.vectors @ matrices, atol=1e-13, rtol=0)


def test_what_is_known_is_not_appended_again(matrices):
    space = KrylovSpace.started(product_with(matrices), start(matrices))
    space.append(space.vectors.sum(1, keepdim=True))
    assert space.size == 2
    assert space.complete.all()


def test_an_invariant_space_ends(matrices):
    space = KrylovSpace.started(product_with(matrices[1:2]), start(matrices[1:2]))
    for _ in range(D):
        space.extend()
    # Two random vectors and the six eigenvectors; rounding may add a block.
    assert 8 <= space.size <= 10


def test_a_complete_row_has_converged_alone_and_in_company(matrices):
    """Rank 6 is all there is, whatever the other rows still need."""
    first = start(matrices)
    together = top_space(product_with(matrices), first, 10, 1e-6, 10, D)
    alone = top_space(product_with(matrices[1:2]), first[1:2], 10, 1e-6, 10, D)
    for found in (together.converged[1], alone.converged[0], together.converged[2]):
        assert found
    assert alone.ritz.vectors.shape == (1, D, 10)
    torch.testing.assert_close(together.ritz.values[1], alone.ritz.values[0], atol=1e-14, rtol=0)


def test_zero_vectors_do_not_outrank_negative_eigenvalues():
    h = torch.stack([-torch.eye(D), torch.diag(-torch.arange(1.0, D + 1))]).double()
    found = top_space(product_with(h), start(h), 2, 1e-6, 2, D)
    torch.testing.assert_close(found.ritz.values[0, 0], torch.tensor(-1.0, dtype=torch.float64))
    assert found.ritz.values[1, 0] == pytest.approx(-1, rel=1e-4)
    assert torch.all(found.bottom() <= torch.tensor([-1.0, -D]) + 1e-9)


def test_a_cluster_is_not_taken_for_converged():
    """The gap of the last wanted value is that to its unwanted neighbour."""
    values = torch.tensor([1.0, *torch.linspace(0.5, 0.4, 30).tolist()], dtype=torch.float64)
    q, _ = torch.linalg.qr(torch.randn(8, 31, 31, dtype=torch.float64))
    h = (q * values) @ q.mT
    first = torch.randn(8, 2, 31, dtype=torch.float64)
    found = top_space(product_with(h), first, 2, 1e-4, 2, 31)
    error = (found.ritz.values - values[:2]).abs() / values[:2]
    assert torch.all(error[found.converged] <= 2e-4)


@pytest.mark.parametrize("rest", [0.5, 0.96])
def test_the_bound_beside_a_cluster(rest):
    """With 8 vectors the bound holds, or is short by no more than the cluster is close."""
    values = torch.full((300,), rest, dtype=torch.float64)
    values += 0.01 * torch.linspace(-1, 1, 300)
    values[0] = 1
    h = torch.diag(values).expand(20, -1, -1)
    first = torch.randn(20, 2, 300, dtype=torch.float64)
    found = top_space(product_with(h), first, 1, 1e-2, 8, 32)
    assert torch.all(found.bound >= (1 if rest == 0.5 else rest))


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
