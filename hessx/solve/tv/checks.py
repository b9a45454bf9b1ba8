"""What the solvers of the total-variation programs accept."""

from __future__ import annotations

import torch
from torch import Tensor

_DTYPES = (torch.float32, torch.float64)


def check_numbers(name: str, x: Tensor) -> None:
    """Raise unless ``x`` is a tensor of float32 or float64 with finite numbers."""
    if not isinstance(x, Tensor):
        raise TypeError(f"{name} must be a tensor, got {type(x).__name__}")
    if x.dtype not in _DTYPES:
        raise TypeError(f"{name} must be float32 or float64, got {x.dtype}")
    if not x.isfinite().all():
        raise ValueError(f"{name} must be finite, got {x[~x.isfinite()][0].item()}")


def check_estimate(name: str, estimate: Tensor) -> None:
    """Raise unless ``estimate`` is ``(N, p1, p2)`` with at least one pixel."""
    check_numbers(name, estimate)
    if estimate.dim() != 3 or 0 in estimate.shape[1:]:
        raise ValueError(
            f"{name} must be (N, p1, p2) with p1, p2 >= 1, got {tuple(estimate.shape)}"
        )


def check_levels(name: str, levels: Tensor, estimate: Tensor) -> None:
    """Raise unless ``levels`` is ``(N, M)``, >= 0, for the N pictures of an estimate."""
    check_numbers(name, levels)
    if levels.dim() != 2 or len(levels) != len(estimate):
        raise ValueError(
            f"{name} must be (N, M) with N = {len(estimate)}, got {tuple(levels.shape)}"
        )
    if (levels < 0).any():
        raise ValueError(f"{name} must be >= 0, got {levels.min().item()}")
