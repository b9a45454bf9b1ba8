"""What every implementation of trust_region shares: dtypes, shapes, the gradient."""

from __future__ import annotations

from typing import Any

import torch

DTYPES = (torch.float32, torch.float64)


def check_trust_region(
    eigenvalues: torch.Tensor, gradient: torch.Tensor, radius: torch.Tensor
) -> None:
    """Check the arguments of trust_region."""
    dtypes = {eigenvalues.dtype, gradient.dtype, radius.dtype}
    if len(dtypes) > 1 or eigenvalues.dtype not in DTYPES:
        raise TypeError(f"the arguments must have one dtype of {DTYPES}, got {dtypes}")
    if eigenvalues.ndim != 2 or eigenvalues.shape[1] == 0:
        raise ValueError(
            f"eigenvalues must have shape (B, k) with k >= 1, got {tuple(eigenvalues.shape)}"
        )
    if gradient.shape != eigenvalues.shape:
        raise ValueError(
            f"gradient must have the shape of eigenvalues, {tuple(eigenvalues.shape)}, "
            f"got {tuple(gradient.shape)}"
        )
    if radius.shape != eigenvalues.shape[:1]:
        raise ValueError(
            f"radius must hold one number a problem, {eigenvalues.shape[0]}, "
            f"got {tuple(radius.shape)}"
        )


def trust_region_fake(
    eigenvalues: torch.Tensor, gradient: torch.Tensor, radius: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Give empty outputs of trust_region."""
    check_trust_region(eigenvalues, gradient, radius)
    return eigenvalues.new_empty(eigenvalues.shape), eigenvalues.new_empty(radius.shape)


def save_solution(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    """Keep the problem and its solution for the gradient."""
    eigenvalues, _, radius = inputs
    ctx.save_for_backward(eigenvalues, radius, *output)


def trust_region_backward(
    ctx: Any, grad_step: torch.Tensor, grad_multiplier: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradient of trust_region, from (e + lambda) t = -g and, on the boundary, |t| = radius."""
    eigenvalues, radius, step, multiplier = ctx.saved_tensors
    curvature = eigenvalues + multiplier[:, None]
    bent_grad, bent_step = grad_step / curvature, step / curvature
    on_boundary = multiplier > 0
    stretch = torch.where(on_boundary, (step * bent_step).sum(1), 1)
    along = torch.where(on_boundary, (grad_multiplier - (bent_grad * step).sum(1)) / stretch, 0)
    to_gradient = -bent_grad - along[:, None] * bent_step
    return step * to_gradient, to_gradient, -along * radius
