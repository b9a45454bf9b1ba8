"""Sums over perturbations and differences from which a least-squares explanation follows."""

from __future__ import annotations

import torch
from torch import Tensor

from hessx import ops


class DrawMoments:
    """``sum_i p_i``, ``sum_i p_i u_i`` and ``sum_i p_i u_i u_i^T`` of draws ``u``, float64.

    Args:
        k: Numbers of a draw.
        device: Where the sums are kept.
        binary: Whether draws are 0 and 1.
    """

    def __init__(self, k: int, device: torch.device, *, binary: bool = False):
        self._weight = 0.0
        self._first = torch.zeros(k, dtype=torch.float64, device=device)
        self._second = torch.zeros(k, k, dtype=torch.float64, device=device)
        self._binary = binary

    def add(self, u: Tensor, weights: Tensor | None) -> None:
        """Add draws ``u (count, k)`` with weights ``(count,)``, float64, 1 where not given."""
        if weights is not None:
            u = u.double()
            self._weight += weights.sum().item()
            self._first += weights @ u
            self._second += (weights[:, None] * u).mT @ u
            return
        self._weight += len(u)
        self._first += u.sum(0, dtype=torch.float64)
        # Sums of zeros and ones are exact in float32.
        exact = u if self._binary else u.double()
        self._second += (exact.mT @ exact).double()

    @property
    def mean(self) -> Tensor:
        """``E u``, ``(k,)``."""
        return self._first / self._weight

    @property
    def second(self) -> Tensor:
        """``E u u^T``, ``(k, k)``."""
        return self._second / self._weight

    @property
    def covariance(self) -> Tensor:
        """``E u u^T - E u E u^T``; draws should be given about a point near their mean."""
        return self.second - torch.outer(self.mean, self.mean)


class DifferenceMoments:
    """``E d u``, ``E d`` and ``E d^2`` of draws ``u`` and c differences ``d``, float64.

    Args:
        k: Numbers of a draw.
        c: How many differences a draw has.
        device: Where the sums are kept.
    """

    def __init__(self, k: int, c: int, device: torch.device):
        self._weight = 0.0
        self._cross = torch.zeros(c, k, dtype=torch.float64, device=device)
        self._first = torch.zeros(c, dtype=torch.float64, device=device)
        self._square = torch.zeros(c, dtype=torch.float64, device=device)

    def add(self, u: Tensor, differences: Tensor, weights: Tensor | None) -> None:
        """Add draws ``u (count, k)``, ``differences (count, c)`` and weights as for `DrawMoments`."""
        weighted = differences if weights is None else weights[:, None] * differences
        self._weight += len(u) if weights is None else weights.sum().item()
        first, _, cross = ops.cross_moments(weighted, u.double())
        self._first += first
        self._cross += cross
        self._square += (weighted * differences).sum(0)

    @property
    def cross(self) -> Tensor:
        """``E d u``, ``(c, k)``."""
        return self._cross / self._weight

    @property
    def mean(self) -> Tensor:
        """``E d``, ``(c,)``."""
        return self._first / self._weight

    @property
    def square(self) -> Tensor:
        """``E d^2``, ``(c,)``."""
        return self._square / self._weight
