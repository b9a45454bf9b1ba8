"""Gaussian perturbations and the whitened coordinates that the estimators work in.

Both classes turn a sample number into a displacement of the input and a vector ``z ~ N(0, I_r)``
such that the estimand is ``E[z g_z^T] / sigma`` with ``g_z`` the pulled-back gradient, and map its
directions back to features.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from hessx.covariance import CovarianceRoot
from hessx.features import FeatureMap
from hessx.perturb.draws import NormalDraws

# Numbers of input-sized draws made again at once.
_NUMBERS_AT_ONCE = 2**22


class Noise(ABC):
    """A Gaussian perturbation of inputs and its whitened coordinates.

    Args:
        features: The map from features to inputs.
        root: Of the covariance that the coordinates are whitened by.
        sigma: The standard deviation in units of ``z``.
        draws: The standard normal vectors by number.

    Attributes:
        features: As given.
        sigma: As given.
        dim: The number of coordinates ``r``.
        identified: ``(k,)`` bool: which features the perturbation reaches.
        estimand: What is perturbed, ``"features"`` or ``"input"``.
    """

    estimand: str

    def __init__(
        self, features: FeatureMap, root: CovarianceRoot, sigma: float, draws: NormalDraws
    ):
        self.features = features
        self.sigma = sigma
        self.dim = root.rank
        self.identified = root.identified
        self._root = root
        self._draws = draws

    @abstractmethod
    def draw(self, first: int, count: int) -> tuple[Tensor, Tensor]:
        """Return ``z (count, r)`` and displacements ``(count, *shape)`` of the numbered samples."""

    @abstractmethod
    def pull(self, g: Tensor) -> Tensor:
        """Return the gradient in ``z`` (without sigma): ``(..., *shape)`` to ``(..., r)``."""

    @abstractmethod
    def expand(self, v: Tensor) -> Tensor:
        """Map directions in ``z`` to features: ``(..., r)`` to ``(..., k)``."""

    def covariance_noise(self, count: int) -> float:
        """See :meth:`NormalDraws.covariance_noise`."""
        return self._draws.covariance_noise(count)

    def coordinates(self, first: int, count: int) -> Tensor:
        """Return ``z (count, r)`` alone."""
        return self.draw(first, count)[0]


class FeatureNoise(Noise):
    """The features themselves are perturbed: ``x = x0 + sigma S A z``.

    The estimand is the Hessian of ``f * N(0, sigma^2 S Sigma S^T)`` along ``S``.
    """

    estimand = "features"

    def draw(self, first: int, count: int) -> tuple[Tensor, Tensor]:
        """See :meth:`Noise.draw`."""
        z = self._draws.draw(first, count)
        return z, self.features.lift(self._root.apply(self.sigma * z))

    def coordinates(self, first: int, count: int) -> Tensor:
        """See :meth:`Noise.coordinates`."""
        return self._draws.draw(first, count)

    def pull(self, g: Tensor) -> Tensor:
        """See :meth:`Noise.pull`."""
        return self._root.apply_transpose(self.features.pull(g))

    def expand(self, v: Tensor) -> Tensor:
        """See :meth:`Noise.expand`."""
        return self._root.whiten_transpose(v)


class InputNoise(Noise):
    """Every input number is perturbed, ``delta ~ N(0, sigma^2 I_d)``; features only sum.

    The estimand is ``S^T H S`` with ``H`` the Hessian of ``f * N(0, sigma^2 I)`` (SmoothHess,
    appendix F.4). With ``R`` a root of ``S^T S = R R^T``, the whitened group sums
    ``z = R^+ S^T delta / sigma`` are standard normal and ``S^T H S = R E[z (R^+ S^T g)^T] R^T /
    sigma``, so group sums feed the same estimator as any other coordinates.
    """

    estimand = "input"

    def draw(self, first: int, count: int) -> tuple[Tensor, Tensor]:
        """See :meth:`Noise.draw`."""
        normal = self._draws.draw(first, count).reshape(count, *self.features.shape)
        return self.pull(normal), self.sigma * normal

    def coordinates(self, first: int, count: int) -> Tensor:
        """See :meth:`Noise.coordinates`: a few input-sized draws at a time."""
        step = max(1, _NUMBERS_AT_ONCE // self.features.shape.numel())
        parts = []
        for start in range(first, first + count, step):
            normal = self._draws.draw(start, min(step, first + count - start))
            parts.append(self.pull(normal.unflatten(1, self.features.shape)))
        return torch.cat(parts)

    def pull(self, g: Tensor) -> Tensor:
        """See :meth:`Noise.pull`."""
        return self._root.whiten(self.features.pull(g))

    def expand(self, v: Tensor) -> Tensor:
        """See :meth:`Noise.expand`."""
        return self._root.apply(v)
