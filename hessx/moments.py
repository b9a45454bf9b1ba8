"""Streaming moments of draws ``z`` and gradients ``g``, from which every estimator is computed.

While there are fewer samples than coordinates the gradients themselves are the smallest sufficient
record (they are the factor of the result), with the numbers of the draws, which are made again
when needed. They are kept a little longer, up to ``KEPT_SAMPLES``, because the variance of an entry
needs fourth moments in a basis that is only known at the end. From then on the sums of ``z z^T``,
``z g^T`` and ``g g^T`` are kept instead: memory no longer grows, and saving, resuming and adding up
over processes are sums of matrices. A head of the samples stays, to measure how far the fourth
moments are from those of a Gaussian.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from hessx import ops

KEPT_SAMPLES = 4096
# The samples kept beside the sums: what a standard error is measured on, to 3 %.
HEAD = 1024


@dataclass(frozen=True)
class Scatter:
    """Centred second moments of ``n`` samples, float64, and the first samples themselves.

    Attributes:
        n: The number of samples.
        mean_z: ``(m,)``.
        mean_g: ``(B, m)``.
        zz: ``(m, m)``, sum of ``(z - mean_z)(z - mean_z)^T``.
        zg: ``(B, m, m)``.
        gg: ``(B, m, m)``.
        head_z: ``(n_head, m)``, the first draws.
        head_g: ``(B, n_head, m)``, their gradients.
    """

    n: int
    mean_z: Tensor
    mean_g: Tensor
    zz: Tensor
    zg: Tensor
    gg: Tensor
    head_z: Tensor
    head_g: Tensor

    def rows(self, index: Tensor | slice) -> Scatter:
        """Return those of some rows."""
        return replace(
            self,
            mean_g=self.mean_g[index],
            zg=self.zg[index],
            gg=self.gg[index],
            head_g=self.head_g[index],
        )

    def split(self) -> Iterator[Scatter]:
        """Yield the rows one by one."""
        for row in range(len(self.mean_g)):
            yield self.rows(slice(row, row + 1))


class Moments:
    """Accumulates samples ``(z, g)`` for ``B`` rows that share their draws.

    Args:
        coordinates: ``(first, count) -> z (count, m)``: makes the numbered draws again.
        dim: The number of coordinates ``m``.
        keep: Samples are kept as they are until there are this many, and ``m`` of them.

    Attributes:
        ranges: ``(first, count)`` of each run of draws added.
    """

    def __init__(
        self, coordinates: Callable[[int, int], Tensor], dim: int, keep: int = KEPT_SAMPLES
    ):
        self._coordinates = coordinates
        self._dim = dim
        self._keep = max(dim, keep)
        self.ranges: list[tuple[int, int]] = []
        self._gradients: list[Tensor] = []
        self._sums: _Sums | None = None

    @property
    def n(self) -> int:
        """The number of samples so far."""
        return sum(count for _, count in self.ranges)

    @property
    def keeps_samples(self) -> bool:
        """Whether the gradients themselves are kept rather than sums."""
        return self._sums is None

    def add(self, first: int, z: Tensor, g: Tensor) -> None:
        """Add draws ``first ...``: ``z (count, m)`` and their gradients ``g (B, count, m)``.

        Raises:
            ValueError: If some of these draws were added before, or the shapes do not fit.
        """
        if z.shape[1:] != (self._dim,) or g.dim() != 3 or g.shape[1:] != z.shape:
            raise ValueError(
                f"z must be (count, {self._dim}) and g (B, count, {self._dim}), "
                f"got {tuple(z.shape)} and {tuple(g.shape)}"
            )
        if len(z) == 0:
            return
        self._check_rows(len(g))
        self._check_new([(first, len(z))])
        self.ranges.append((first, len(z)))
        if self._sums is not None:
            self._sums.add(z, g)
            return
        self._gradients.append(g)
        if self.n >= self._keep:
            self._fold()

    def samples(self) -> tuple[Tensor, Tensor]:
        """Return the draws ``z (n, m)``, made again, and the gradients ``g (B, n, m)``."""
        self._require(kept=True)
        z = torch.cat([self._coordinates(first, count) for first, count in self.ranges])
        # One tensor from here on: a later call finds it joined.
        self._gradients = [torch.cat(self._gradients, 1)]
        return z, self._gradients[0]

    def scatter(self) -> Scatter:
        """Return the centred second moments."""
        self._require(kept=False)
        assert self._sums is not None
        return self._sums.centred(self.n)

    def select(self, rows: Tensor) -> None:
        """Keep only these rows of the batch."""
        self._gradients = [g[rows] for g in self._gradients]
        if self._sums is not None:
            self._sums.select(rows)

    def merge(self, other: Moments) -> None:
        """Add the samples of ``other``: other draws of the same ``coordinates`` and rows.

        Raises:
            ValueError: If the two have draws in common, or other dimensions or rows.
        """
        if other._dim != self._dim:
            raise ValueError(f"cannot merge moments in {self._dim} and {other._dim} dimensions")
        if not other.ranges:
            return
        self._check_rows(other._n_rows)
        self._check_new(other.ranges)
        if self._sums is None and other._sums is None:
            self.ranges += other.ranges
            self._gradients += other._gradients
            if self.n >= self._keep:
                self._fold()
            return
        theirs = other._summed() if other._sums is None else other._sums
        if not self.ranges:
            self._sums = theirs.copy()
        else:
            if self._sums is None:
                self._fold()
            assert self._sums is not None
            self._sums.merge(theirs, other.n)
        self.ranges += other.ranges

    def state_dict(self) -> dict[str, Any]:
        """Return tensors and plain numbers from which :meth:`load_state_dict` resumes."""
        return {
            "dim": self._dim,
            "ranges": list(self.ranges),
            "gradients": list(self._gradients),
            "sums": None if self._sums is None else vars(self._sums.copy()),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Replace all samples by those of a :meth:`state_dict`.

        Raises:
            ValueError: If the state was saved in another number of dimensions.
        """
        if state["dim"] != self._dim:
            raise ValueError(f"state has {state['dim']} dimensions, these moments {self._dim}")
        self.ranges = [tuple(r) for r in state["ranges"]]
        self._gradients = list(state["gradients"])
        sums = state["sums"]
        self._sums = None if sums is None else _Sums(**sums).copy()

    @property
    def _n_rows(self) -> int:
        return len(self._gradients[0] if self._sums is None else self._sums.pivot)

    def _check_rows(self, n_rows: int) -> None:
        if self.ranges and n_rows != self._n_rows:
            raise ValueError(f"these moments have {self._n_rows} rows, got {n_rows}")

    def _check_new(self, ranges: list[tuple[int, int]]) -> None:
        for first, count in ranges:
            for low, size in self.ranges:
                if first < low + size and low < first + count:
                    raise ValueError(
                        f"draws {max(first, low)} to {min(first + count, low + size) - 1} "
                        "were added before"
                    )

    def _fold(self) -> None:
        """Go over from kept samples to sums."""
        self._sums, self._gradients = self._summed(), []

    def _summed(self) -> _Sums:
        """Return the sums of the kept samples."""
        joined = torch.cat(self._gradients, 1)
        sums = _Sums.zeros(joined)
        parts = joined.split([count for _, count in self.ranges], 1)
        for (first, count), g in zip(self.ranges, parts, strict=True):
            sums.add(self._coordinates(first, count), g)
        return sums

    def _require(self, kept: bool) -> None:
        if not self.ranges:
            raise ValueError("no samples were added")
        if self.keeps_samples != kept:
            raise ValueError(
                f"with {self.n} samples in {self._dim} dimensions the "
                f"{'sums' if kept else 'samples themselves'} are kept: ask for "
                f"{'scatter()' if kept else 'samples()'}"
            )


@dataclass
class _Sums:
    """Sums over samples of ``z`` and ``h = g - pivot``, float64.

    The pivot is a gradient of the row itself: without it the products are dominated by the constant
    part of the gradient, which the float32 products inside a block of samples could not lose again.
    """

    head_z: Tensor
    head_g: Tensor
    pivot: Tensor
    z: Tensor
    h: Tensor
    zz: Tensor
    zh: Tensor
    hh: Tensor

    @classmethod
    def zeros(cls, g: Tensor) -> _Sums:
        """Return empty sums for gradients like ``g (B, count, m)``, its first one the pivot."""
        rows, _, m = g.shape

        def zeros(*shape: int) -> Tensor:
            return g.new_zeros(shape, dtype=torch.float64)

        return cls(
            head_z=g.new_zeros(0, m),
            head_g=g[:, :0],
            pivot=g[:, 0].clone(),
            z=zeros(m),
            h=zeros(rows, m),
            zz=zeros(m, m),
            zh=zeros(rows, m, m),
            hh=zeros(rows, m, m),
        )

    def add(self, z: Tensor, g: Tensor) -> None:
        missing = HEAD - len(self.head_z)
        if missing > 0:
            self.head_z = torch.cat([self.head_z, z[:missing]])
            self.head_g = torch.cat([self.head_g, g[:, :missing]], 1)
        h = g - self.pivot[:, None]
        sum_z, sum_h, zh = ops.cross_moments(z[None], h)
        self.z += sum_z[0]
        self.h += sum_h
        self.zh += zh
        self.zz += ops.cross_moments(z, z)[2]
        self.hh += ops.cross_moments(h, h)[2]

    def merge(self, other: _Sums, count: int) -> None:
        shift = other.pivot.double() - self.pivot.double()
        self.z += other.z
        self.zz += other.zz
        self.zh += other.zh + other.z[:, None] * shift[:, None, :]
        cross = other.h[:, :, None] * shift[:, None, :]
        self.hh += other.hh + cross + cross.mT + count * shift[:, :, None] * shift[:, None, :]
        self.h += other.h + count * shift

    def copy(self) -> _Sums:
        return _Sums(**{name: value.clone() for name, value in vars(self).items()})

    def select(self, rows: Tensor) -> None:
        for name in ("head_g", "pivot", "h", "zh", "hh"):
            setattr(self, name, getattr(self, name)[rows])

    def centred(self, n: int) -> Scatter:
        mean_z, mean_h = self.z / n, self.h / n
        return Scatter(
            n=n,
            mean_z=mean_z,
            mean_g=self.pivot.double() + mean_h,
            zz=self.zz - n * mean_z[:, None] * mean_z,
            zg=self.zh - n * mean_z[:, None] * mean_h[:, None, :],
            gg=self.hh - n * mean_h[:, :, None] * mean_h[:, None, :],
            head_z=self.head_z,
            head_g=self.head_g,
        )
