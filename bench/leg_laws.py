"""Laws of the perturbation to compare, of one total variance, and a function whose LEG is known."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hessx import ops
from hessx.covariance import Covariance, CovarianceRoot, GridTV, Identity
from hessx.ops.grid.rules import edge_count

_PHASE = math.pi / 4
_NODES = 100


@dataclass(frozen=True)
class Law:
    """Gaussian noise on a grid of ``p1 x p2`` pixels.

    Attributes:
        name: For tables.
        covariance: Up to ``sigma^2``.
        sigma: As :func:`hessx.leg` takes it.
        grid: ``(p1, p2)``.
    """

    name: str
    covariance: Covariance
    sigma: float
    grid: tuple[int, int]

    @property
    def root(self) -> CovarianceRoot:
        """Of the covariance, without sigma."""
        return self.covariance.root(math.prod(self.grid), None, (1, *self.grid))

    def variance(self, g: Tensor) -> float:
        """Return ``g^T Sigma g``, the variance of ``g^T z``, for ``g (p1, p2)``."""
        root = self.root.apply_transpose(g.double().flatten())
        return self.sigma**2 * root.square().sum().item()

    def matrix(self) -> Tensor:
        """Return ``Sigma (p, p)``, float64."""
        root = self.root.apply(torch.eye(self.root.rank, dtype=torch.float64))
        return self.sigma**2 * root.mT @ root

    def draw(self, n: int, seed: int = 0) -> Tensor:
        """Return ``n`` draws ``(n, p1, p2)``, float64."""
        normal = ops.normal(n, self.root.rank, seed=seed, dtype=torch.float64)
        return self.sigma * self.root.apply(normal).reshape(n, *self.grid)


def laws(sigma: float, grid: tuple[int, int]) -> tuple[Law, Law]:
    """Return the proposed law and independent noise with the same ``trace Sigma``.

    The trace of ``D^T D + 1 1^T / p`` is ``2 m + 1``: each of the m edges counts at both its ends.
    """
    p1, p2 = grid
    edges = edge_count(p1, p2)
    independent = sigma * math.sqrt((2 * edges + 1) / (p1 * p2))
    return Law("GridTV", GridTV(), sigma, grid), Law("independent", Identity(), independent, grid)


@dataclass(frozen=True, eq=False)
class KnownFunction:
    """``f(x) = signal tanh(<slope, x>) + rest cos(<wave, x> + pi / 4)``, explained at 0.

    The cosine stands for what a linear model cannot fit. Along a wave much shorter than the noise
    it adds variance to f and nothing to gamma.

    Attributes:
        slope: ``(p1, p2)``.
        wave: ``(p1, p2)``.
        signal: Size of the first term.
        rest: Size of the second.
    """

    slope: Tensor
    wave: Tensor
    signal: float
    rest: float

    def __call__(self, x: Tensor) -> Tensor:
        """Return ``f``: ``(N, p1, p2)`` to ``(N,)``."""
        x = x.flatten(1)
        u, v = x @ self.slope.to(x).flatten(), x @ self.wave.to(x).flatten()
        return self.signal * u.tanh() + self.rest * (v + _PHASE).cos()

    def gamma(self, law: Law) -> Tensor:
        """Return the LEG ``(p1, p2)``: the mean gradient, by Stein's lemma.

        ``<slope, z>`` and ``<wave, z>`` are normal. The mean of ``1 - tanh^2`` is a quadrature,
        that of the sine has a closed form.
        """
        steepness = _normal_mean(lambda u: 1 - np.tanh(u) ** 2, law.variance(self.slope))
        sine = math.sin(_PHASE) * math.exp(-law.variance(self.wave) / 2)
        return self.signal * steepness * self.slope.double() - self.rest * sine * self.wave.double()


def _normal_mean(function: Callable[[np.ndarray], np.ndarray], variance: float) -> float:
    """Return ``E function(u)`` for ``u ~ N(0, variance)``."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(_NODES)
    return float(weights @ function(math.sqrt(variance) * nodes) / weights.sum())
