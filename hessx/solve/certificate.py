"""How far a solution of the sparse program is from the best: an upper bound of the gap."""

from __future__ import annotations

import torch
from torch import Tensor

from hessx.solve.products import dot


def relative_gap(supergradient: Tensor, concavity: Tensor, objective: Tensor) -> Tensor:
    """Bound the relative gap of an objective by a supergradient there.

    Strong concavity bounds the gap by ``|s|^2 / (2 concavity)``. The best objective is no smaller
    than the one reached, so the gap relative to the best is no larger than that relative to it.

    Args:
        supergradient: ``(B, M, d)``, of the objective at the solution.
        concavity: ``(B, 1)``, ``2 lambda2 - L``.
        objective: ``(B, M)``, reached.

    Returns:
        ``(B, M)``: 0 for a supergradient of 0, else infinite for an objective <= 0.
    """
    bound = dot(supergradient, supergradient) / (2 * concavity)
    ratio = torch.where(objective > 0, bound / objective, torch.inf)
    return torch.where(bound == 0, 0.0, ratio)
