"""Sums over squares and over the squares that cover a pixel, in float64: the ground truth."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from hessx.ops.boxes import rules


def box_sums(x: torch.Tensor, sides: Sequence[int]) -> torch.Tensor:
    """Sums over squares; see `hessx.ops.box_sums`."""
    out = rules.box_sums_fake(x, sides)
    return out.copy_(torch.cat([_windows(x.double(), side).flatten(1) for side in sides], dim=1))


def box_sums_adjoint(w: torch.Tensor, sides: Sequence[int], p1: int, p2: int) -> torch.Tensor:
    """Sums over the squares that cover each pixel; see `hessx.ops.box_sums_adjoint`."""
    out = rules.box_sums_adjoint_fake(w, sides, p1, p2)
    total = torch.zeros_like(out, dtype=torch.float64)
    for side, first, rows, columns in rules.box_slices(p1, p2, sides):
        corners = w[:, first : first + rows * columns].reshape(len(w), rows, columns).double()
        total += _windows(torch.nn.functional.pad(corners, (side - 1,) * 4), side)
    return out.copy_(total)


def _windows(x: torch.Tensor, side: int) -> torch.Tensor:
    """Sums over the squares of one side, by their top-left corners."""
    return x.unfold(1, side, 1).sum(-1).unfold(2, side, 1).sum(-1)
