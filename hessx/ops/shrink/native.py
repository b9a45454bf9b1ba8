"""Soft threshold and FISTA step through the compiled kernels, CPU tensors."""

from __future__ import annotations

import torch

from hessx import backends
from hessx.ops.shrink.rules import fista_step_fake, soft_threshold_fake


def soft_threshold(x: torch.Tensor, threshold: torch.Tensor) -> torch.Tensor:
    """Shrink towards zero; see `hessx.ops.soft_threshold`."""
    x, threshold = x.contiguous(), threshold.contiguous()
    out = soft_threshold_fake(x, threshold)
    kernels = backends.native()
    double = x.dtype == torch.float64
    shrink = kernels.soft_threshold_double if double else kernels.soft_threshold_float
    shrink(
        x.data_ptr(),
        threshold.data_ptr(),
        out.data_ptr(),
        *x.shape,
        torch.get_num_threads(),
        backends.cpu_level(),
    )
    return out


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
    arguments = (gradient, product, point, previous, step, momentum, lambda1, lambda2)
    fista_step_fake(*arguments, next, extrapolated, sums)
    inputs = [x.contiguous() for x in arguments]
    kernels = backends.native()
    double = point.dtype == torch.float64
    run = kernels.fista_step_double if double else kernels.fista_step_float
    run(
        *(x.data_ptr() for x in (*inputs, next, extrapolated, sums)),
        *point.shape,
        torch.get_num_threads(),
        backends.cpu_level(),
    )
