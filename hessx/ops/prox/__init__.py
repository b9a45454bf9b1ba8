"""The prox pass of low-rank models with an l1 penalty, and Gram matrices of long rows.

Each adds up numbers of a tile in the input's precision and the tiles, in a fixed order, in float64:
results do not depend on the number of threads.
"""

from __future__ import annotations

import torch

from hessx.ops.prox.rules import DTYPES, check_gram, check_prox_pass


def prox_pass(
    basis: torch.Tensor,
    gradient: torch.Tensor,
    z: torch.Tensor,
    lambda1: torch.Tensor,
    *,
    with_gram: bool = True,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Sum what Newton's method on the dual of a sparse low-rank problem needs, in one pass.

    For a model Hessian ``H = basis^T basis`` and each coordinate z of a dual point:
    ``s = S(gradient + basis^T z, lambda1)``, with the soft threshold
    ``S(x, t) = sign(x) max(|x| - t, 0)``; s (d numbers) is used and never stored. ``w = basis s``,
    ``sums = [|s|_2^2, |s|_1, gradient^T s, zeros of s]`` and ``gram = basis_A basis_A^T`` over the
    active set ``A = {i: s_i != 0}``. The maximiser of
    ``g^T D + |basis D|^2 / 2 - lambda1 |D|_1 - lambda2 |D|^2`` is ``s / (2 lambda2)`` at the z that
    equals ``w / (2 lambda2)``; the derivative of ``z - w / (2 lambda2)`` is
    ``I - gram / (2 lambda2)``.

    An entry whose ``|gradient + basis^T z|`` is within rounding of lambda1 may be active in one
    backend and not in another. Several lambdas of one row cost little more than one: on the CPU
    their nested active sets share their Gram matrices. NaN stays in its row of the batch.
    No gradient.

    Args:
        basis: Factor of the Hessian (B, r, d); float32 or float64.
        gradient: Gradients g (B, d), of basis' dtype.
        z: Points (B, M, r), of basis' dtype.
        lambda1: Thresholds (B, M), of basis' dtype, each >= 0, which is not checked.
        with_gram: Whether to give the Gram matrices.

    Returns:
        w (B, M, r), sums (B, M, 4) and gram (B, M, r, r), exactly symmetric, or (B, M, 0, 0)
        without it; float64.

    Raises:
        TypeError: If an argument is no tensor of float32 or float64, the dtypes differ, or
            with_gram is no bool.
        ValueError: If the shapes or the devices do not fit.

    Source: Singla et al. (2019), "Understanding Impacts of High-Order Loss Approximations and
    Features in Deep Learning Interpretation", Definition 3, for the objective; Li, Sun and Toh
    (2018), "A highly efficient semismooth Newton augmented Lagrangian method", for the method.

    Example:
        >>> import hessx, torch
        >>> basis, gradient = torch.eye(2)[None], torch.tensor([[3.0, 1.0]])
        >>> z, lambda1 = torch.zeros(1, 1, 2), torch.tensor([[2.0]])
        >>> w, sums, gram = hessx.ops.prox_pass(basis, gradient, z, lambda1)
        >>> w.tolist(), sums.tolist()
        ([[[1.0, 0.0]]], [[[1.0, 1.0, 3.0, 1.0]]])
        >>> gram.tolist()
        [[[[1.0, 0.0], [0.0, 0.0]]]]
    """
    _check_tensor("basis", basis)
    for name, x in (("gradient", gradient), ("z", z), ("lambda1", lambda1)):
        _check_tensor(name, x)
        if x.dtype != basis.dtype:
            raise TypeError(f"{name} must have the dtype of basis, {basis.dtype}, got {x.dtype}")
        if x.device != basis.device:
            raise ValueError(
                f"{name} must be on the device of basis, {basis.device}, got {x.device}"
            )
    if not isinstance(with_gram, bool):
        raise TypeError(f"with_gram must be a bool, got {type(with_gram).__name__}")
    check_prox_pass(basis, gradient, z, lambda1)
    w, sums, gram = torch.ops.hessx.prox_pass.default(basis, gradient, z, lambda1, with_gram)
    return w, sums, gram


def gram(x: torch.Tensor) -> torch.Tensor:
    """Multiply few long rows with each other: ``x x^T``, for each element of the batch.

    Differentiable.

    Args:
        x: Rows (B, c, d), or (c, d) without a batch; float32 or float64.

    Returns:
        Gram matrices (B, c, c), float64, exactly symmetric; without the batch dimension if x has
        none.

    Raises:
        TypeError: If x is no tensor of float32 or float64.
        ValueError: If x has neither two nor three dimensions.

    Source: the c x c matrix of appendix C of Singla et al. (2019).

    Example:
        >>> import hessx, torch
        >>> hessx.ops.gram(torch.tensor([[1.0, 2.0], [0.0, 3.0]]))
        tensor([[5., 6.],
                [6., 9.]], dtype=torch.float64)
    """
    _check_tensor("x", x)
    if x.ndim not in (2, 3):
        raise ValueError(f"x must have shape (c, d) or (B, c, d), got {tuple(x.shape)}")
    batched = x[None] if x.ndim == 2 else x
    check_gram(batched)
    result: torch.Tensor = torch.ops.hessx.gram.default(batched)
    return result[0] if x.ndim == 2 else result


def _check_tensor(name: str, x: torch.Tensor) -> None:
    if not isinstance(x, torch.Tensor):
        raise TypeError(f"{name} must be a tensor, got {type(x).__name__}")
    if x.dtype not in DTYPES:
        raise TypeError(f"{name} must have a dtype of {DTYPES}, got {x.dtype}")
