"""Cholesky factors of second moments, with a ridge where one is needed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from hessx import ops
from hessx.solve.krylov import KrylovSpace

# Condition above which a ridge is added on its own. A singular moment with it is as good as a
# pseudo-inverse to 1e-6: the rounding of right-hand sides, 1e-16, is magnified that much.
CONDITION_BOUND = 1e10
# Eigenvalues are estimated to this, by at most so many products with two vectors.
_ACCURACY, _STEPS = 1e-2, 20


@dataclass(frozen=True)
class Factor:
    """A factored second moment.

    Attributes:
        lower: ``L`` with ``L L^T = M + ridge I``, not to be written to.
        ridge: What was added.
        condition: Condition number, to a few percent: of M with a ridge that was given; else of M
            alone, inf beyond ``CONDITION_BOUND``.
    """

    lower: Tensor
    ridge: float
    condition: float

    def solve(self, rhs: Tensor) -> Tensor:
        """Return ``(M + ridge I)^-1`` applied to rows ``(T, k)``."""
        return _solved(self.lower, rhs)


def factored(moment: Tensor, ridge: float | None) -> Factor:
    """Factor a second moment ``M (k, k)``, float64.

    Args:
        moment: Symmetric positive semidefinite.
        ridge: What to add; None for nothing unless the condition is above ``CONDITION_BOUND``, and
            the least that brings it there otherwise.

    Raises:
        ValueError: If the matrix with the given ridge has no factor.
    """
    shifted = _shifted(moment, ridge or 0.0)
    largest = _largest_eigenvalue(lambda v: v @ shifted, moment)
    lower, failed = torch.linalg.cholesky_ex(shifted)
    smallest = 0.0
    if not failed:
        smallest = 1 / _largest_eigenvalue(lambda v: _solved(lower, v), moment)
    if CONDITION_BOUND * smallest >= largest > 0:
        return Factor(lower, ridge or 0.0, largest / smallest)
    if ridge is not None:
        if failed:
            raise ValueError(
                f"ridge must be larger, or 'auto': the perturbations do not determine {len(moment)}"
                f" coordinates, got ridge = {ridge}"
            )
        return Factor(lower, ridge, largest / smallest)
    ridge = (largest - CONDITION_BOUND * smallest) / (CONDITION_BOUND - 1)
    # Perturbations of nothing have the explanation 0.
    ridge = max(ridge, torch.finfo(torch.float64).tiny)
    return Factor(torch.linalg.cholesky(_shifted(moment, ridge)), ridge, torch.inf)


def _shifted(moment: Tensor, ridge: float) -> Tensor:
    shifted = moment.clone()
    shifted.diagonal().add_(ridge)
    return shifted


def _solved(lower: Tensor, rhs: Tensor) -> Tensor:
    # torch.cholesky_solve would copy the factor, which takes longer than to solve.
    half = torch.linalg.solve_triangular(lower.mT, rhs, upper=True, left=False)
    return torch.linalg.solve_triangular(lower, half, upper=False, left=False)


def _largest_eigenvalue(product: Callable[[Tensor], Tensor], like: Tensor) -> float:
    """Estimate the largest eigenvalue of a positive semidefinite matrix, from below."""
    n_vectors = min(2, len(like))
    start = ops.normal(n_vectors, len(like), seed=0, dtype=torch.float64, device=like.device)
    space = KrylovSpace.started(lambda v: product(v[0])[None], start[None])
    for _ in range(_STEPS):
        top = space.ritz(1)
        if space.complete.all() or top.residuals[0, 0] <= _ACCURACY * top.values[0, 0]:
            break
        space.extend()
    return space.ritz(1).values[0, 0].item()
