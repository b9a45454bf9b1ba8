"""The least squares of differences on perturbations, row by row of a batch that shares draws."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hessx.solve.least_squares.factor import Factor, factored


@dataclass(frozen=True)
class System:
    """For R inputs and T targets: ``min_w E[((m + u)^T w - d)^2]``, ``E u = 0`` where m is given.

    The second moment of the draws ``M = E u u^T`` is shared by all inputs; what an input adds to
    every draw is a rank-one update of it, ``M + m m^T``.

    Attributes:
        cross: ``E[u d]``, ``(R, T, k)``, float64; with ``offset``, the covariance of u and d.
        square: ``E[d^2]``, ``(R, T)``.
        mean: ``E[d]``, ``(R, T)``.
        offset: ``m (R, k)``, or None for 0 (u then need not have mean 0).
        total: ``(R, T)`` what the coordinates have to add up to, or None. Not with an offset.
        reachable: ``(R, k)`` bool, which coordinates are not 0, or None for all.
    """

    cross: Tensor
    square: Tensor
    mean: Tensor
    offset: Tensor | None = None
    total: Tensor | None = None
    reachable: Tensor | None = None

    def infidelity(self, w: Tensor, image: Tensor) -> Tensor:
        """Return ``E[((m + u)^T w - d)^2]``, ``(R, T)``.

        Args:
            w: ``(R, T, k)``.
            image: ``M w``.
        """
        spread = (w * (image - 2 * self.cross)).sum(-1) + self.square
        if self.offset is not None:
            # Of d about its mean; what is left of the mean is a term of its own.
            miss = (w * self.offset[:, None]).sum(-1) - self.mean
            spread = spread - self.mean.square() + miss.square()
        return spread.clamp(min=0)


@dataclass(frozen=True)
class Solution:
    """The optimal coordinates.

    Attributes:
        w: ``(R, T, k)``, float64.
        infidelity: ``(R, T)``.
        condition: ``(R,)``, see `Factor`.
        ridge: ``(R,)``.
    """

    w: Tensor
    infidelity: Tensor
    condition: Tensor
    ridge: Tensor


def solve(system: System, second: Tensor, ridge: float | None) -> Solution:
    """Solve by a Cholesky factor of the second moment.

    Args:
        system: The right-hand sides.
        second: ``M (k, k)``, float64.
        ridge: As for `factored`.
    """
    cross, reachable = system.cross, system.reachable
    w = torch.zeros_like(cross)
    condition, added = cross.new_zeros(2, len(cross))
    if reachable is None:
        factor = factored(second, ridge)
        w = _solved(factor, cross, system.offset, system.mean, system.total)
        condition.fill_(factor.condition)
        added.fill_(factor.ridge)
    else:
        patterns, owner = reachable.unique(dim=0, return_inverse=True)
        for number, pattern in enumerate(patterns):
            rows = (owner == number).nonzero()[:, 0]
            if not pattern.any():
                condition[rows] = torch.inf
                continue
            kept = pattern.nonzero()[:, 0]
            factor = factored(second[kept][:, kept], ridge)
            offset = None if system.offset is None else system.offset[rows][:, kept]
            total = None if system.total is None else system.total[rows]
            found = _solved(factor, cross[rows][..., kept], offset, system.mean[rows], total)
            w[rows[:, None], :, kept] = found.transpose(1, 2)
            condition[rows], added[rows] = factor.condition, factor.ridge
    return Solution(w, system.infidelity(w, w @ second), condition, added)


def _solved(
    factor: Factor, cross: Tensor, offset: Tensor | None, mean: Tensor, total: Tensor | None
) -> Tensor:
    """Return the coordinates ``(R, T, k)``."""
    w = factor.solve(cross.flatten(0, 1)).view_as(cross)
    if offset is not None:
        # (M + m m^T) w = cross + m mean, with m^T w on the right: Sherman and Morrison.
        answer = factor.solve(offset)
        left = mean - (w * offset[:, None]).sum(-1)
        share = left / (1 + (answer * offset).sum(-1))[:, None]
        w = w + share[..., None] * answer[:, None]
    if total is not None:
        # Lagrange's multiplier of sum w = total.
        answer = factor.solve(cross.new_ones(1, cross.shape[-1]))[0]
        share = (total - w.sum(-1)) / answer.sum()
        w = w + share[..., None] * answer
    return w
