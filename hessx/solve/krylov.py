"""Extreme eigenpairs of symmetric matrices known by their products: block Krylov spaces.

All rows of a batch go step by step together, each with its own matrix, but nothing of one row
enters another: what a row gives is what it would give alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from hessx import ops

Product = Callable[[Tensor], Tensor]

# A candidate this small after orthogonalisation, relative to what it was, is dropped. Images of
# appended vectors are combinations, whose errors are divided by this number; candidates whose
# images are still to be asked for may be much smaller before they are rounding (in units of it).
_DEPENDENT = 1e-3
_ROUNDING = 64


@dataclass(frozen=True)
class Ritz:
    """Rayleigh-Ritz approximations in a Krylov space, largest first.

    Attributes:
        values: ``(B, r)``, float64.
        vectors: ``(B, d, r)``, orthonormal columns; zero columns where the space has fewer.
        residuals: ``(B, r)``, ``|H v - value v|``: an eigenvalue of H lies that close.
    """

    values: Tensor
    vectors: Tensor
    residuals: Tensor

    def errors(self) -> Tensor:
        """Estimate ``|value - eigenvalue|``: ``min(residual, residual^2 / gap)``.

        The gap is the distance to the nearest other Ritz value (Parlett, "The Symmetric Eigenvalue
        Problem", section 11.7).
        """
        distance = (self.values[:, :, None] - self.values[:, None, :]).abs()
        itself = torch.eye(distance.shape[1], dtype=torch.bool, device=distance.device)
        gap = distance.masked_fill(itself, torch.inf).amin(-1)
        quadratic = torch.where(gap > 0, self.residuals.square() / gap, torch.inf)
        return torch.minimum(self.residuals, quadratic)


class KrylovSpace:
    """Orthonormal vectors and their images under H: ``Q (B, m, d)`` and ``Y = Q H``.

    Args:
        product: From ``(B, m, d)`` to ``(B, m, d)``: H of each row times each of its vectors.
        start: ``(B, b, d)``, the first block.
    """

    def __init__(self, product: Product, start: Tensor):
        self.product = product
        self.vectors = start.new_empty(len(start), 0, start.shape[-1])
        self.images = self.vectors
        self._last = 0
        self._append(start, None)

    @property
    def size(self) -> int:
        """How many vectors there are, zero ones included."""
        return self.vectors.shape[1]

    def extend(self) -> None:
        """Append the part of the last block's images that is new: one more power of H.

        Nothing is appended where the space holds those images already.
        """
        if not self._last:
            return
        sizes = self.images.abs().amax(-1, keepdim=True)
        rounding = _ROUNDING * torch.finfo(sizes.dtype).eps * sizes.amax(1, keepdim=True)
        seen = sizes > rounding
        self._append((self.images * seen)[:, self.size - self._last :], None)

    def append(self, vectors: Tensor, images: Tensor) -> None:
        """Append vectors ``(B, b, d)`` whose images under H are known; nothing is asked."""
        self._append(vectors, images)

    def truncated(self, sizes: Tensor) -> KrylovSpace:
        """Return the space with only the first ``sizes[row]`` vectors of each row."""
        kept = KrylovSpace.__new__(KrylovSpace)
        largest = int(sizes.max())
        index = torch.arange(largest, device=sizes.device)
        inside = (index < sizes[:, None])[..., None]
        kept.product, kept._last = self.product, self._last
        kept.vectors = self.vectors[:, :largest] * inside
        kept.images = self.images[:, :largest] * inside
        return kept

    def rows(self, mask: Tensor) -> KrylovSpace:
        """Return the space of some rows."""
        kept = KrylovSpace.__new__(KrylovSpace)
        kept.product, kept._last = _of_rows(self.product, mask), self._last
        kept.vectors, kept.images = self.vectors[mask], self.images[mask]
        return kept

    def projected(self) -> Tensor:
        """Return ``Q H Q^T (B, m, m)`` in float64, symmetric."""
        product = _inner(self.vectors, self.images)
        return (product + product.mT) / 2

    def ritz(self, rank: int) -> Ritz:
        """Return the ``rank`` largest Ritz pairs."""
        values, vectors = ops.eigh(self.projected())
        values, vectors = values.flip(-1)[:, :rank], vectors.flip(-1)[:, :, :rank]
        coefficients = vectors.mT.to(self.vectors)
        lifted = coefficients @ self.vectors
        residual = coefficients @ self.images - values[..., None].to(lifted) * lifted
        return Ritz(values, lifted.mT, residual.double().norm(dim=-1))

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

    def _orthonormal(self, block: Tensor, smallest: float) -> tuple[Tensor, Tensor]:
        """Return orthonormal new directions of a block, and the coefficients that made them.

        ``(new, mixing)`` with ``new = mixing [vectors; block]``. Twice Gram-Schmidt, as rounding
        undoes one.
        """
        n_rows, b, _ = block.shape
        m = self.size
        known, new = self.vectors, []
        mixing = block.new_zeros(n_rows, b, m + b)
        for i in range(b):
            # Images of a nearly certain prediction are so small that their squares would vanish.
            largest = block[:, i : i + 1].abs().amax(-1, keepdim=True)
            unit = torch.where(largest > 0, 1 / largest, 0)
            x = block[:, i : i + 1] * unit
            row = mixing.new_zeros(n_rows, 1, m + b)
            row[:, :, m + i : m + i + 1] = unit
            length = x.norm(dim=-1, keepdim=True)
            for _ in range(2):
                weight = x @ known.mT
                x = x - weight @ known
                row[:, :, :m] -= weight[:, :, :m]
                if i:
                    row -= weight[:, :, m:] @ mixing[:, :i]
            left = x.norm(dim=-1, keepdim=True)
            scale = torch.where(left > smallest * length, 1 / left, 0)
            mixing[:, i : i + 1] = row * scale
            new.append(x * scale)
            known = torch.cat([known, new[-1]], dim=1)
        return torch.cat(new, dim=1), mixing

    def _append(self, block: Tensor, images: Tensor | None) -> None:
        """Append what is new in a block, and ask for its images unless they are given."""
        rounding = _ROUNDING * torch.finfo(block.dtype).eps
        new, mixing = self._orthonormal(block, rounding if images is None else _DEPENDENT)
        kept = (new != 0).any(-1).any(0)
        new, mixing = new[:, kept], mixing[:, kept]
        if images is None:
            images = self.product(new) if new.shape[1] else new
        else:
            images = mixing @ torch.cat([self.images, images], dim=1)
        self._last = new.shape[1]
        self.vectors = torch.cat([self.vectors, new], dim=1)
        self.images = torch.cat([self.images, images], dim=1)


def _of_rows(product: Product, mask: Tensor) -> Product:
    """Return a product of some rows, given that of all: the others multiply zero."""

    def call(vectors: Tensor) -> Tensor:
        every = vectors.new_zeros(len(mask), *vectors.shape[1:])
        every[mask] = vectors
        return product(every)[mask]

    return call


def _inner(x: Tensor, y: Tensor) -> Tensor:
    """Return ``x y^T`` with blocks of columns added up in float64."""
    total = x.new_zeros(*x.shape[:-1], y.shape[-2], dtype=torch.float64)
    for start in range(0, x.shape[-1], 4096):
        part = slice(start, start + 4096)
        total += (x[..., part] @ y[..., part].mT).double()
    return total
