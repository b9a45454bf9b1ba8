"""Inner products of long vectors, added up in float64."""

from __future__ import annotations

import torch
from torch import Tensor

# Products are summed in the vectors' own precision within so many columns.
_COLUMN_BLOCK = 4096


def dot(x: Tensor, y: Tensor) -> Tensor:
    """Return ``x . y`` along the last dimension, float64."""
    return (x * y).sum(-1, dtype=torch.float64)


def inner(x: Tensor, y: Tensor) -> Tensor:
    """Return ``x y^T``, ``(..., m, d)`` and ``(..., n, d)`` to ``(..., m, n)`` float64."""
    total = x.new_zeros(*x.shape[:-1], y.shape[-2], dtype=torch.float64)
    for start in range(0, x.shape[-1], _COLUMN_BLOCK):
        part = slice(start, start + _COLUMN_BLOCK)
        total += (x[..., part] @ y[..., part].mT).double()
    return total
