"""Noise on grids in plain torch: all normal numbers first, their differences in float64."""

from __future__ import annotations

import torch

from hessx.ops.grid.reference import grid_difference_adjoint
from hessx.ops.grid.rules import edge_count
from hessx.ops.grid_noise.rules import grid_normal_fake
from hessx.ops.noise import reference as noise

# Normal numbers stored at once.
_NUMBERS_AT_ONCE = 2**20


def grid_normal(out: torch.Tensor, seed: int, first_sample: int, stream: int) -> None:
    """Fill out (n, p1, p2) with noise; see `hessx.ops.grid_normal`."""
    grid_normal_fake(out, seed, first_sample, stream)
    n, p1, p2 = out.shape
    real = torch.float64 if out.dtype == torch.float64 else torch.float32
    m = edge_count(p1, p2)
    rows = max(1, _NUMBERS_AT_ONCE // (m + 1))
    for start in range(0, n, rows):
        part = out[start : start + rows]
        drawn = out.new_empty(len(part), m + 1, dtype=real)
        noise.normal(drawn, seed, first_sample + start, stream)
        edges, constant = drawn.double().split([m, 1], dim=1)
        pictures = grid_difference_adjoint(edges, p1, p2)
        part.copy_((pictures + constant[..., None] / (p1 * p2) ** 0.5).to(real))
