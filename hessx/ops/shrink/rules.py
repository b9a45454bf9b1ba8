"""What every implementation of the shrink ops shares: dtypes, shapes, block size, the gradient."""

from __future__ import annotations

from typing import Any

import torch

DTYPES = (torch.float32, torch.float64)

# Columns that are added up in the working precision before the float64 sum takes over: no lane
# of a vector register adds more than 1024 numbers, and the order of all additions is fixed.
COLUMN_BLOCK = 4096

# gradient . next, |next|_1, |next|_2^2, |next - previous|_2^2, number of zeros of next
FISTA_SUMS = 5


def check_soft_threshold(x: torch.Tensor, threshold: torch.Tensor) -> None:
    """Check the arguments of soft_threshold."""
    _check_alike({"x": x, "threshold": threshold})
    if x.ndim != 2:
        raise ValueError(f"x must have shape (N, d), got {tuple(x.shape)}")
    if threshold.shape != x.shape[:1]:
        raise ValueError(
            f"threshold must hold one number a row, {x.shape[0]}, got {tuple(threshold.shape)}"
        )


def soft_threshold_fake(x: torch.Tensor, threshold: torch.Tensor) -> torch.Tensor:
    """Give an empty output of soft_threshold."""
    check_soft_threshold(x, threshold)
    return x.new_empty(x.shape)


def save_thresholded(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    """Keep the result for the gradient."""
    ctx.save_for_backward(output)


def soft_threshold_backward(
    ctx: Any, grad: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Gradient of soft_threshold: what is not zero moves with x, and against its threshold."""
    (output,) = ctx.saved_tensors
    to_x = torch.where(output == 0, 0, grad)
    to_threshold = None
    if ctx.needs_input_grad[1]:
        to_threshold = -(grad * output.sign()).sum(1, dtype=torch.float64).to(grad.dtype)
    return to_x, to_threshold


def check_fista_step(
    gradient: torch.Tensor,
    product: torch.Tensor,
    point: torch.Tensor,
    previous: torch.Tensor,
    step: torch.Tensor,
    momentum: torch.Tensor,
    lambda1: torch.Tensor,
    lambda2: torch.Tensor,
    **outputs: torch.Tensor,
) -> None:
    """Check the arguments of fista_step, and the tensors that are filled in place."""
    vectors = {"product": product, "point": point, "previous": previous}
    numbers = {"step": step, "momentum": momentum, "lambda1": lambda1, "lambda2": lambda2}
    _check_alike({"gradient": gradient} | vectors | numbers | outputs)
    if gradient.ndim != 2:
        raise ValueError(f"gradient must have shape (B, d), got {tuple(gradient.shape)}")
    batch, d = gradient.shape
    if product.ndim != 3 or product.shape[0] != batch or product.shape[2] != d:
        raise ValueError(
            f"product must have shape (B, M, d) with B = {batch} and d = {d}, "
            f"got {tuple(product.shape)}"
        )
    for name, x in (vectors | outputs).items():
        if x.shape != product.shape:
            raise ValueError(
                f"{name} must have the shape of product, {tuple(product.shape)}, "
                f"got {tuple(x.shape)}"
            )
    for name, x in numbers.items():
        if x.shape != product.shape[:2]:
            raise ValueError(
                f"{name} must have shape (B, M), {tuple(product.shape[:2])}, got {tuple(x.shape)}"
            )
    for name, x in outputs.items():
        if not x.is_contiguous():
            raise ValueError(f"{name} must be contiguous, got strides {x.stride()}")


def fista_step_fake(
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
    """Check the arguments and the tensors that are filled in place."""
    inputs = (gradient, product, point, previous, step, momentum, lambda1, lambda2)
    check_fista_step(*inputs, next=next, extrapolated=extrapolated)
    expected = (*product.shape[:2], FISTA_SUMS)
    if sums.shape != expected or sums.dtype != torch.float64 or not sums.is_contiguous():
        raise ValueError(
            f"sums must be contiguous, float64, of shape {tuple(expected)}, "
            f"got {sums.dtype} of shape {tuple(sums.shape)}, strides {sums.stride()}"
        )
    if sums.device != product.device:
        raise ValueError(
            f"sums must be on the device of product, {product.device}, got {sums.device}"
        )


def _check_alike(tensors: dict[str, torch.Tensor]) -> None:
    first_name, first = next(iter(tensors.items()))
    for name, x in tensors.items():
        if not isinstance(x, torch.Tensor):
            raise TypeError(f"{name} must be a tensor, got {type(x).__name__}")
        if x.dtype not in DTYPES:
            raise TypeError(f"{name} must have a dtype of {DTYPES}, got {x.dtype}")
        if x.dtype != first.dtype:
            raise TypeError(
                f"{name} must have the dtype of {first_name}, {first.dtype}, got {x.dtype}"
            )
        if x.device != first.device:
            raise ValueError(
                f"{name} must be on the device of {first_name}, {first.device}, got {x.device}"
            )
