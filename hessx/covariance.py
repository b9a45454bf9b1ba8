"""Covariances of the perturbation over features, up to the factor ``sigma^2``.

A covariance is used through its root: ``Sigma = A A^T`` with ``A`` of full column rank ``r``, so
that ``t = sigma A z`` with ``z ~ N(0, I_r)`` has the law wanted, gradients in ``z`` are ``A^T g``
and a Hessian in ``z`` goes back to features as ``A^+T H_z A^+`` (``A^+`` the pseudo-inverse). Where
Sigma is singular only the part of the Hessian inside its range is identified.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hessx import ops


class CovarianceRoot(ABC):
    """A root ``A`` of the covariance over ``k`` features, of full column rank.

    Attributes:
        rank: The number of columns ``r`` of ``A``.
        identified: ``(k,)`` bool; feature ``j`` is identified when it lies in the range of ``A``.
    """

    rank: int
    identified: Tensor

    @abstractmethod
    def apply(self, z: Tensor) -> Tensor:
        """Return ``A z``: ``(..., r)`` to ``(..., k)``."""

    @abstractmethod
    def apply_transpose(self, g: Tensor) -> Tensor:
        """Return ``A^T g``: ``(..., k)`` to ``(..., r)``."""

    @abstractmethod
    def whiten(self, t: Tensor) -> Tensor:
        """Return ``A^+ t``: ``(..., k)`` to ``(..., r)``."""

    @abstractmethod
    def whiten_transpose(self, v: Tensor) -> Tensor:
        """Return ``A^+T v``: ``(..., r)`` to ``(..., k)``."""

    def precision(self, t: Tensor) -> Tensor:
        """Return ``Sigma^+ t``: ``(..., k)`` to ``(..., k)``."""
        return self.whiten_transpose(self.whiten(t))


class Covariance(ABC):
    """What all covariances share."""

    @abstractmethod
    def root(
        self,
        n_features: int,
        scale: Tensor | None = None,
        grid: tuple[int, int, int] | None = None,
    ) -> CovarianceRoot:
        """Return the root of ``diag(scale) Sigma diag(scale)`` over ``n_features`` features.

        Args:
            n_features: The number of features ``k``.
            scale: ``(k,)``, non-negative, or None for ones.
            grid: ``(channels, p1, p2)``, the grids that the features lie on, or None.

        Raises:
            ValueError: If the covariance was made for another number of features, or needs a grid
                where there is none.
        """


@dataclass(frozen=True)
class Identity(Covariance):
    """Independent features of equal variance: ``Sigma = I``."""

    def root(
        self,
        n_features: int,
        scale: Tensor | None = None,
        grid: tuple[int, int, int] | None = None,
    ) -> CovarianceRoot:
        """See :meth:`Covariance.root`."""
        return _IdentityRoot(n_features) if scale is None else _DiagonalRoot(scale)


@dataclass(frozen=True, eq=False)
class Diagonal(Covariance):
    """Independent features, each with its own variance: ``Sigma = diag(variance)``.

    Args:
        variance: ``(k,)``, finite and >= 0, not all zero. A feature of variance 0 is left where it
            is and not explained.
    """

    variance: Tensor

    def __post_init__(self) -> None:
        variance = torch.as_tensor(self.variance, dtype=torch.float64, device="cpu")
        if variance.dim() != 1:
            raise ValueError(f"variance must be (k,), got {tuple(variance.shape)}")
        check_scale("variance", variance)
        object.__setattr__(self, "variance", variance)

    def root(
        self,
        n_features: int,
        scale: Tensor | None = None,
        grid: tuple[int, int, int] | None = None,
    ) -> CovarianceRoot:
        """See :meth:`Covariance.root`."""
        if len(self.variance) != n_features:
            raise ValueError(f"variance has {len(self.variance)} entries for {n_features} features")
        deviation = self.variance.sqrt()
        return _DiagonalRoot(deviation if scale is None else deviation * scale)


@dataclass(frozen=True, eq=False)
class Factor(Covariance):
    """Correlated features: ``Sigma = A A^T``.

    Args:
        matrix: ``A (k, q)``, finite, not zero; any rank. Singular values below ``1e-10`` of the
            largest (in float64) count as zero.
    """

    matrix: Tensor

    def __post_init__(self) -> None:
        matrix = torch.as_tensor(self.matrix, dtype=torch.float64, device="cpu")
        if matrix.dim() != 2 or 0 in matrix.shape:
            raise ValueError(f"matrix must be (k, q), got {tuple(matrix.shape)}")
        if not matrix.isfinite().all() or not matrix.any():
            raise ValueError("matrix must be finite and not all zero")
        object.__setattr__(self, "matrix", matrix)

    def root(
        self,
        n_features: int,
        scale: Tensor | None = None,
        grid: tuple[int, int, int] | None = None,
    ) -> CovarianceRoot:
        """See :meth:`Covariance.root`."""
        if len(self.matrix) != n_features:
            raise ValueError(f"matrix has {len(self.matrix)} rows for {n_features} features")
        return _DenseRoot(self.matrix if scale is None else scale[:, None] * self.matrix)


@dataclass(frozen=True)
class GridTV(Covariance):
    """Neighbours on a grid pushed apart: ``Sigma = D^T D + 1 1^T / p``, for each channel.

    ``D`` takes the differences between neighbours of a ``p1 x p2`` grid, ``p = p1 p2``. Its
    draws, ``D^T e + 1 w / sqrt(p)`` with ``e`` and ``w`` standard normal, contrast sharply between
    neighbours: of all covariances it makes the constant of LEG-TV's error bound the largest. A
    pixel inside the grid has variance 4 (and ``1/p``), one at an edge 3, in a corner 2. For
    features on a grid: ``Identity`` of pictures ``(H, W)`` or ``(C, H, W)``, and ``Grid``; the
    channels are independent. It takes one sigma for all.

    Source:
        Statistically Consistent Saliency Estimation, section 4.2.
    """

    def root(
        self,
        n_features: int,
        scale: Tensor | None = None,
        grid: tuple[int, int, int] | None = None,
    ) -> CovarianceRoot:
        """See :meth:`Covariance.root`."""
        if grid is None:
            raise ValueError(
                "covariance GridTV needs features on a grid: inputs (B, H, W) or (B, C, H, W) as "
                "they are, or hessx.Grid features"
            )
        if scale is not None:
            raise ValueError("covariance GridTV takes one sigma for all features, got one for each")
        return _GridTVRoot(grid)


class _IdentityRoot(CovarianceRoot):
    def __init__(self, n_features: int):
        self.rank = n_features
        self.identified = torch.ones(n_features, dtype=torch.bool)

    def apply(self, z: Tensor) -> Tensor:
        return z

    def apply_transpose(self, g: Tensor) -> Tensor:
        return g

    def whiten(self, t: Tensor) -> Tensor:
        return t

    def whiten_transpose(self, v: Tensor) -> Tensor:
        return v


class _DiagonalRoot(CovarianceRoot):
    def __init__(self, deviation: Tensor):
        self.identified = deviation > 0
        self.index = self.identified.nonzero().squeeze(1)
        self.deviation = deviation[self.index]
        self.rank = len(self.index)

    def apply(self, z: Tensor) -> Tensor:
        return self._scatter(z * self.deviation.to(z))

    def apply_transpose(self, g: Tensor) -> Tensor:
        return self._gather(g) * self.deviation.to(g)

    def whiten(self, t: Tensor) -> Tensor:
        return self._gather(t) / self.deviation.to(t)

    def whiten_transpose(self, v: Tensor) -> Tensor:
        return self._scatter(v / self.deviation.to(v))

    def _gather(self, t: Tensor) -> Tensor:
        return t[..., self.index.to(t.device)]

    def _scatter(self, z: Tensor) -> Tensor:
        out = z.new_zeros(*z.shape[:-1], len(self.identified))
        out[..., self.index.to(z.device)] = z
        return out


class _DenseRoot(CovarianceRoot):
    """The thin singular value decomposition ``A = Q diag(s) P^T`` gives the root ``Q diag(s)``."""

    def __init__(self, matrix: Tensor):
        q, s, _ = torch.linalg.svd(matrix, full_matrices=False)
        kept = s > 1e-10 * s[0]
        self.directions, self.deviation = q[:, kept], s[kept]
        self.rank = int(kept.sum())
        # 1 - |P e_j|^2 is rounding (about 1e-15) when e_j lies in the range, of order 1 when not.
        self.identified = self.directions.square().sum(1) > 1 - 1e-8

    def apply(self, z: Tensor) -> Tensor:
        return (z * self.deviation.to(z)) @ self.directions.to(z).mT

    def apply_transpose(self, g: Tensor) -> Tensor:
        return (g @ self.directions.to(g)) * self.deviation.to(g)

    def whiten(self, t: Tensor) -> Tensor:
        return (t @ self.directions.to(t)) / self.deviation.to(t)

    def whiten_transpose(self, v: Tensor) -> Tensor:
        return (v / self.deviation.to(v)) @ self.directions.to(v).mT


class _GridTVRoot(CovarianceRoot):
    """The symmetric root, in the eigenvectors of ``D^T D`` (cosines)."""

    def __init__(self, grid: tuple[int, int, int]):
        self.grid = grid
        self.rank = grid[0] * grid[1] * grid[2]
        self.identified = torch.ones(self.rank, dtype=torch.bool)

    def apply(self, z: Tensor) -> Tensor:
        return self._power(z, 0.5)

    def apply_transpose(self, g: Tensor) -> Tensor:
        return self._power(g, 0.5)

    def whiten(self, t: Tensor) -> Tensor:
        return self._power(t, -0.5)

    def whiten_transpose(self, v: Tensor) -> Tensor:
        return self._power(v, -0.5)

    def precision(self, t: Tensor) -> Tensor:
        return self._power(t, -1.0)

    def _power(self, t: Tensor, exponent: float) -> Tensor:
        on_grid = t.reshape(*t.shape[:-1], *self.grid)
        return ops.grid_spectral(on_grid, exponent, 1.0).reshape(t.shape)


def check_sigma(sigma: Any, n_features: int) -> tuple[float, Tensor | None]:
    """Return a number and, for a sigma per feature, the scales that it multiplies.

    Raises:
        TypeError: If sigma is not of numbers.
        ValueError: If sigma is neither a number > 0 nor one per feature, >= 0 and not all 0.
    """
    try:
        if isinstance(sigma, bool):
            raise TypeError
        value = torch.as_tensor(sigma, dtype=torch.float64, device="cpu")
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"sigma must be a number or one per feature, got {sigma!r}") from error
    if value.dim() == 0:
        if not (value.isfinite() and value > 0):
            raise ValueError(f"sigma must be > 0 and finite, got {sigma}")
        return value.item(), None
    if value.shape != (n_features,):
        raise ValueError(
            f"sigma must be a number or one per feature ({n_features},), "
            f"got shape {tuple(value.shape)}"
        )
    check_scale("sigma", value)
    # Whitened coordinates of unit scale keep the relative error free of the units of sigma.
    largest = value.max().item()
    return largest, value / largest


def check_scale(name: str, value: Tensor) -> None:
    """Raise ValueError unless ``value`` is finite, non-negative and not all zero."""
    if not value.isfinite().all():
        raise ValueError(f"{name} must be finite, got {value[~value.isfinite()][0].item()}")
    if (value < 0).any():
        raise ValueError(f"{name} must be >= 0 everywhere, got {value.min().item()}")
    if not value.any():
        raise ValueError(f"{name} must not be all zero")
