"""Bounds of the total-variation program from below and above, from any point and any flow.

``min |D g|_1`` subject to ``|D (g - estimate)|_inf <= radius``, over pictures of ``p1 x p2`` pixels
with the ``m`` differences D of neighbours. Everything is float64 and broadcasts over leading
dimensions; a row of the batch stands for one program.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hessx import ops


def difference(g: Tensor) -> Tensor:
    """Return ``D g``: ``(..., p1, p2)`` to ``(..., m)``."""
    flat = ops.grid_difference(g.reshape(-1, *g.shape[-2:]))
    return flat.reshape(*g.shape[:-2], flat.shape[1])


def difference_adjoint(a: Tensor, p1: int, p2: int) -> Tensor:
    """Return ``D^T a``: ``(..., m)`` to ``(..., p1, p2)``."""
    *lead, m = a.shape
    flat = ops.grid_difference_adjoint(a.reshape(math.prod(lead), m), p1, p2)
    return flat.reshape(*a.shape[:-1], p1, p2)


def largest(x: Tensor) -> Tensor:
    """Return ``|x|_inf`` over the last dimension, 0 where it is empty."""
    return x.abs().amax(-1) if x.shape[-1] else x.new_zeros(x.shape[:-1])


def without_mean(g: Tensor) -> Tensor:
    """Return pictures ``(..., p1, p2)`` shifted to mean 0."""
    return g - g.mean((-2, -1), keepdim=True)


def feasible(point: Tensor, estimate: Tensor, radius: Tensor) -> Tensor:
    """Move a point towards the estimate until it is feasible.

    ``estimate + t (point - estimate)``, ``t = min(1, radius / |D (point - estimate)|_inf)``.

    Args:
        point: ``(..., p1, p2)``, any pictures.
        estimate: ``(..., p1, p2)``.
        radius: ``(...)``, >= 0.

    Returns:
        ``(..., p1, p2)``: feasible, and the point itself where that is feasible.
    """
    offset = point - estimate
    length = largest(difference(offset))
    t = torch.where(length > radius, radius / length, 1.0)
    return torch.where((t < 1)[..., None, None], estimate + t[..., None, None] * offset, point)


def circulation(flow: Tensor, p1: int, p2: int) -> Tensor:
    """Project edge flows ``(..., m)`` onto circulations: ``flow - D (D^T D)^+ D^T flow``."""
    potential = ops.grid_spectral(difference_adjoint(flow, p1, p2), -1.0, 0.0)
    return flow - difference(potential)


def dual_value(flow: Tensor, centre: Tensor, radius: Tensor) -> Tensor:
    """Bound the objective of every feasible point from below.

    For a circulation ``D^T flow = 0`` and every g, ``flow^T D g = 0``, so that ``|D g|_1`` is no
    less than ``sum_e min {|a| + flow_e a : |a - centre_e| <= radius}``; the minimum is at an end of
    the interval or at 0.

    Args:
        flow: ``(..., m)``, circulations.
        centre: ``(..., m)``, ``D estimate``.
        radius: ``(...)``, >= 0.

    Returns:
        ``(...)``.
    """
    low, high = centre - radius[..., None], centre + radius[..., None]
    value = torch.minimum(low.abs() + flow * low, high.abs() + flow * high)
    return torch.where((low <= 0) & (high >= 0), value.clamp(max=0), value).sum(-1)


def relative_gap(objective: Tensor, dual: Tensor) -> Tensor:
    """Return ``(objective - dual) / objective``, between 0 and 1; 0 where the objective is 0.

    An objective is never negative, so 0 serves as a bound where the dual's is lower. NaN where one
    of the two is NaN or has overflown: nothing is certified there.
    """
    gap = (objective - dual.clamp(min=0)).clamp(min=0)
    finite = (objective < math.inf) & (dual < math.inf)
    return torch.where(finite, torch.where(gap > 0, gap / objective, 0.0), math.nan)
