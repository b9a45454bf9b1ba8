"""Symmetric matrices kept as a thin factor and a small core, with the error of what is read off."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, overload

import numpy as np
import torch
from torch import Tensor

from hessx.contributions import Contributions, padded


@dataclass(frozen=True, eq=False, repr=False)
class SymmetricOperator:
    """``H = basis core basis^T``, batched over any leading dimensions, never formed unasked.

    Attributes:
        basis: ``(..., k, r)``.
        core: ``(..., r, r)``, symmetric.
        variance: ``(..., r, r)``, symmetric: the variance of each entry of ``core``.
        contributions: What single samples contributed to ``core``: standard errors come from them.
    """

    basis: Tensor
    core: Tensor
    variance: Tensor
    contributions: Contributions

    @classmethod
    def joined(cls, parts: list[SymmetricOperator]) -> SymmetricOperator:
        """Return the rows of batches of any ranks as one batch."""
        rank = max(part.core.shape[-1] for part in parts)

        return SymmetricOperator(
            torch.cat([padded(part.basis, part.basis.shape[-2], rank) for part in parts]),
            torch.cat([padded(part.core, rank, rank) for part in parts]),
            torch.cat([padded(part.variance, rank, rank) for part in parts]),
            Contributions.joined([part.contributions for part in parts]),
        )

    @property
    def shape(self) -> torch.Size:
        """``(..., k, k)``."""
        return torch.Size([*self.basis.shape[:-1], self.basis.shape[-2]])

    def __getitem__(self, row: int) -> SymmetricOperator:
        """Return the operator of one row of the batch, with ``.shape == (k, k)`` and ``@``."""
        if self.basis.dim() == 2:
            raise TypeError("a single operator has no rows: index what to_dense() returns")
        return self.rows(row)

    def rows(self, index: Any) -> SymmetricOperator:
        """Return the operators of some rows of the batch."""
        return SymmetricOperator(
            self.basis[index],
            self.core[index],
            self.variance[index],
            self.contributions.rows(index),
        )

    @overload
    def __matmul__(self, other: Tensor) -> Tensor: ...

    @overload
    def __matmul__(self, other: np.ndarray) -> np.ndarray: ...

    def __matmul__(self, other: Any) -> Any:
        """Return ``H @ other`` for ``other (k,)``, ``(k, j)`` or with leading batch dimensions.

        NumPy arrays come back as NumPy arrays, so that SciPy's iterative solvers accept a single
        operator.
        """
        if isinstance(other, np.ndarray):
            return (self @ torch.from_numpy(other).to(self.basis)).cpu().numpy()
        vector = other.dim() == 1
        columns = other.to(self.basis)[:, None] if vector else other.to(self.basis)
        out = self.basis @ (self.core @ (self.basis.mT @ columns))
        return out.squeeze(-1) if vector else out

    def matvec(self, vector: np.ndarray) -> np.ndarray:
        """Return ``H @ vector``: with ``shape``, what SciPy's ``aslinearoperator`` asks for."""
        return self @ np.asarray(vector)

    @cached_property
    def relative_error(self) -> Tensor:
        """``(...)``: the estimated ``|estimate - H|_F / |H|_F``.

        ``sqrt(noise / (energy - noise))`` with the energy ``|estimate|_F^2`` and the noise the sum
        of the variances of all entries. ``inf`` when noise explains the whole estimate, ``nan``
        when both are 0: nothing was seen that could be wrong.
        """
        gram = (self.basis.mT @ self.basis).double()
        core, variance = self.core.double(), self.variance.double()
        product = gram @ core
        energy = (product * product.mT).sum((-1, -2))
        scale = gram.diagonal(dim1=-2, dim2=-1)
        weight = gram.square() + scale[..., :, None] * scale[..., None, :]
        own = variance.diagonal(dim1=-2, dim2=-1) * scale.square()
        noise = (variance * weight).sum((-1, -2)) - own.sum(-1)
        error = torch.where(energy > noise, (noise / (energy - noise)).sqrt(), torch.inf)
        return torch.where((energy == 0) & (noise == 0), torch.nan, error).to(self.basis.dtype)

    @cached_property
    def _eigen(self) -> tuple[Tensor, Tensor]:
        q, r = torch.linalg.qr(self.basis)
        values, vectors = torch.linalg.eigh(r @ self.core @ r.mT)
        order = values.abs().argsort(dim=-1, descending=True)
        vectors = q @ vectors.gather(-1, order[..., None, :].expand_as(vectors))
        return values.gather(-1, order), vectors

    @property
    def eigenvalues(self) -> Tensor:
        """``(..., r)``, sorted by absolute value, largest first."""
        return self._eigen[0]

    @property
    def eigenvectors(self) -> Tensor:
        """``(..., k, r)``, orthonormal columns in the order of :attr:`eigenvalues`."""
        return self._eigen[1]

    @overload
    def to_dense(self, stderr: Literal[False] = False) -> Tensor: ...

    @overload
    def to_dense(self, stderr: Literal[True]) -> tuple[Tensor, Tensor]: ...

    def to_dense(self, stderr: bool = False) -> Any:
        """Return ``H (..., k, k)``; with ``stderr`` also the standard error of each entry."""
        value = self.basis @ self.core @ self.basis.mT
        if not stderr:
            return value
        return value, self.contributions.entry_variance(self.basis).sqrt().to(value)

    @overload
    def diagonal(self, stderr: Literal[False] = False) -> Tensor: ...

    @overload
    def diagonal(self, stderr: Literal[True]) -> tuple[Tensor, Tensor]: ...

    def diagonal(self, stderr: bool = False) -> Any:
        """Return ``H_jj (..., k)``; with ``stderr`` also their standard errors."""
        value = ((self.basis @ self.core) * self.basis).sum(-1)
        if not stderr:
            return value
        variance = self.contributions.form_variance(self.basis, self.basis)
        return value, variance.sqrt().to(value)

    @overload
    def quadratic_form(
        self, u: Tensor, v: Tensor | None = None, stderr: Literal[False] = False
    ) -> Tensor: ...

    @overload
    def quadratic_form(
        self, u: Tensor, v: Tensor | None, stderr: Literal[True]
    ) -> tuple[Tensor, Tensor]: ...

    def quadratic_form(self, u: Tensor, v: Tensor | None = None, stderr: bool = False) -> Any:
        """Return ``u^T H v`` (``v = u`` unless given), with ``stderr`` also its standard error.

        Args:
            u: ``(k,)`` for all rows or ``(..., k)``, one for each.
            v: The same, or None.
            stderr: Whether to return the standard error too.

        Returns:
            ``(...)``, one number for each row of the batch.
        """
        x = self._coordinates(u)
        y = x if v is None else self._coordinates(v)
        value = (x @ self.core @ y.mT).squeeze((-1, -2))
        if not stderr:
            return value
        variance = self.contributions.form_variance(*torch.broadcast_tensors(x, y))
        return value, variance.squeeze(-1).sqrt().to(value)

    @overload
    def group(self, labels: Tensor, stderr: Literal[False] = False) -> Tensor: ...

    @overload
    def group(self, labels: Tensor, stderr: Literal[True]) -> tuple[Tensor, Tensor]: ...

    def group(self, labels: Tensor, stderr: bool = False) -> Any:
        """Return the sums of H over pairs of groups, ``(..., n_groups, n_groups)``.

        Args:
            labels: ``(k,)`` integers ``0 .. n_groups - 1``, the group of each feature.
            stderr: Whether to return the standard errors of the sums too.

        Raises:
            ValueError: If ``labels`` does not label each feature.
        """
        k = self.basis.shape[-2]
        labels = torch.as_tensor(labels)
        is_integer = not labels.is_floating_point() and labels.dtype != torch.bool
        if labels.shape != (k,) or not is_integer or bool((labels < 0).any()):
            raise ValueError(
                f"labels must be ({k},) integers >= 0, got {tuple(labels.shape)} {labels.dtype}"
            )
        labels = labels.long()
        groups = int(labels.max()) + 1
        rows = self.basis.new_zeros(*self.basis.shape[:-2], groups, self.basis.shape[-1])
        rows.index_add_(-2, labels.to(self.basis.device), self.basis)
        sums = SymmetricOperator(rows, self.core, self.variance, self.contributions)
        return sums.to_dense(stderr=True) if stderr else sums.to_dense()

    def _coordinates(self, u: Tensor) -> Tensor:
        """Return ``basis^T u`` as a row: ``(..., 1, r)``."""
        if u.shape[-1:] != self.basis.shape[-2:-1]:
            raise ValueError(
                f"vectors must have {self.basis.shape[-2]} entries, got shape {tuple(u.shape)}"
            )
        return u.to(self.basis)[..., None, :] @ self.basis
