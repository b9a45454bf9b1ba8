"""What every implementation of the infidelity ops shares: dtypes, shapes, the gradient."""

from __future__ import annotations

from typing import Any

import torch

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
ATTRIBUTION_DTYPES = (torch.float32, torch.float64)


def check_dots(perturbations: torch.Tensor, attributions: torch.Tensor) -> None:
    """Check perturbations and the explanations that they meet."""
    if perturbations.dtype not in DTYPES:
        raise TypeError(f"perturbations must have a dtype of {DTYPES}, got {perturbations.dtype}")
    allowed = {*ATTRIBUTION_DTYPES, perturbations.dtype}
    if attributions.dtype not in allowed:
        raise TypeError(
            f"attributions must be float32, float64 or, like perturbations, "
            f"{perturbations.dtype}, got {attributions.dtype}"
        )
    if perturbations.ndim != 3:
        raise ValueError(
            f"perturbations must have shape (N, n, d) or (1, n, d), "
            f"got {tuple(perturbations.shape)}"
        )
    if attributions.ndim != 3 or attributions.shape[2] != perturbations.shape[2]:
        raise ValueError(
            f"attributions must have shape (N, K, d) with d = {perturbations.shape[2]}, "
            f"got {tuple(attributions.shape)}"
        )
    if perturbations.shape[0] not in (1, attributions.shape[0]):
        raise ValueError(
            f"perturbations must have a batch of 1 or that of attributions, "
            f"{attributions.shape[0]}, got {perturbations.shape[0]}"
        )


def check_gradient(
    perturbations: torch.Tensor,
    attributions: torch.Tensor,
    differences: torch.Tensor,
    weights: torch.Tensor | None,
) -> None:
    """Check the arguments of perturbation_gradient."""
    check_dots(perturbations, attributions)
    batch, explanations, _ = attributions.shape
    n = perturbations.shape[1]
    for name, x, shape, letters in (
        ("differences", differences, (batch, n, explanations), "(N, n, K)"),
        ("weights", weights, (n,), "(n,)"),
    ):
        if x is None:
            continue
        if x.dtype != torch.float64:
            raise TypeError(f"{name} must have the dtype float64, got {x.dtype}")
        if x.shape != shape:
            raise ValueError(f"{name} must have shape {letters}, {shape}, got {tuple(x.shape)}")


# Inputs that share perturbations are taken for one input with all of their explanations: the
# perturbations are then read once, not once for each input.


def attributions_together(perturbations: torch.Tensor, attributions: torch.Tensor) -> torch.Tensor:
    """Put (N, K, d) side by side, (1, N K, d), where perturbations are shared."""
    batch, explanations, d = attributions.shape
    if perturbations.shape[0] == batch:
        return attributions
    return attributions.reshape(1, batch * explanations, d)


def dots_together(perturbations: torch.Tensor, dots: torch.Tensor) -> torch.Tensor:
    """Put (N, n, K) side by side, (1, n, N K), where perturbations are shared."""
    batch, n, explanations = dots.shape
    if perturbations.shape[0] == batch:
        return dots
    return dots.transpose(0, 1).reshape(1, n, batch * explanations)


def dots_apart(dots: torch.Tensor, batch: int) -> torch.Tensor:
    """Undo `dots_together`, contiguous."""
    if dots.shape[0] == batch:
        return dots
    _, n, count = dots.shape
    return dots.view(n, batch, count // max(1, batch)).transpose(0, 1).contiguous()


def perturbation_dots_fake(perturbations: torch.Tensor, attributions: torch.Tensor) -> torch.Tensor:
    """Give an empty output of perturbation_dots."""
    check_dots(perturbations, attributions)
    batch, explanations, _ = attributions.shape
    shape = (batch, perturbations.shape[1], explanations)
    return attributions.new_empty(shape, dtype=torch.float64)


def perturbation_gradient_fake(
    perturbations: torch.Tensor,
    attributions: torch.Tensor,
    differences: torch.Tensor,
    weights: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Give empty outputs of perturbation_gradient."""
    check_gradient(perturbations, attributions, differences, weights)
    gradient = attributions.new_empty(attributions.shape, dtype=torch.float64)
    return gradient, gradient.new_empty(attributions.shape[:2])


def save_inputs(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    """Keep the inputs for the gradient."""
    ctx.save_for_backward(*inputs)


def perturbation_dots_backward(
    ctx: Any, grad: torch.Tensor
) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """Gradient of perturbation_dots: g Phi for perturbations, g^T I for attributions."""
    perturbations, attributions = ctx.saved_tensors
    to_perturbations = to_attributions = None
    if ctx.needs_input_grad[0]:
        to_each = grad @ attributions.double()
        summed = to_each.sum_to_size(perturbations.shape)
        to_perturbations = summed.to(perturbations.dtype)
    if ctx.needs_input_grad[1]:
        moment = grad.mT @ perturbations.double()
        to_attributions = moment.to(attributions.dtype)
    return to_perturbations, to_attributions
