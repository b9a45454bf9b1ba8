"""What every implementation of the prox ops shares: dtypes, shapes, the gradient."""

from __future__ import annotations

from typing import Any

import torch

DTYPES = (torch.float32, torch.float64)


def check_prox_pass(
    basis: torch.Tensor, gradient: torch.Tensor, z: torch.Tensor, lambda1: torch.Tensor
) -> None:
    """Check the arguments of prox_pass."""
    dtypes = {x.dtype for x in (basis, gradient, z, lambda1)}
    if len(dtypes) > 1 or basis.dtype not in DTYPES:
        raise TypeError(f"the arguments must have one dtype of {DTYPES}, got {dtypes}")
    if basis.ndim != 3:
        raise ValueError(f"basis must have shape (B, r, d), got {tuple(basis.shape)}")
    batch, r, d = basis.shape
    if gradient.shape != (batch, d):
        raise ValueError(
            f"gradient must have shape (B, d), {(batch, d)}, got {tuple(gradient.shape)}"
        )
    if z.ndim != 3 or z.shape[0] != batch or z.shape[2] != r:
        raise ValueError(f"z must have shape (B, M, r), {(batch, 'M', r)}, got {tuple(z.shape)}")
    if lambda1.shape != z.shape[:2]:
        raise ValueError(
            f"lambda1 must have shape (B, M), {tuple(z.shape[:2])}, got {tuple(lambda1.shape)}"
        )


def prox_pass_fake(
    basis: torch.Tensor,
    gradient: torch.Tensor,
    z: torch.Tensor,
    lambda1: torch.Tensor,
    with_gram: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Give empty outputs of prox_pass."""
    check_prox_pass(basis, gradient, z, lambda1)
    batch, lambdas, r = z.shape
    side = r if with_gram else 0
    w = z.new_empty((batch, lambdas, r), dtype=torch.float64)
    return w, w.new_empty((batch, lambdas, 4)), w.new_empty((batch, lambdas, side, side))


def check_gram(x: torch.Tensor) -> None:
    """Check the argument of gram."""
    if x.dtype not in DTYPES:
        raise TypeError(f"x must have a dtype of {DTYPES}, got {x.dtype}")
    if x.ndim != 3:
        raise ValueError(f"x must have shape (B, c, d), got {tuple(x.shape)}")


def gram_fake(x: torch.Tensor) -> torch.Tensor:
    """Give an empty output of gram."""
    check_gram(x)
    batch, rows, _ = x.shape
    return x.new_empty((batch, rows, rows), dtype=torch.float64)


def save_rows(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    """Keep the rows for the gradient."""
    ctx.save_for_backward(*inputs)


def gram_backward(ctx: Any, grad_gram: torch.Tensor) -> torch.Tensor:
    """Gradient of gram: (G + G^T) x."""
    (x,) = ctx.saved_tensors
    return ((grad_gram + grad_gram.mT) @ x.double()).to(x.dtype)
