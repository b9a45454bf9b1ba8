"""Cholesky factors of second moments, with a ridge where one is needed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from hessx import ops
from hessx.solve.krylov import KrylovSpace

# Condition above which a ridge is added to a moment of drawn perturbations. A singular one with it
# is as good as a pseudo-inverse to 1e-6: the rounding of right-hand sides, 1e-16, is magnified so.
CONDITION_BOUND = 1e10
# Condition above which a factor owes its existence to rounding errors.
_SINGULAR = 1e15
# Eigenvalues are estimated to this, by at most so many products with two vectors; looking at the
# estimate costs as much as some products.
_ACCURACY, _STEPS, _LOOK = 1e-2, 24, 6


@dataclass(frozen=True)
class Factor:
    """A factored second moment.

    Attributes:
        lower: ``L`` with ``L L^T = M + ridge I``, not to be written to.
        ridge: What was added.
        condition: Condition number of ``M + ridge I``, to some percent.
    """

    lower: Tensor
    ridge: float
    condition: float

    def solve(self, rhs: Tensor) -> Tensor:
        """Return ``(M + ridge I)^-1`` applied to rows ``(T, k)``."""
        # torch.cholesky_solve would copy the factor, which takes longer than to solve.
        half = torch.linalg.solve_triangular(self.lower.mT, rhs, upper=True, left=False)
        return torch.linalg.solve_triangular(self.lower, half, upper=False, left=False)


def factor_with(moment: Tensor, ridge: float) -> Factor | None:
    """Return the factor of ``M + ridge I`` for ``M (k, k)``, float64, or None if there is none."""
    shifted = moment.clone()
    shifted.diagonal().add_(ridge)
    lower, failed = torch.linalg.cholesky_ex(shifted)
    if failed:
        return None
    factor = Factor(lower, ridge, condition=torch.nan)
    largest = _largest_eigenvalue(lambda v: v @ shifted, moment)
    condition = largest * _largest_eigenvalue(factor.solve, moment)
    return Factor(lower, ridge, condition) if condition < _SINGULAR else None


def factored(moment: Tensor, ridge: float | None) -> tuple[Factor | None, float]:
    """Factor a second moment of drawn perturbations.

    Args:
        moment: ``M (k, k)``, positive semidefinite, float64.
        ridge: What to add; None for nothing unless the condition is above ``CONDITION_BOUND``, and
            the least that brings it there otherwise.

    Returns:
        The factor, and the condition to report: that of the factor, or inf where None had to add
        something. With None and M = 0 there is no factor: no ridge is small beside nothing.

    Raises:
        ValueError: If the matrix with the given ridge has no factor.
    """
    factor = factor_with(moment, ridge or 0.0)
    if ridge is None and (factor is None or factor.condition > CONDITION_BOUND):
        largest = _largest_eigenvalue(lambda v: v @ moment, moment)
        smallest = 0.0 if factor is None else largest / factor.condition
        if not largest > 0:
            return None, torch.inf
        least = (largest - CONDITION_BOUND * smallest) / (CONDITION_BOUND - 1)
        factor = factor_with(moment, least)
        assert factor is not None
        return factor, torch.inf
    if factor is None:
        raise ValueError(
            f"ridge must be larger, or 'auto': the perturbations do not determine {len(moment)} "
            f"coordinates, got ridge = {ridge}"
        )
    return factor, factor.condition


def _largest_eigenvalue(product: Callable[[Tensor], Tensor], like: Tensor) -> float:
    """Estimate the largest eigenvalue of a positive semidefinite matrix, from below."""
    n_vectors = min(2, len(like))
    start = ops.normal(n_vectors, len(like), seed=0, dtype=torch.float64, device=like.device)
    space = KrylovSpace.started(lambda v: product(v[0])[None], start[None])
    for step in range(1, _STEPS + 1):
        space.extend()
        if space.complete.all() or step % _LOOK == 0:
            top = space.ritz(1)
            if space.complete.all() or top.errors()[0, 0] <= _ACCURACY * top.values[0, 0]:
                break
    return top.values[0, 0].item()
