"""Pictures of least total variation through the compiled network simplex."""

from __future__ import annotations

import torch

from hessx import backends
from hessx.ops.flow.rules import check_values, tv_flow_fake


def tv_flow(
    estimate: torch.Tensor, radius: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Solutions, potentials and pivots; see `hessx.ops.tv_flow`."""
    outputs = tv_flow_fake(estimate, radius)
    check_values(estimate, radius)
    # The kernel walks along the radii of a picture from the largest one down.
    descending, order = radius.contiguous().sort(dim=1, descending=True)
    estimate = estimate.contiguous()
    backends.native().tv_flow(
        estimate.data_ptr(),
        descending.data_ptr(),
        *radius.shape,
        *estimate.shape[1:],
        *(x.data_ptr() for x in outputs),
        torch.get_num_threads(),
        backends.cpu_level(),
    )
    if radius.shape[1] == 1:
        return outputs
    place = order.argsort(dim=1)
    row = torch.arange(len(radius))[:, None]
    solution, potential, pivots = (x[row, place] for x in outputs)
    return solution, potential, pivots
