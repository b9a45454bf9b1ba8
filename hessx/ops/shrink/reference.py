"""Soft threshold and FISTA step in plain torch, in float64: the ground truth."""

from __future__ import annotations

import torch

from hessx.ops.shrink.rules import check_fista_step, check_soft_threshold


def soft_threshold(x: torch.Tensor, threshold: torch.Tensor) -> torch.Tensor:
    """Shrink towards zero; see `hessx.ops.soft_threshold`."""
    check_soft_threshold(x, threshold)
    return _soft_threshold(x.double(), threshold.double()[:, None]).to(x.dtype)


def fista_step(
    gradient: torch.Tensor,
    product: torch.Tensor,
    point: torch.Tensor,
    previous: torch.Tensor,
    step: torch.Tensor,
    momentum: torch.Tensor,
    lambda1: torch.Tensor,
    lambda2: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """One step of FISTA and its sums; see `hessx.ops.fista_step`."""
    check_fista_step(gradient, product, point, previous, step, momentum, lambda1, lambda2)
    g, hy, y, x = gradient.double()[:, None], product.double(), point.double(), previous.double()
    t, beta, l1, l2 = (z.double()[..., None] for z in (step, momentum, lambda1, lambda2))
    next_point = _soft_threshold(y + t * (g + hy - 2 * l2 * y), t * l1).to(point.dtype)
    z = next_point.double()
    change = z - x
    sums = (g * z, z.abs(), z.square(), change.square(), (z == 0).double())
    return (
        next_point,
        (z + beta * change).to(point.dtype),
        torch.stack([term.sum(2) for term in sums], dim=2),
    )


def _soft_threshold(x: torch.Tensor, threshold: torch.Tensor) -> torch.Tensor:
    return x.sign() * (x.abs() - threshold).clamp(min=0)
