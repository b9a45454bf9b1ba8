"""A Douglas-Rachford step on the edges of grids in plain torch, in float64: the ground truth."""

from __future__ import annotations

import torch

from hessx.ops.edges.rules import edge_divergence_fake, edge_prox_fake, edge_update_fake
from hessx.ops.grid.reference import grid_difference, grid_difference_adjoint


def edge_prox(
    z: torch.Tensor, centre: torch.Tensor, radius: torch.Tensor, threshold: torch.Tensor
) -> torch.Tensor:
    """Shrink and clip; see `hessx.ops.edge_prox`."""
    return edge_prox_fake(z, centre, radius, threshold).copy_(_prox(z, centre, radius, threshold))


def edge_divergence(
    z: torch.Tensor,
    centre: torch.Tensor,
    radius: torch.Tensor,
    threshold: torch.Tensor,
    out: torch.Tensor,
) -> None:
    """The reflected point at the pixels, in place of the last; see `hessx.ops.edge_divergence`."""
    edge_divergence_fake(z, centre, radius, threshold, out)
    a = _prox(z, centre, radius, threshold).to(z.dtype)
    out.copy_(grid_difference_adjoint(2 * a.double() - z.double(), *out.shape[1:]))


def edge_update(
    z: torch.Tensor,
    anchor: torch.Tensor,
    centre: torch.Tensor,
    potential: torch.Tensor,
    radius: torch.Tensor,
    threshold: torch.Tensor,
    weight: torch.Tensor,
    next: torch.Tensor,
    residual: torch.Tensor,
) -> None:
    """Finish a step, in place of the last two; see `hessx.ops.edge_update`."""
    edge_update_fake(z, anchor, centre, potential, radius, threshold, weight, next, residual)
    a = _prox(z, centre, radius, threshold).to(z.dtype)
    step = grid_difference(potential.double()) - a.double()
    w = weight.double()[:, None]
    residual.copy_(step.square().sum(1))
    # Last: it may be an argument itself.
    next.copy_(w * (z.double() + 2 * step) + (1 - w) * anchor.double())


def _prox(
    z: torch.Tensor, centre: torch.Tensor, radius: torch.Tensor, threshold: torch.Tensor
) -> torch.Tensor:
    z, centre, radius, threshold = (x.double() for x in (z, centre, radius, threshold))
    low, high = centre - radius[:, None], centre + radius[:, None]
    shrunk = z.sign() * (z.abs() - threshold[:, None]).clamp(min=0)
    return torch.where(low <= high, shrunk.clamp(low, high), torch.nan)
