"""Soft threshold and FISTA step in plain torch, in float64: the ground truth."""

from __future__ import annotations

import torch

from hessx.ops.shrink.rules import fista_step_fake, soft_threshold_fake


def soft_threshold(x: torch.Tensor, threshold: torch.Tensor) -> torch.Tensor:
    """Shrink towards zero; see `hessx.ops.soft_threshold`."""
    out = soft_threshold_fake(x, threshold)
    return out.copy_(_soft_threshold(x.double(), threshold.double()[:, None]))


def fista_step(
    gradient: torch.Tensor,
    product: torch.Tensor,
    point: torch.Tensor,
    previous: torch.Tensor,
    step: torch.Tensor,
    momentum: torch.Tensor,
    lambda1: torch.Tensor,
    lambda2: torch.Tensor,
    next: torch.Tensor,
    extrapolated: torch.Tensor,
    sums: torch.Tensor,
) -> None:
    """One step of FISTA and its sums, in place of the last three; see `hessx.ops.fista_step`."""
    inputs = (gradient, product, point, previous, step, momentum, lambda1, lambda2)
    fista_step_fake(*inputs, next, extrapolated, sums)
    g, hy, y, x = gradient.double()[:, None], product.double(), point.double(), previous.double()
    t, beta, l1, l2 = (z.double()[..., None] for z in (step, momentum, lambda1, lambda2))
    z = _soft_threshold(y + t * (g + hy - 2 * l2 * y), t * l1).to(point.dtype).double()
    change = z - x
    terms = (g * z, z.abs(), z.square(), change.square(), (z == 0).double())
    sums.copy_(torch.stack([term.sum(2) for term in terms], dim=2))
    # Last: they may be the arguments themselves.
    next.copy_(z)
    extrapolated.copy_(z + beta * change)


def _soft_threshold(x: torch.Tensor, threshold: torch.Tensor) -> torch.Tensor:
    return x.sign() * (x.abs() - threshold).clamp(min=0)
