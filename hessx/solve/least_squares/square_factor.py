"""Cholesky factors of the second moments of squares: made once for a size, sides and ridge."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from threading import Lock
from typing import Any

import torch
from torch import Tensor

from hessx.solve.least_squares.square_matrices import kronecker_gram

# Condition above which a ridge is added on its own: four of sixteen digits are left.
CONDITION_BOUND = 1e12
# Condition above which a factor owes its existence to rounding errors.
_SINGULAR = 1e15
# All factors that are kept, together: six of 48 x 48 pixels, a hundred of 28 x 28.
_CACHE_BYTES = 2**28
# Vectors and steps of the iterations that estimate extreme eigenvalues, to some percent.
_VECTORS, _STEPS = 4, 8


@dataclass(frozen=True)
class Factor:
    """A factored second moment.

    Attributes:
        lower: ``L`` with ``L L^T = M + ridge I``, not to be written to.
        ridge: What was added.
        condition: Estimate of the condition number of ``M + ridge I``.
    """

    lower: Tensor
    ridge: float
    condition: float

    def solve(self, rhs: Tensor) -> Tensor:
        """Return ``(M + ridge I)^-1`` applied to rows ``(T, p)``."""
        # torch.cholesky_solve would copy the factor, which takes longer than to solve.
        half = torch.linalg.solve_triangular(self.lower.mT, rhs, upper=True, left=False)
        return torch.linalg.solve_triangular(self.lower, half, upper=False, left=False)


class _Cache:
    """Factors by what made them, the ones used last kept; several threads may ask at once."""

    def __init__(self) -> None:
        self._factors: OrderedDict[Any, Factor] = OrderedDict()
        self._lock = Lock()

    def get(self, key: Any) -> Factor:
        # Made under the lock: a second thread that asks for the same factor waits for it.
        with self._lock:
            if key not in self._factors:
                self._factors[key] = _make(*key)
            self._factors.move_to_end(key)
            while len(self._factors) > 1 and self._bytes() > _CACHE_BYTES:
                self._factors.popitem(last=False)
            return self._factors[key]

    def _bytes(self) -> int:
        return sum(factor.lower.nbytes for factor in self._factors.values())


_cache = _Cache()


def square_factor(
    p1: int, p2: int, sides: tuple[int, ...], ridge: float | None, device: torch.device
) -> Factor:
    """Return the factor of ``sum_s A_s (x) A_s / N + ridge I``.

    Args:
        p1: Rows of pixels.
        p2: Columns of pixels.
        sides: Sides of the squares.
        ridge: What to add; None for nothing unless the condition is above ``CONDITION_BOUND``, and
            the least that brings it there otherwise.
        device: Where to compute.

    Raises:
        ValueError: If the matrix with the given ridge has no factor.
    """
    return _cache.get((p1, p2, sides, ridge, device))


def _make(
    p1: int, p2: int, sides: tuple[int, ...], ridge: float | None, device: torch.device
) -> Factor:
    moment = kronecker_gram(p1, p2, sides, device)
    moment /= sum((p1 - side + 1) * (p2 - side + 1) for side in sides)
    factor = _factored(moment, ridge or 0.0)
    if ridge is None and (factor is None or factor.condition > CONDITION_BOUND):
        # No entry is negative: the largest row sum bounds the largest eigenvalue.
        ridge = moment.sum(1).max().item() / CONDITION_BOUND
        factor = _factored(moment, ridge)
    if factor is None:
        raise ValueError(
            f"ridge must be larger, or 'auto': squares of sides {list(sides)} alone do not "
            f"determine an explanation of {p1} x {p2} pixels, got ridge = {ridge}"
        )
    return factor


def _factored(moment: Tensor, ridge: float) -> Factor | None:
    """A factor with its condition, or None where there is none."""
    shifted = moment.clone()
    shifted.diagonal().add_(ridge)
    lower, failed = torch.linalg.cholesky_ex(shifted)
    if failed:
        return None
    factor = Factor(lower, ridge, condition=float("nan"))
    largest = _largest_eigenvalue(lambda v: v @ shifted, moment)
    smallest = 1 / _largest_eigenvalue(factor.solve, moment)
    condition = largest / smallest
    return Factor(lower, ridge, condition) if condition < _SINGULAR else None


def _largest_eigenvalue(product: Any, like: Tensor) -> float:
    """Estimate the largest eigenvalue of a symmetric matrix by iterating a few vectors."""
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(len(like), _VECTORS, generator=generator, dtype=torch.float64)
    vectors = torch.linalg.qr(start[:, : len(like)].to(like)).Q.mT
    for _ in range(_STEPS):
        vectors = torch.linalg.qr(product(vectors).mT).Q.mT
    return torch.linalg.eigvalsh(product(vectors) @ vectors.mT)[-1].item()
