"""What every implementation of eigh shares: dtypes, shapes, NaN, the gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

DTYPES = (torch.float32, torch.float64)

# The largest matrices that the compiled kernels take, MAX_K of csrc/eigh.h.
MAX_K = 64


def check_eigh(a: torch.Tensor) -> None:
    """Check the argument of eigh."""
    if a.dtype not in DTYPES:
        raise TypeError(f"a must have a dtype of {DTYPES}, got {a.dtype}")
    if a.ndim != 3 or a.shape[1] != a.shape[2]:
        raise ValueError(f"a must have shape (B, k, k), got {tuple(a.shape)}")


def eigh_fake(a: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Give empty outputs of eigh."""
    check_eigh(a)
    return a.new_empty(a.shape[:2]), a.new_empty(a.shape)


def with_nan_kept(
    solve: Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]], a: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Solve the finite matrices of a batch and give NaN for the others.

    Libraries stop with an error, or never, at the first matrix that is not finite. They give
    eigenvectors one after the other in memory, where the outputs of eigh are contiguous.
    """
    check_eigh(a)
    lower = a.tril()
    # Not on a GPU, where the question would wait for all work before it.
    if lower.is_cpu and lower.isfinite().all():
        values, vectors = solve(lower)
        return values, vectors.contiguous()
    finite = lower.isfinite().flatten(1).all(1)[:, None, None]
    values, vectors = solve(torch.where(finite, lower, 0))
    vectors = torch.where(finite, vectors, torch.nan).contiguous()
    return torch.where(finite[:, :, 0], values, torch.nan), vectors


def save_solution(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    """Keep the eigenpairs for the gradient."""
    ctx.save_for_backward(*output)


def eigh_backward(ctx: Any, grad_values: torch.Tensor, grad_vectors: torch.Tensor) -> torch.Tensor:
    """Gradient of eigh, made symmetric.

    It follows from dvalues_j = v_j^T da v_j and v_i^T dv_j = v_i^T da v_j / (values_j - values_i).
    """
    values, vectors = ctx.saved_tensors
    gap = values[:, None, :] - values[:, :, None]
    turned = vectors.mT @ grad_vectors
    diagonal = torch.eye(values.shape[1], dtype=torch.bool, device=values.device)
    # Eigenvalues alone have a gradient where they are equal: 0 / 0 is 0 here.
    gap = torch.where(diagonal | ((gap == 0) & (turned == 0)), 1, gap)
    inner = torch.where(diagonal, grad_values[:, None, :], turned / gap)
    gradient = vectors @ inner @ vectors.mT
    return (gradient + gradient.mT) / 2
