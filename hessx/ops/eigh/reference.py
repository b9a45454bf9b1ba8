"""Eigenproblems in plain torch, in float64: the ground truth."""

from __future__ import annotations

import torch

from hessx.ops.eigh.rules import with_nan_kept


def eigh(a: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Eigenvalues and eigenvectors; see `hessx.ops.eigh`."""
    values, vectors = with_nan_kept(torch.linalg.eigh, a.double())
    return values.to(a.dtype), vectors.to(a.dtype)
