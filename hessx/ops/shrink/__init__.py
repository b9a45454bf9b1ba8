"""Soft thresholds, and steps of FISTA on problems with an l1 term."""

from __future__ import annotations

import torch

from hessx.ops.shrink.rules import FISTA_SUMS, check_fista_step, check_soft_threshold


def soft_threshold(x: torch.Tensor, threshold: torch.Tensor) -> torch.Tensor:
    """Shrink numbers towards zero: ``S(x, t) = sign(x) max(|x| - t, 0)``, row by row.

    The proximal map of ``t |x|_1``. NaN stays NaN; a row whose threshold is NaN becomes NaN.
    Differentiable in both arguments; where ``|x| = t`` the derivative is taken as 0.

    Args:
        x: Rows (N, d), float32 or float64.
        threshold: The threshold of each row (N,), >= 0, of the same dtype.

    Returns:
        Tensor (N, d).

    Raises:
        TypeError: If an argument is not a tensor of float32 or float64, or the dtypes differ.
        ValueError: If the shapes or the devices do not fit.

    Source: Beck and Teboulle (2009), "A fast iterative shrinkage-thresholding algorithm for linear
    inverse problems", Eq. 1.5.

    Example:
        >>> import hessx, torch
        >>> hessx.ops.soft_threshold(torch.tensor([[-3.0, 0.5, 2.0]]), torch.tensor([1.0]))
        tensor([[-2.,  0.,  1.]])
    """
    check_soft_threshold(x, threshold)
    return torch.ops.hessx.soft_threshold.default(x, threshold)


def fista_step(
    gradient: torch.Tensor,
    product: torch.Tensor,
    point: torch.Tensor,
    previous: torch.Tensor,
    step: torch.Tensor,
    momentum: torch.Tensor,
    lambda1: torch.Tensor,
    lambda2: torch.Tensor,
    *,
    out: tuple[torch.Tensor, torch.Tensor] | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Step towards the maximum of ``g^T x + x^T H x / 2 - lambda1 |x|_1 - lambda2 |x|_2^2``.

    M problems share each gradient g. With ``Hy`` the product of the Hessian and the point y, and
    S the soft threshold, in one pass over memory::

        next = S(y + step (g + Hy - 2 lambda2 y), step lambda1)
        extrapolated = next + momentum (next - previous)

    The sums are those of ``next`` as it is stored, added up in the dtype of the arguments within
    4096 columns and beyond in float64, in an order that does not depend on the number of threads
    or the batch: results are equal to the bit. NaN reaches its row, and no other. No gradient.

    Args:
        gradient: g (B, d), float32 or float64.
        product: Hy (B, M, d), of the same dtype, as are all that follow.
        point: y (B, M, d), where the step starts from.
        previous: The last ``next`` (B, M, d).
        step: Step sizes (B, M), >= 0.
        momentum: Momentum (B, M); 0 makes ``extrapolated`` equal to ``next``.
        lambda1: Weights of the l1 term (B, M), >= 0.
        lambda2: Weights of the squared l2 term (B, M).
        out: Contiguous tensors for next and extrapolated, to use again over many steps: new ones
            of some megabytes cost more than the step itself, in page faults. They may be
            ``previous`` and ``point`` themselves, but not overlap the arguments otherwise.

    Returns:
        next (B, M, d) and extrapolated (B, M, d), of the dtype of the arguments, and sums
        (B, M, 5) in float64: ``g . next``, ``|next|_1``, ``|next|_2^2``,
        ``|next - previous|_2^2`` and the number of zeros of ``next``.

    Raises:
        TypeError: If an argument is not a tensor of float32 or float64, or the dtypes differ.
        ValueError: If the shapes or the devices do not fit.

    Source: Beck and Teboulle (2009), Eqs. 4.1 to 4.3, on Definition 3 of Singla et al. (2019),
    "Understanding impacts of high-order loss approximations and features in deep learning
    interpretation" (CASO).

    Example:
        >>> import hessx, torch
        >>> zero, one = torch.zeros(1, 1, 2), torch.ones(1, 1)
        >>> gradient = torch.tensor([[3.0, -0.5]])
        >>> x, _, sums = hessx.ops.fista_step(gradient, zero, zero, zero, one, one, one, one)
        >>> x.tolist(), sums.tolist()
        ([[[2.0, 0.0]]], [[[6.0, 2.0, 4.0, 4.0, 1.0]]])
    """
    inputs = (gradient, product, point, previous, step, momentum, lambda1, lambda2)
    if out is None:
        check_fista_step(*inputs)
        out = product.new_empty(product.shape), product.new_empty(product.shape)
    else:
        check_fista_step(*inputs, **dict(zip(("out[0]", "out[1]"), out, strict=True)))
    sums = product.new_empty((*product.shape[:2], FISTA_SUMS), dtype=torch.float64)
    torch.ops.hessx.fista_step.default(*inputs, *out, sums)
    return *out, sums
