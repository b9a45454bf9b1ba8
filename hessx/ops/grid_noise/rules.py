"""What every implementation of noise on grids accepts, and its shape function."""

from __future__ import annotations

import torch

from hessx.ops.grid.rules import check_size, edge_count
from hessx.ops.noise.rules import DTYPES, check_draws


def grid_normal_fake(out: torch.Tensor, seed: int, first_sample: int, stream: int) -> None:
    """Check the tensor that is filled in place."""
    if out.ndim != 3 or 0 in out.shape[1:]:
        raise ValueError(
            f"out must have shape (n, p1, p2) with p1, p2 >= 1, got {tuple(out.shape)}"
        )
    if out.dtype not in DTYPES:
        raise TypeError(f"out must have a dtype of {DTYPES}, got {out.dtype}")


def check_pictures(
    n: int, p1: int, p2: int, seed: int, first_sample: int, stream: int, dtype: torch.dtype
) -> None:
    """Check the numbers that name pictures of noise."""
    check_draws(n, 0, seed, first_sample, stream)
    check_size(p1, p2)
    # The counter of a block of four features has 32 bits.
    if not edge_count(p1, p2) + 1 <= 2**34:
        raise ValueError(f"p1 x p2 must have less than 2**34 edges, got {p1} x {p2} pixels")
    if dtype not in DTYPES:
        raise TypeError(f"dtype must be one of {DTYPES}, got {dtype}")
