"""Coordinates: which numbers are perturbed and explained.

A feature specification (``Identity``, ``Grid``, ``Segments``, ``Basis``) says how ``k`` features
move the input, ``x = x0 + S t`` with ``t`` in R^k; ``bind(shape)`` turns it into a
:class:`FeatureMap` for inputs of one shape, which applies ``S`` (``lift``) and ``S^T`` (``pull``)
without forming ``S`` where its structure allows.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import one_hot


class FeatureMap(ABC):
    """The linear map ``S`` from ``k`` features to inputs of one shape.

    Attributes:
        shape: Shape of one input, without the batch dimension.
        n_features: The number of features ``k``.
        feature_shape: Shape in which the features are shown, ``k`` numbers: the input's own, a
            coarse picture's, or ``(k,)``.
        grid: ``(channels, p1, p2)`` where the features lie on grids of pixels or cells, else None.
    """

    shape: torch.Size
    n_features: int

    @property
    def feature_shape(self) -> torch.Size:
        """Shape in which the features are shown."""
        return torch.Size([self.n_features])

    @property
    def grid(self) -> tuple[int, int, int] | None:
        """``(channels, p1, p2)`` where the features lie on grids, else None."""
        return None

    @abstractmethod
    def lift(self, t: Tensor) -> Tensor:
        """Return ``S t``: ``(..., k)`` to ``(..., *shape)``."""

    @abstractmethod
    def pull(self, g: Tensor) -> Tensor:
        """Return ``S^T g``: ``(..., *shape)`` to ``(..., k)``."""

    @abstractmethod
    def gram(self) -> Tensor:
        """Return ``S^T S`` in float64: its diagonal ``(k,)`` where it is diagonal, else (k, k)."""

    def lift_minimal(self, w: Tensor) -> Tensor:
        """Return the smallest ``x`` with ``S^T x = w`` (least squares where there is none)."""
        gram = self.gram().to(w)
        if gram.dim() == 1:
            return self.lift(w / gram)
        return self.lift(w @ torch.linalg.pinv(gram, hermitian=True))

    def _flat(self, g: Tensor) -> Tensor:
        return g.reshape(*g.shape[: g.dim() - len(self.shape)], -1)

    def _unflat(self, x: Tensor) -> Tensor:
        return x.reshape(*x.shape[:-1], *self.shape)


class Features(ABC):
    """What all feature specifications share."""

    @abstractmethod
    def bind(self, shape: Sequence[int]) -> FeatureMap:
        """Return the map for inputs of this shape (without the batch dimension).

        Raises:
            ValueError: If inputs of this shape cannot have these features.
        """


@dataclass(frozen=True)
class Identity(Features):
    """Every input number is a feature: ``S = I``, ``k = d``."""

    def bind(self, shape: Sequence[int]) -> FeatureMap:
        """See :meth:`Features.bind`."""
        return _IdentityMap(torch.Size(shape))


@dataclass(frozen=True)
class Grid(Features):
    """A coarse grid of cells laid over a picture: a feature shifts one cell.

    Args:
        size: Rows and columns ``(p1, p2)`` of the grid, at most the picture's.
        channels: ``"shared"`` shifts all channels together (``k = p1 p2``), ``"separate"`` gives
            each channel its own grid (``k = C p1 p2``).
        mode: How the grid is upsampled to the picture: ``"nearest"`` (constant cells) or
            ``"bilinear"`` (cell centres interpolated, as ``torch.nn.functional.interpolate`` with
            ``align_corners=False``).
    """

    size: tuple[int, int]
    channels: Literal["shared", "separate"] = "shared"
    mode: Literal["nearest", "bilinear"] = "nearest"

    def __post_init__(self) -> None:
        size = tuple(self.size)
        if len(size) != 2 or any(not isinstance(p, int) or p < 1 for p in size):
            raise ValueError(f"size must be two positive integers, got {self.size!r}")
        object.__setattr__(self, "size", size)
        if self.channels not in ("shared", "separate"):
            raise ValueError(f'channels must be "shared" or "separate", got {self.channels!r}')
        if self.mode not in ("nearest", "bilinear"):
            raise ValueError(f'mode must be "nearest" or "bilinear", got {self.mode!r}')

    def bind(self, shape: Sequence[int]) -> FeatureMap:
        """See :meth:`Features.bind`."""
        if len(shape) not in (2, 3):
            raise ValueError(f"Grid needs inputs (C, H, W) or (H, W), got {tuple(shape)}")
        if self.size[0] > shape[-2] or self.size[1] > shape[-1]:
            raise ValueError(
                f"Grid {self.size} is finer than the picture {tuple(shape[-2:])}: "
                "size must not exceed it"
            )
        rows = _upsampling(shape[-2], self.size[0], self.mode)
        columns = _upsampling(shape[-1], self.size[1], self.mode)
        return _GridMap(torch.Size(shape), rows, columns, self.channels == "shared")


@dataclass(frozen=True, eq=False)
class Segments(Features):
    """Groups of input numbers that move together, such as superpixels.

    Args:
        labels: Integer tensor of group numbers ``0 .. k-1``, each used at least once. Of the
            input's shape, or ``(H, W)`` for inputs ``(C, H, W)``: the channels of a pixel then
            move together.
    """

    labels: Tensor

    def __post_init__(self) -> None:
        labels = torch.as_tensor(self.labels)
        if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
            raise TypeError(f"labels must be integers, got {labels.dtype}")
        labels = labels.long()
        if labels.numel() == 0:
            raise ValueError("labels must not be empty")
        present = labels.unique()
        if present[0] != 0 or present[-1] != len(present) - 1:
            raise ValueError(
                f"labels must use every number from 0 to k-1, got {len(present)} different "
                f"numbers between {int(present[0])} and {int(present[-1])}"
            )
        object.__setattr__(self, "labels", labels)

    def bind(self, shape: Sequence[int]) -> FeatureMap:
        """See :meth:`Features.bind`."""
        shape = torch.Size(shape)
        of_pixels = len(shape) == 3 and self.labels.shape == shape[1:]
        if self.labels.shape != shape and not of_pixels:
            raise ValueError(
                f"labels of shape {tuple(self.labels.shape)} fit neither inputs of shape "
                f"{tuple(shape)} nor their pixels"
            )
        return _SegmentMap(shape, self.labels.expand(shape).reshape(-1))


@dataclass(frozen=True, eq=False)
class Basis(Features):
    """Any directions in input space: the columns of a dense matrix ``S``.

    Args:
        matrix: ``(d, k)``, finite, ``d`` the number of input numbers.
    """

    matrix: Tensor

    def __post_init__(self) -> None:
        object.__setattr__(self, "matrix", torch.as_tensor(self.matrix))
        if self.matrix.dim() != 2 or 0 in self.matrix.shape:
            raise ValueError(f"matrix must be (d, k), got {tuple(self.matrix.shape)}")
        if not self.matrix.is_floating_point():
            raise TypeError(f"matrix must be floating point, got {self.matrix.dtype}")
        if not self.matrix.isfinite().all():
            raise ValueError("matrix must be finite")

    def bind(self, shape: Sequence[int]) -> FeatureMap:
        """See :meth:`Features.bind`."""
        if self.matrix.shape[0] != math.prod(shape):
            raise ValueError(
                f"matrix has {self.matrix.shape[0]} rows, inputs of shape {tuple(shape)} "
                f"have {math.prod(shape)} numbers"
            )
        return _BasisMap(torch.Size(shape), self.matrix)


class _IdentityMap(FeatureMap):
    def __init__(self, shape: torch.Size):
        self.shape = shape
        self.n_features = shape.numel()

    @property
    def feature_shape(self) -> torch.Size:
        return self.shape

    @property
    def grid(self) -> tuple[int, int, int] | None:
        if len(self.shape) not in (2, 3):
            return None
        return self.shape[:-2].numel(), self.shape[-2], self.shape[-1]

    def lift(self, t: Tensor) -> Tensor:
        return self._unflat(t)

    def pull(self, g: Tensor) -> Tensor:
        return self._flat(g)

    def gram(self) -> Tensor:
        return torch.ones(self.n_features, dtype=torch.float64, device="cpu")


class _GridMap(FeatureMap):
    """Upsampling is separable: ``S t = R t C^T`` for each channel, so ``S^T g = R^T g C``."""

    def __init__(self, shape: torch.Size, rows: Tensor, columns: Tensor, shared: bool):
        self.shape = shape
        self.rows, self.columns = rows, columns
        self.channels = 1 if shared or len(shape) == 2 else shape[0]
        self.n_features = self.channels * rows.shape[1] * columns.shape[1]

    @property
    def feature_shape(self) -> torch.Size:
        return torch.Size(self.grid[3 - len(self.shape) :])

    @property
    def grid(self) -> tuple[int, int, int]:
        return self.channels, self.rows.shape[1], self.columns.shape[1]

    def lift(self, t: Tensor) -> Tensor:
        cells = t.reshape(*t.shape[:-1], *self.grid)
        # A cell for each pixel: upsampling would multiply by identity matrices.
        same = cells.shape[-2:] == self.shape[-2:]
        picture = cells if same else self.rows.to(t) @ cells @ self.columns.to(t).mT
        if len(self.shape) == 2:
            return picture.squeeze(-3)
        return picture.expand(*t.shape[:-1], *self.shape)

    def gram(self) -> Tensor:
        moved = 1 if len(self.shape) == 2 else self.shape[0] // self.channels
        factors = self.rows.mT @ self.rows, self.columns.mT @ self.columns
        if all(torch.equal(f, torch.diag(f.diagonal())) for f in factors):
            cells = torch.outer(factors[0].diagonal(), factors[1].diagonal()).flatten()
            return moved * cells.repeat(self.channels)
        one = moved * torch.kron(*factors)
        return torch.block_diag(*[one] * self.channels)

    def pull(self, g: Tensor) -> Tensor:
        rows, columns = self.rows.to(g), self.columns.to(g)
        if len(self.shape) == 2:
            g = g.unsqueeze(-3)
        elif self.channels == 1:
            g = g.sum(-3, keepdim=True)
        return (rows.mT @ g @ columns).reshape(*g.shape[:-3], self.n_features)


class _SegmentMap(FeatureMap):
    def __init__(self, shape: torch.Size, labels: Tensor):
        self.shape = shape
        self.labels = labels
        self.n_features = int(labels.max()) + 1

    def lift(self, t: Tensor) -> Tensor:
        return self._unflat(t[..., self.labels.to(t.device)])

    def pull(self, g: Tensor) -> Tensor:
        flat = self._flat(g)
        out = flat.new_zeros(*flat.shape[:-1], self.n_features)
        return out.index_add_(-1, self.labels.to(g.device), flat)

    def gram(self) -> Tensor:
        return torch.bincount(self.labels.cpu(), minlength=self.n_features).double()


class _BasisMap(FeatureMap):
    def __init__(self, shape: torch.Size, matrix: Tensor):
        self.shape = shape
        self.matrix = matrix
        self.n_features = matrix.shape[1]

    def lift(self, t: Tensor) -> Tensor:
        return self._unflat(t @ self.matrix.to(t).mT)

    def pull(self, g: Tensor) -> Tensor:
        return self._flat(g) @ self.matrix.to(g)

    def gram(self) -> Tensor:
        matrix = self.matrix.double()
        return matrix.mT @ matrix


def _upsampling(size: int, cells: int, mode: str) -> Tensor:
    """Return the ``(size, cells)`` float64 matrix that upsamples ``cells`` numbers to ``size``."""
    if mode == "nearest":
        return one_hot(torch.arange(size, device="cpu") * cells // size, cells).double()
    centre = (
        (torch.arange(size, dtype=torch.float64, device="cpu") + 0.5) * cells / size - 0.5
    ).clamp(min=0)
    low = centre.floor().long().clamp(max=cells - 1)
    high = (low + 1).clamp(max=cells - 1)
    weight = (centre - low).unsqueeze(1)
    return (1 - weight) * one_hot(low, cells) + weight * one_hot(high, cells)
