"""Trust-region problems, batched: the secular equation in the eigenbasis of the Hessian."""

from __future__ import annotations

import torch

from hessx.ops.trust_region.rules import DTYPES, check_trust_region


def trust_region(
    eigenvalues: torch.Tensor, gradient: torch.Tensor, radius: torch.Tensor | float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Minimise quadratic functions over balls, exactly and globally.

    For each row: the step t that makes ``g^T t + t^T diag(e) t / 2`` smallest over
    ``|t| <= radius``, and its Lagrange multiplier lambda. They satisfy
    ``(e_i + lambda) t_i = -g_i``, ``e_i + lambda >= 0``, ``lambda >= 0`` and
    ``lambda (|t| - radius) = 0``.

    - Hard case: if g has no weight on the lowest eigenvalue e_min < 0 and the other components do
      not reach the boundary, lambda is -e_min and the first coordinate of that eigenvalue takes the
      length that is left, with the sign of -g there, + where g is 0. Nearly hard problems keep full
      precision: the unknown is lambda + e_min.
    - Several minimisers inside the ball (e_min = 0, no weight there): the shortest one.
    - Radius 0: a step of 0 and the multiplier max(0, -e_min), as no finite number is a multiplier.
    - A row with NaN, infinity or a negative radius is NaN, and no other row.

    A problem in d dimensions whose Hessian has rank k < d: project the gradient on the k
    eigenvectors and append the length of what is left of it as one more coordinate, with
    eigenvalue 0.

    Numbers of any size are fine: each problem is scaled by powers of two. A row gives the same bits
    alone and in company, and for any number of threads.

    Differentiable in all three arguments, by the implicit function theorem. Where the derivative
    does not exist (the hard case, radius 0, an e_i = 0 with lambda = 0) it is NaN or infinite.

    Args:
        eigenvalues: Eigenvalues of the Hessians (B, k), k >= 1, in any order; float32 or float64.
        gradient: Gradients in the eigenbases (B, k), of the same dtype.
        radius: Radius of each ball (B,), of the same dtype, or one number >= 0 for all.

    Returns:
        step (B, k) and multiplier (B,), of the dtype of the arguments.

    Raises:
        TypeError: If a tensor is not float32 or float64, the dtypes differ, or the radius is
            neither a tensor nor a number.
        ValueError: If the shapes or the devices do not fit, or a number given as the radius is
            negative, NaN or beyond the dtype.

    Source: Moré and Sorensen (1983), "Computing a trust region step"; Conn, Gould and Toint (2000),
    "Trust-region methods", chapter 7.

    Example:
        >>> import hessx, torch
        >>> eigenvalues, gradient = torch.tensor([[3.0, -1.0]]), torch.tensor([[12.0, 0.0]])
        >>> step, multiplier = hessx.ops.trust_region(eigenvalues, gradient, 5.0)
        >>> step.tolist(), multiplier.tolist()
        ([[-3.0, 4.0]], [1.0])
    """
    _check_tensor("eigenvalues", eigenvalues)
    _check_tensor("gradient", gradient)
    _check_alike("gradient", gradient, eigenvalues)
    if isinstance(radius, torch.Tensor):
        _check_tensor("radius", radius)
        _check_alike("radius", radius, eigenvalues)
    else:
        if isinstance(radius, bool) or not isinstance(radius, (int, float)):
            raise TypeError(f"radius must be a number or a tensor, got {type(radius).__name__}")
        largest = torch.finfo(eigenvalues.dtype).max
        if not 0 <= radius <= largest:
            raise ValueError(f"radius must be in [0, {largest}], got {radius}")
        radius = eigenvalues.new_full((), radius).expand(eigenvalues.shape[:1])
    check_trust_region(eigenvalues, gradient, radius)
    step, multiplier = torch.ops.hessx.trust_region.default(eigenvalues, gradient, radius)
    return step, multiplier


def _check_tensor(name: str, x: torch.Tensor) -> None:
    if not isinstance(x, torch.Tensor):
        raise TypeError(f"{name} must be a tensor, got {type(x).__name__}")
    if x.dtype not in DTYPES:
        raise TypeError(f"{name} must have a dtype of {DTYPES}, got {x.dtype}")


def _check_alike(name: str, x: torch.Tensor, eigenvalues: torch.Tensor) -> None:
    if x.dtype != eigenvalues.dtype:
        raise TypeError(
            f"{name} must have the dtype of eigenvalues, {eigenvalues.dtype}, got {x.dtype}"
        )
    if x.device != eigenvalues.device:
        raise ValueError(
            f"{name} must be on the device of eigenvalues, {eigenvalues.device}, got {x.device}"
        )
