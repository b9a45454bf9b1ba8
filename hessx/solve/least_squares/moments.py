"""Sums over perturbations and differences from which a least-squares explanation follows."""

from __future__ import annotations

import torch
from torch import Tensor

from hessx import ops


class DrawMoments:
    """Means of draws ``u`` and of ``u u^T``, float64.

    Args:
        k: Numbers of a draw.
        device: Where the sums are kept.
        centred: Whether to sum about a point near the mean, that of the first draws, so that no
            digits are lost where the mean is far from 0.
        binary: Whether draws are 0 and 1.
        diagonal: Whether only the diagonal of ``u u^T`` is wanted.

    Attributes:
        centred: As given.
        weight: Of all draws.
    """

    def __init__(
        self,
        k: int,
        device: torch.device,
        *,
        centred: bool = False,
        binary: bool = False,
        diagonal: bool = False,
    ):
        def zeros(*shape: int) -> Tensor:
            return torch.zeros(shape, dtype=torch.float64, device=device)

        self.weight = 0.0
        self._first = zeros(k)
        self._second = zeros(k) if diagonal else zeros(k, k)
        self._centre: Tensor | None = None
        self.centred = centred
        # Sums of zeros and ones are exact in float32.
        self._exact = binary and not centred

    def add(self, u: Tensor, weights: Tensor | None) -> None:
        """Add draws ``u (count, k)`` with weights ``(count,)``, float64, 1 where not given."""
        if self.centred and self._centre is None:
            self._centre = u.double().mean(0)
        self.weight += len(u) if weights is None else weights.sum().item()
        u = self.about_centre(u)
        weighted = u.double() if weights is None else weights[:, None] * u
        self._first += weighted.sum(0)
        if self._second.dim() == 1:
            self._second += (weighted * u).sum(0)
        elif self._exact and weights is None:
            self._second += u.mT @ u
        else:
            self._second += weighted.mT @ u.double()

    def about_centre(self, u: Tensor) -> Tensor:
        """Return draws as they are summed."""
        return u if self._centre is None else u.double() - self._centre

    @property
    def deviation(self) -> Tensor:
        """``E u`` about the centre, ``(k,)``."""
        return self._first / self.weight

    @property
    def mean(self) -> Tensor:
        """``E u``, ``(k,)``."""
        return self.deviation if self._centre is None else self.deviation + self._centre

    @property
    def second(self) -> Tensor:
        """``E u u^T (k, k)`` or its diagonal ``(k,)``; the covariance where draws are centred."""
        second = self._second / self.weight
        if not self.centred:
            return second
        rest = self.deviation
        return second - (rest.square() if second.dim() == 1 else torch.outer(rest, rest))


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
        """Add draws ``u (count, k)``, ``differences (count, c)``, weights as for `DrawMoments`."""
        self._weight += len(u) if weights is None else weights.sum().item()
        weighted = differences if weights is None else weights[:, None] * differences
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
