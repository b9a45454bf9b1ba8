"""Trust-region problems in plain torch, by bisection in float64: the ground truth."""

from __future__ import annotations

import torch

from hessx.ops.trust_region.rules import check_trust_region


def trust_region(
    eigenvalues: torch.Tensor, gradient: torch.Tensor, radius: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Steps and multipliers; see `hessx.ops.trust_region`."""
    check_trust_region(eigenvalues, gradient, radius)
    e, g, r = eigenvalues.double(), gradient.double(), radius.double()
    finite = e.isfinite().all(1) & g.isfinite().all(1) & r.isfinite() & (r >= 0)
    # A problem that asks for nothing stands in for those that have no answer.
    e, g = torch.where(finite[:, None], e, 0), torch.where(finite[:, None], g, 0)
    r = torch.where(finite & (r > 0), r, 1)[:, None]

    lowest, first = e.min(1, keepdim=True)
    origin = (-lowest).clamp(min=0)
    poles = e + origin

    def relative_step(shift: torch.Tensor) -> torch.Tensor:
        return torch.where(g == 0, 0, -g / (poles + shift) / r)

    def length(shift: torch.Tensor) -> torch.Tensor:
        return torch.linalg.vector_norm(relative_step(shift), dim=1, keepdim=True)

    # Non-negative floats have the order of their bits, so that bisection of the bits ends with two
    # neighbours after 64 steps wherever the root lies.
    low = torch.zeros_like(lowest).view(torch.int64)
    high = torch.linalg.vector_norm(g / r, dim=1, keepdim=True).view(torch.int64)
    high = torch.where(length(torch.zeros_like(lowest)) <= 1, low, high)
    for _ in range(64):
        middle = low + (high - low) // 2
        outside = length(middle.view(torch.float64)) > 1
        low, high = torch.where(outside, middle, low), torch.where(outside, high, middle)
    shift = high.view(torch.float64)

    relative = relative_step(shift)
    missing = (1 - relative.square().sum(1, keepdim=True)).clamp(min=0)
    hard = (lowest < 0) & (shift == 0)
    at_first = relative.gather(1, first)
    filled = (at_first.square() + missing).sqrt().copysign(at_first)
    relative = relative.scatter(1, first, torch.where(hard, filled, at_first))

    point = (radius == 0)[:, None]
    step = torch.where(point, 0, relative * r).where(finite[:, None], torch.nan)
    multiplier = torch.where(point, origin, origin + shift)[:, 0].where(finite, torch.nan)
    return step.to(eigenvalues.dtype), multiplier.to(eigenvalues.dtype)
