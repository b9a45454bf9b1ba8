"""Low-rank models of a positive semidefinite Hessian from few products, with their certificates."""

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
        bottom: ``(B,)``, the smallest Ritz value less its residual.
        converged: ``(B,)``.
    """

    space: KrylovSpace
    ritz: Ritz
    bottom: Tensor
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
            residual of the first below ``rtol`` times it.
        fewest: Vectors in the space, at least.
        most: Vectors in the space, about at most.
        limit: ``(B,)``: also go on until the first is known to lie below this number, or not.
    """
    space = KrylovSpace(product, start)
    most = min(most, start.shape[-1])
    sizes = torch.zeros(len(start), dtype=torch.long, device=start.device)
    while True:
        ritz = space.ritz(min(rank, space.size))
        done = _is_known(ritz, rtol, limit) & (space.size >= min(fewest, most))
        sizes = torch.where((sizes == 0) & done, space.size, sizes)
        size = space.size
        if bool((sizes > 0).all()) or size >= most:
            break
        space.extend()
        if space.size == size:
            break
    converged = sizes > 0
    space = space.truncated(torch.where(converged, sizes, space.size))
    every = space.ritz(space.size)
    wanted = Ritz(every.values[:, :rank], every.vectors[..., :rank], every.residuals[:, :rank])
    # Zero vectors give Ritz values of 0, which bound nothing.
    bottom = (every.values - every.residuals).amin(-1)
    return TopSpace(space, wanted, bottom, converged)


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
