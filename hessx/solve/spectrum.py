"""The largest eigenvalues of Hessians: from Krylov spaces, with bounds, and from Gram matrices."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hessx import ops
from hessx.solve.krylov import KrylovSpace, Product, Ritz


@dataclass(frozen=True)
class TopSpace:
    """A Krylov space in which the largest eigenvalues have converged, row by row.

    Attributes:
        space: The vectors and their images; zero vectors beyond a row's own number.
        ritz: The Ritz pairs asked for.
        converged: ``(B,)``.
    """

    space: KrylovSpace
    ritz: Ritz
    converged: Tensor

    @property
    def bound(self) -> Tensor:
        """``(B,)``: the largest Ritz value plus its residual.

        An upper bound of the largest eigenvalue unless the start was nearly orthogonal to its
        eigenvector. For a random start and ``s`` non-zero eigenvalues, the probability that ``j``
        vectors of its chain leave the Ritz value below ``(1 - epsilon)`` times the eigenvalue is
        at most ``1.648 sqrt(s) exp(-(2 j - 3) sqrt(epsilon))`` (Kuczynski and Wozniakowski, 1992,
        section 4, for the first image of the start).
        """
        return self.ritz.values[:, 0] + self.ritz.residuals[:, 0]

    def bottom(self) -> Tensor:
        """Return ``(B,)``, the smallest Ritz value less its residual, and not above 0."""
        every = self.space.ritz(self.space.size)
        return (every.values - every.residuals).amin(-1).clamp(max=0)


def top_space(
    product: Product,
    start: Tensor,
    rank: int,
    rtol: float,
    fewest: int,
    most: int,
    limit: Tensor | None = None,
) -> TopSpace:
    """Extend a Krylov space until the largest eigenvalues are known.

    Args:
        product: H of each row times vectors.
        start: ``(B, b, d)``, the first block.
        rank: How many eigenvalues.
        rtol: A row is done when the error of each of them is below ``rtol`` times itself, and the
            residual of the first below ``rtol`` times it; or when its space is complete.
        fewest: Vectors in the space, at least.
        most: Vectors in the space, about at most.
        limit: ``(B,)``: also go on until the first is known to lie below this number, or not.
    """
    space = KrylovSpace.started(product, start)
    sizes = torch.zeros(len(start), dtype=torch.long, device=start.device)
    while True:
        known = _is_known(space.ritz(rank), rtol, limit) & (space.counts() >= fewest)
        sizes = torch.where((sizes == 0) & (known | space.complete), space.size, sizes)
        if bool((sizes > 0).all()) or space.size >= most:
            break
        space.extend()
    converged = sizes > 0
    space = space.truncated(torch.where(converged, sizes, space.size))
    return TopSpace(space, space.ritz(rank), converged)


def _is_known(ritz: Ritz, rtol: float, limit: Tensor | None) -> Tensor:
    top, residual = ritz.values[:, 0], ritz.residuals[:, 0]
    # Beyond the rank of H, eigenvalues are rounding of the largest.
    rounding = 64 * torch.finfo(ritz.vectors.dtype).eps * top.abs()
    allowed = torch.maximum(rtol * ritz.values.abs(), rounding[:, None])
    known = (ritz.errors() <= allowed).all(-1)
    known &= residual <= rtol * top.abs()
    if limit is not None:
        known &= (top + residual < limit) | (top >= limit)
    return known


def gram_spectrum(gram: Tensor) -> tuple[Tensor, Tensor]:
    """Return eigenvalues, descending and not below 0, and eigenvectors of Gram matrices."""
    values, vectors = ops.eigh(gram)
    return values.flip(-1).clamp(min=0), vectors.flip(-1)


def gram_bound(values: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the largest eigenvalue and what sums of vectors of a dtype may have lost of it."""
    return values[:, 0] * (1 + 16 * torch.finfo(dtype).eps)
