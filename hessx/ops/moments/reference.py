"""Moments in plain torch, in float64: the ground truth."""

from __future__ import annotations

import torch

from hessx.ops.moments.rules import check_core_moments, cross_moments_shapes
from hessx.ops.noise.reference import normal


def cross_moments(
    u: torch.Tensor, v: torch.Tensor, weight: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Sums and outer products; see `hessx.ops.cross_moments`."""
    cross_moments_shapes(u, v, weight)
    x, y = u.double(), v.double()
    if weight is None:
        return x.sum(1), y.sum(1), x.mT @ y
    w = weight.double()[..., None]
    weighted = w * x
    return weighted.sum(1), (w * y).sum(1), weighted.mT @ y


def normal_moments(
    v: torch.Tensor,
    weight: torch.Tensor | None,
    m: int,
    seed: int,
    first_sample: int,
    stream: int,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Sums and outer products with normal draws; see `hessx.ops.normal_moments`."""
    z = v.new_empty(v.shape[-2], m)
    normal(z, seed, first_sample, stream)
    return cross_moments(z[None], v, weight)


def core_moments(
    u: torch.Tensor, w: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """The three products of the estimator's core; see `hessx.ops.core_moments`."""
    check_core_moments(u, w)
    x, y = u.double(), w.double()
    x2, y2, xy = x.square(), y.square(), x * y
    return x.mT @ y, x2.mT @ y2, xy.mT @ xy, y2.sum(1)
