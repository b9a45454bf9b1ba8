"""Trust-region problems through the compiled kernels, CPU tensors."""

from __future__ import annotations

import torch

from hessx import backends
from hessx.ops.trust_region.rules import trust_region_fake


def trust_region(
    eigenvalues: torch.Tensor, gradient: torch.Tensor, radius: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Steps and multipliers; see `hessx.ops.trust_region`."""
    step, multiplier = trust_region_fake(eigenvalues, gradient, radius)
    double = eigenvalues.dtype == torch.float64
    kernels = backends.native()
    solve = kernels.trust_region_double if double else kernels.trust_region_float
    solve(
        eigenvalues.data_ptr(),
        eigenvalues.stride(),
        gradient.data_ptr(),
        gradient.stride(),
        radius.data_ptr(),
        radius.stride(0),
        *eigenvalues.shape,
        step.data_ptr(),
        multiplier.data_ptr(),
        torch.get_num_threads(),
        backends.cpu_level(),
    )
    return step, multiplier
