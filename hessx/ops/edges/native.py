"""A Douglas-Rachford step on the edges of grids through the compiled kernels, CPU tensors."""

from __future__ import annotations

import torch

from hessx import backends
from hessx.ops.edges.rules import edge_divergence_fake, edge_prox_fake, edge_update_fake


def edge_prox(
    z: torch.Tensor, centre: torch.Tensor, radius: torch.Tensor, threshold: torch.Tensor
) -> torch.Tensor:
    """Shrink and clip; see `hessx.ops.edge_prox`."""
    out = edge_prox_fake(z, centre, radius, threshold)
    inputs = [x.contiguous() for x in (z, centre, radius, threshold)]
    kernels = backends.native()
    run = kernels.edge_prox_double if z.dtype == torch.float64 else kernels.edge_prox_float
    run(
        *(x.data_ptr() for x in (*inputs, out)),
        *z.shape,
        torch.get_num_threads(),
        backends.cpu_level(),
    )
    return out


def edge_divergence(
    z: torch.Tensor,
    centre: torch.Tensor,
    radius: torch.Tensor,
    threshold: torch.Tensor,
    out: torch.Tensor,
) -> None:
    """The reflected point at the pixels, in place of the last; see `hessx.ops.edge_divergence`."""
    edge_divergence_fake(z, centre, radius, threshold, out)
    inputs = [x.contiguous() for x in (z, centre, radius, threshold)]
    kernels = backends.native()
    double = z.dtype == torch.float64
    run = kernels.edge_divergence_double if double else kernels.edge_divergence_float
    run(
        *(x.data_ptr() for x in (*inputs, out)),
        *out.shape,
        torch.get_num_threads(),
        backends.cpu_level(),
    )


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
    arguments = (z, anchor, centre, potential, radius, threshold, weight)
    edge_update_fake(*arguments, next, residual)
    inputs = [x.contiguous() for x in arguments]
    kernels = backends.native()
    run = kernels.edge_update_double if z.dtype == torch.float64 else kernels.edge_update_float
    run(
        *(x.data_ptr() for x in (*inputs, next, residual)),
        *potential.shape,
        torch.get_num_threads(),
        backends.cpu_level(),
    )
