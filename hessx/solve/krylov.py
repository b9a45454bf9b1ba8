"""Extreme eigenpairs of symmetric matrices known by their products: block Krylov spaces.

All rows of a batch go step by step together, each with its own matrix, but nothing of one row
enters another: what a row gives is what it would give alone. Rows whose space is complete have
zero vectors where others go on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from hessx import ops
from hessx.solve.products import inner

Product = Callable[[Tensor], Tensor]

# In units of rounding: a candidate this small after orthogonalisation, relative to what it was, or
# an image this small beside others of its row, has no direction of its own.
_ROUNDING = 64


@dataclass(frozen=True)
class Ritz:
    """Rayleigh-Ritz approximations in a Krylov space, largest first.

    Attributes:
        values: ``(B, r)``, float64; 0 where the space of a row has fewer.
        vectors: ``(B, d, r)``, orthonormal columns, or zero columns where there are fewer.
        residuals: ``(B, r)``, ``|H v - value v|``: an eigenvalue of H lies that close.
        gaps: ``(B, r)``, distances to the nearest other Ritz value of the space; 0 for an only one.
    """

    values: Tensor
    vectors: Tensor
    residuals: Tensor
    gaps: Tensor

    def errors(self) -> Tensor:
        """Estimate ``|value - eigenvalue|``: ``min(residual, residual^2 / gap)``.

        As if the Ritz values were the spectrum (Parlett, "The Symmetric Eigenvalue Problem",
        section 11.7): eigenvalues that the space has not seen are not in the gaps.
        """
        quadratic = torch.where(self.gaps > 0, self.residuals.square() / self.gaps, torch.inf)
        return torch.minimum(self.residuals, quadratic)


class KrylovSpace:
    """Orthonormal vectors and their images under H: ``Q (B, m, d)`` and ``Y = Q H``.

    Args:
        product: From ``(B, m, d)`` to ``(B, m, d)``: H of each row times each of its vectors.
        vectors: ``(B, m, d)``.
        images: ``(B, m, d)``.
        n_last: How many vectors the last block has.
    """

    def __init__(self, product: Product, vectors: Tensor, images: Tensor, n_last: int):
        self.product, self.vectors, self.images = product, vectors, images
        self._n_last = n_last

    @classmethod
    def started(cls, product: Product, block: Tensor) -> KrylovSpace:
        """Return the space of a first block ``(B, b, d)``."""
        empty = block.new_empty(len(block), 0, block.shape[-1])
        space = cls(product, empty, empty, 0)
        space.append(block)
        return space

    @property
    def size(self) -> int:
        """How many vectors there are, zero ones included."""
        return self.vectors.shape[1]

    @property
    def complete(self) -> Tensor:
        """``(B,)``: whether the last block added nothing to a row."""
        last = self.vectors[:, self.size - self._n_last :]
        return (last == 0).all(-1).all(-1)

    def counts(self) -> Tensor:
        """Return ``(B,)``, how many vectors of each row are not zero."""
        return (~self._is_zero()).sum(-1)

    def extend(self) -> None:
        """Append the part of the last block's images that is new: one more power of H."""
        sizes = self.images.abs().amax(-1, keepdim=True)
        rounding = _ROUNDING * torch.finfo(sizes.dtype).eps
        first = self.size - self._n_last
        seen = sizes[:, first:] > rounding * sizes.amax(1, keepdim=True)
        self.append(self.images[:, first:] * seen)

    def append(self, block: Tensor) -> None:
        """Append the part of a block ``(B, b, d)`` that is new, and ask for its images."""
        new = self._new_directions(block)
        self._n_last = new.shape[1]
        if self._n_last:
            self.vectors = torch.cat([self.vectors, new], dim=1)
            self.images = torch.cat([self.images, self.product(new)], dim=1)

    def truncated(self, sizes: Tensor) -> KrylovSpace:
        """Return the space with only the first ``sizes[row]`` vectors of each row."""
        largest = int(sizes.max())
        index = torch.arange(largest, device=sizes.device)
        inside = (index < sizes[:, None])[..., None]
        vectors, images = self.vectors[:, :largest] * inside, self.images[:, :largest] * inside
        return KrylovSpace(self.product, vectors, images, min(self._n_last, largest))

    def rows(self, mask: Tensor) -> KrylovSpace:
        """Return the space of some rows."""
        product = _of_rows(self.product, mask)
        return KrylovSpace(product, self.vectors[mask], self.images[mask], self._n_last)

    def projected(self) -> Tensor:
        """Return ``Q H Q^T (B, m, m)`` in float64, symmetric."""
        product = inner(self.vectors, self.images)
        return (product + product.mT) / 2

    def ritz(self, rank: int) -> Ritz:
        """Return the ``rank`` largest Ritz pairs."""
        projected = self.projected()
        # Zero vectors would give values of 0, above those of directions of negative curvature.
        lowest = -4 * projected.abs().amax((-1, -2))
        padding = torch.where(self._is_zero(), lowest[:, None], 0)
        values, mixing = ops.eigh(projected + torch.diag_embed(padding))
        values, mixing = values.flip(-1), mixing.flip(-1)
        real = torch.arange(self.size, device=values.device) < self.counts()[:, None]
        gaps = _gaps(torch.where(real, values, torch.nan))
        kept = min(rank, self.size)
        values = torch.where(real, values, 0)[:, :kept]
        coefficients = (mixing * real[:, None])[..., :kept].mT.to(self.vectors)
        lifted = coefficients @ self.vectors
        residual = coefficients @ self.images - values[..., None].to(lifted) * lifted
        missing = (0, rank - kept)
        return Ritz(
            torch.nn.functional.pad(values, missing),
            torch.nn.functional.pad(lifted.mT, missing),
            torch.nn.functional.pad(residual.double().norm(dim=-1), missing),
            torch.nn.functional.pad(gaps[:, :kept], missing),
        )

    def nystrom(self) -> Tensor:
        """Return ``basis (B, m, d)`` with ``basis^T basis <= H``, equal on the space's vectors.

        ``H Q^T (Q H Q^T)^-1 Q H`` for positive semidefinite H; directions in which Q H Q^T is
        0 to rounding are left out (zero rows).
        """
        values, vectors = ops.eigh(self.projected())
        smallest = values[:, -1:] * self.size * torch.finfo(self.vectors.dtype).eps
        kept = (values > smallest.clamp(min=0)) & (values > 0)
        scale = torch.where(kept, values, 1).rsqrt() * kept
        return (vectors * scale[:, None, :]).mT.to(self.images) @ self.images

    def _is_zero(self) -> Tensor:
        return (self.vectors == 0).all(-1)

    def _new_directions(self, block: Tensor) -> Tensor:
        """Return the orthonormal directions that a block adds, without those zero in all rows.

        Gram-Schmidt twice, as rounding undoes one.
        """
        smallest = _ROUNDING * torch.finfo(block.dtype).eps
        known = self.vectors
        for i in range(block.shape[1]):
            # Images of a nearly certain prediction are so small that their squares would vanish.
            largest = block[:, i : i + 1].abs().amax(-1, keepdim=True)
            normal = largest >= torch.finfo(block.dtype).tiny
            x = torch.where(normal, block[:, i : i + 1] / largest, 0)
            length = x.norm(dim=-1, keepdim=True)
            for _ in range(2):
                x = x - (x @ known.mT) @ known
            left = x.norm(dim=-1, keepdim=True)
            x = torch.where(left > smallest * length, x / left, 0)
            known = torch.cat([known, x], dim=1)
        new = known[:, self.size :]
        return new[:, (new != 0).any(-1).any(0)]


def _of_rows(product: Product, mask: Tensor) -> Product:
    """Return a product of some rows, given that of all: the others multiply zero."""

    def call(vectors: Tensor) -> Tensor:
        every = vectors.new_zeros(len(mask), *vectors.shape[1:])
        every[mask] = vectors
        return product(every)[mask]

    return call


def _gaps(values: Tensor) -> Tensor:
    """Return each value's distance to the nearest other of its row, 0 if it is the only one."""
    distance = (values[:, :, None] - values[:, None, :]).abs().nan_to_num(nan=torch.inf)
    itself = torch.eye(distance.shape[1], dtype=torch.bool, device=distance.device)
    gaps = distance.masked_fill(itself, torch.inf).amin(-1)
    return torch.where(gaps.isfinite(), gaps, 0)
