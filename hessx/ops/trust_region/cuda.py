"""Trust-region problems by CUDA C++: one warp a problem."""

from __future__ import annotations

import torch

from hessx.ops.launch import launch
from hessx.ops.trust_region.rules import trust_region_fake

_WARP = 32
_WARPS_PER_BLOCK = 8


def trust_region(
    eigenvalues: torch.Tensor, gradient: torch.Tensor, radius: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Steps and multipliers; see `hessx.ops.trust_region`."""
    step, multiplier = trust_region_fake(eigenvalues, gradient, radius)
    batch, k = eigenvalues.shape
    double = eigenvalues.dtype == torch.float64
    launch(
        "hessx_trust_region_double" if double else "hessx_trust_region_float",
        eigenvalues,
        -(-batch // _WARPS_PER_BLOCK),
        _WARPS_PER_BLOCK * _WARP,
        0,
        eigenvalues,
        *eigenvalues.stride(),
        gradient,
        *gradient.stride(),
        radius,
        radius.stride(0),
        batch,
        k,
        step,
        multiplier,
    )
    return step, multiplier
