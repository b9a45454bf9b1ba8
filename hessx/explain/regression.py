"""Slopes of a linear model with known second moments of its covariates, from streamed sums."""

from __future__ import annotations

import torch
from torch import Tensor

from hessx import ops


class Regression:
    """Sums of covariates ``w (n, k)`` and responses ``y (n, c)``, from which slopes follow.

    With ``w = Sigma^+ t`` for displacements ``t`` of covariance ``Sigma`` the slopes are
    ``E[y w]``, and each sample's share ``y_i w_i`` gives the standard error. Both should be of the
    order of 1, y without a mean that dwarfs its spread: products are formed in their precision.

    Args:
        n_covariates: ``k``.
        n_responses: ``c``.
        device: Where the sums are kept, in float64.
    """

    def __init__(self, n_covariates: int, n_responses: int, device: torch.device):
        def zeros(*shape: int) -> Tensor:
            return torch.zeros(shape, dtype=torch.float64, device=device)

        self.n = 0
        self._n_responses = n_responses
        self._w, self._y = zeros(n_covariates), zeros(n_responses)
        self._wy = zeros(n_covariates, n_responses)
        self._w2 = zeros(n_covariates)
        # Of w^2 with y and with y^2.
        self._w2y = zeros(n_covariates, 2 * n_responses)

    def add(self, w: Tensor, y: Tensor) -> None:
        """Add samples ``w (count, k)`` and ``y (count, c)``, of one dtype."""
        self.n += len(w)
        for total, part in zip((self._w, self._y, self._wy), ops.cross_moments(w, y), strict=True):
            total += part
        w2, _, w2y = ops.cross_moments(w.square(), torch.cat([y, y.square()], 1))
        self._w2 += w2
        self._w2y += w2y

    def slopes(self, centred: bool) -> tuple[Tensor, Tensor]:
        """Return the slopes and their standard errors, ``(c, k)`` each, float64.

        Args:
            centred: Take ``sum_i (y_i - mean y) w_i / (n - 1)`` in place of ``sum_i y_i w_i / n``:
                unbiased as well, and free of the variance that the mean of ``y`` brings.
        """
        n = self.n
        mean = self._y / n if centred else torch.zeros_like(self._y)
        freedom = n - 1 if centred else n
        slopes = (self._wy - mean * self._w[:, None]) / freedom
        w2y, w2y2 = self._w2y.split(self._n_responses, 1)
        second = (w2y2 - 2 * mean * w2y + mean.square() * self._w2[:, None]) * n / freedom**2
        variance = (second - slopes.square()).clamp(min=0) / max(n - 1, 1)
        return slopes.mT, variance.sqrt().mT
