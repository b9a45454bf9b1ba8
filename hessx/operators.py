"""Symmetric matrices kept as a thin factor and a small core, with the error of what is read off."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, overload

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, eq=False, repr=False)
class SymmetricOperator:
    """``H = basis core basis^T``, batched over any leading dimensions, never formed unasked.

    The entries of ``core`` are treated as uncorrelated (each with its mirror image) with the given
    variance; standard errors of linear functions of H follow from that.

    Attributes:
        basis: ``(..., k, r)``.
        core: ``(..., r, r)``, symmetric.
        variance: ``(..., r, r)``, symmetric: the variance of each entry of ``core``.
    """

    basis: Tensor
    core: Tensor
    variance: Tensor

    @property
    def shape(self) -> torch.Size:
        """``(..., k, k)``."""
        return torch.Size([*self.basis.shape[:-1], self.basis.shape[-2]])

    def __getitem__(self, row: int) -> SymmetricOperator:
        """Return the operator of one row of the batch, with ``.shape == (k, k)`` and ``@``."""
        if self.basis.dim() == 2:
            raise TypeError("a single operator has no rows: index what to_dense() returns")
        return SymmetricOperator(self.basis[row], self.core[row], self.variance[row])

    def rows(self, index: Tensor) -> SymmetricOperator:
        """Return the operators of some rows of the batch, still batched."""
        return SymmetricOperator(self.basis[index], self.core[index], self.variance[index])

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
        return (value, self._entry_variance().sqrt()) if stderr else value

    @overload
    def diagonal(self, stderr: Literal[False] = False) -> Tensor: ...

    @overload
    def diagonal(self, stderr: Literal[True]) -> tuple[Tensor, Tensor]: ...

    def diagonal(self, stderr: bool = False) -> Any:
        """Return ``H_jj (..., k)``; with ``stderr`` also their standard errors."""
        value = ((self.basis @ self.core) * self.basis).sum(-1)
        return (value, self._form_variance(self.basis, self.basis).sqrt()) if stderr else value

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
        return value, self._form_variance(x, y).squeeze(-1).sqrt()

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
        if labels.shape != (k,) or labels.is_floating_point() or bool((labels < 0).any()):
            raise ValueError(f"labels must be ({k},) integers >= 0, got {tuple(labels.shape)}")
        groups = int(labels.max()) + 1
        rows = self.basis.new_zeros(*self.basis.shape[:-2], groups, self.basis.shape[-1])
        rows.index_add_(-2, labels.to(self.basis.device), self.basis)
        sums = SymmetricOperator(rows, self.core, self.variance)
        return sums.to_dense(stderr=True) if stderr else sums.to_dense()

    def _coordinates(self, u: Tensor) -> Tensor:
        """Return ``basis^T u`` as a row: ``(..., 1, r)``."""
        if u.shape[-1:] != self.basis.shape[-2:-1]:
            raise ValueError(
                f"vectors must have {self.basis.shape[-2]} entries, got shape {tuple(u.shape)}"
            )
        return u.to(self.basis)[..., None, :] @ self.basis

    def _form_variance(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the variance of ``x_i^T core y_i`` for rows ``x, y (..., P, r)``: ``(..., P)``.

        An entry off the diagonal stands in the form twice, weighted ``(x_k y_l + x_l y_k) / 2``,
        but is one random number.
        """
        both = ((x.square() @ self.variance) * y.square()).sum(-1)
        xy = x * y
        crossed = ((xy @ self.variance) * xy).sum(-1)
        own = (xy.square() * self.variance.diagonal(dim1=-2, dim2=-1)[..., None, :]).sum(-1)
        return (both + crossed - own).clamp(min=0)

    def _entry_variance(self) -> Tensor:
        # One row at a time: all pairs at once would take k^2 r numbers.
        rows = [
            self._form_variance(self.basis[..., j : j + 1, :], self.basis)
            for j in range(self.basis.shape[-2])
        ]
        return torch.stack(rows, -2)
