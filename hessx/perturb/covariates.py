"""Gaussian displacements of the features with the covariates that regress on them."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from hessx import ops
from hessx.covariance import CovarianceRoot, GridTV
from hessx.perturb.draws import NormalDraws


class Covariates(ABC):
    """Displacements ``t ~ N(0, Sigma)`` of ``k`` features by number, and ``w = sigma Sigma^+ t``.

    The slopes of the best linear model of ``y`` in ``t`` are ``E[y w] / sigma``; without sigma the
    covariates are of the order of 1 whatever the units of the inputs.

    Args:
        root: Of the covariance, without ``sigma``.
        sigma: ``Sigma = sigma^2`` times the covariance.
    """

    def __init__(self, root: CovarianceRoot, sigma: float):
        self.root = root
        self.sigma = sigma

    @abstractmethod
    def draw(self, first: int, count: int) -> tuple[Tensor, Tensor]:
        """Return ``t`` and ``w``, ``(count, k)`` each, of samples ``first ...``."""


class RootCovariates(Covariates):
    """``t = sigma A z`` and ``w = A^+T z`` from standard normal ``z``.

    Args:
        root: As for `Covariates`.
        sigma: As for `Covariates`.
        draws: The standard normal vectors by number.
    """

    def __init__(self, root: CovarianceRoot, sigma: float, draws: NormalDraws):
        super().__init__(root, sigma)
        self._draws = draws

    def draw(self, first: int, count: int) -> tuple[Tensor, Tensor]:
        """See :meth:`Covariates.draw`."""
        z = self._draws.draw(first, count)
        return self.sigma * self.root.apply(z), self.root.whiten_transpose(z)


class GridTVCovariates(Covariates):
    """The same for `hessx.covariance.GridTV`, whose draws need no root.

    Args:
        grid: ``(channels, p1, p2)``.
        sigma: As for `Covariates`.
        seed: Key of the generator.
        dtype: float32 or float64.
        device: Where the draws are made.
    """

    def __init__(
        self,
        grid: tuple[int, int, int],
        sigma: float,
        seed: int,
        dtype: torch.dtype,
        device: torch.device,
    ):
        channels, p1, p2 = grid
        super().__init__(GridTV().root(channels * p1 * p2, grid=grid), sigma)
        self._grid = grid
        self._seed = seed
        self._dtype = dtype
        self._device = device

    def draw(self, first: int, count: int) -> tuple[Tensor, Tensor]:
        """See :meth:`Covariates.draw`."""
        channels, p1, p2 = self._grid
        t = ops.grid_normal(
            channels * count,
            p1,
            p2,
            seed=self._seed,
            first_sample=channels * first,
            dtype=self._dtype,
            device=self._device,
        ).reshape(count, -1)
        return self.sigma * t, self.root.precision(t)
