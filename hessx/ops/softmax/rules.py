"""What every implementation of softmax_product shares: dtypes, shapes, the gradient."""

from __future__ import annotations

from typing import Any

import torch

DTYPES = (torch.float32, torch.float64)


def check_softmax_product(probabilities: torch.Tensor, vectors: torch.Tensor) -> None:
    """Check the arguments of softmax_product."""
    for name, x in (("probabilities", probabilities), ("vectors", vectors)):
        if not isinstance(x, torch.Tensor):
            raise TypeError(f"{name} must be a tensor, got {type(x).__name__}")
        if x.dtype not in DTYPES:
            raise TypeError(f"{name} must have a dtype of {DTYPES}, got {x.dtype}")
    if vectors.dtype != probabilities.dtype:
        raise TypeError(
            f"vectors must have the dtype of probabilities, {probabilities.dtype}, "
            f"got {vectors.dtype}"
        )
    if vectors.device != probabilities.device:
        raise ValueError(
            f"vectors must be on the device of probabilities, {probabilities.device}, "
            f"got {vectors.device}"
        )
    if probabilities.ndim != 2:
        raise ValueError(f"probabilities must have shape (B, c), got {tuple(probabilities.shape)}")
    batch, classes = probabilities.shape
    if vectors.ndim != 3 or vectors.shape[0] != batch or vectors.shape[2] != classes:
        raise ValueError(
            f"vectors must have shape (B, m, c) with B = {batch} and c = {classes}, "
            f"got {tuple(vectors.shape)}"
        )


def softmax_product_fake(probabilities: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
    """Give an empty output of softmax_product."""
    check_softmax_product(probabilities, vectors)
    return vectors.new_empty(vectors.shape)


def save_inputs(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    """Keep the inputs for the gradient."""
    ctx.save_for_backward(*inputs)


def softmax_product_backward(
    ctx: Any, grad: torch.Tensor
) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """Gradient of softmax_product, whose matrix diag(p) - p p^T is symmetric.

    That of the probabilities is the one along the simplex, on which they lie: a constant over
    the classes is open, and chosen as the product's origin is.
    """
    probabilities, vectors = ctx.saved_tensors
    to_probabilities = to_vectors = None
    if ctx.needs_input_grad[0] and vectors.numel() > 0:
        p, g = probabilities.double()[:, None], grad.double()
        origin = probabilities.argmax(1)[:, None, None].expand(-1, vectors.shape[1], 1)
        u = vectors.double()
        u = u - u.gather(2, origin)
        mean = (p * u).sum(2, keepdim=True)
        terms = g * (u - mean) - u * (p * g).sum(2, keepdim=True)
        to_probabilities = terms.sum(1).to(probabilities.dtype)
    elif ctx.needs_input_grad[0]:
        to_probabilities = torch.zeros_like(probabilities)
    if ctx.needs_input_grad[1]:
        to_vectors = torch.ops.hessx.softmax_product(probabilities, grad)
    return to_probabilities, to_vectors
