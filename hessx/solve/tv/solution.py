"""What the solvers of the total-variation program return."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class TVSolution:
    """Solutions of ``min |D g|_1`` subject to ``|D (g - estimate)|_inf <= radius``.

    Attributes:
        solution: ``(N, M, p1, p2)`` float64, of mean 0. Feasible: that of the network simplex
            exactly, but for radii close to 0 (`hessx.ops.tv_flow`); those of HiGHS and of the
            first-order method to the rounding of their numbers. The optimum is not unique: two
            solvers may differ far more in ``g`` than in the objective.
        objective: ``(N, M)`` float64, ``|D g|_1``.
        gap: ``(N, M)`` float64, an upper bound of ``(objective - optimum) / objective``, from
            ``flow``; 0 where the objective is 0, NaN where numbers overflow.
        flow: ``(N, M, m)`` float64, dual edge flows: circulations, ``D^T flow = 0``. The exact
            solvers give integers.
        iterations: ``(N, M)`` int64: pivots of the exact solvers, steps of the first-order method.
        solver: ``"network-simplex"``, ``"highs"`` or ``"first-order"``.
    """

    solution: Tensor
    objective: Tensor
    gap: Tensor
    flow: Tensor
    iterations: Tensor
    solver: str
