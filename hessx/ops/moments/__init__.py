"""Weighted cross-moments of samples: batched sums of outer products, accumulated in float64.

float32, bfloat16 and float16 inputs: products in float32, added up in float32 within blocks of
`rules.SAMPLE_BLOCK` samples, the blocks in order in float64. float64 inputs: float64 throughout.
NaN and infinity reach exactly the entries that they touch.
"""

from __future__ import annotations

import torch

from hessx.ops.moments.rules import DTYPES
from hessx.ops.noise.rules import check_draws


def cross_moments(
    u: torch.Tensor, v: torch.Tensor, weight: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Sum samples and their outer products.

    ``sum_u = sum_i w_i u_i``, ``sum_v = sum_i w_i v_i``, ``uv = sum_i w_i u_i v_i^T``, for each
    element of the batch. Differentiable in u, v and weight.

    Args:
        u: Samples (n, k) or (B, n, k); a batch of 1 is shared by all.
        v: Samples (n, l) or (B, n, l), of u's dtype; a batch of 1 is shared by all.
        weight: Weight of each sample, (n,) or (B, n); 1 when not given.

    Returns:
        sum_u (B, k), sum_v (B, l) and uv (B, k, l), float64. Each has the batch of what it is
        made from: sum_u that of u and weight, sum_v that of v and weight. Without the batch
        dimension if no argument has one.

    Raises:
        TypeError: If an argument is not a floating-point tensor, or the dtypes differ.
        ValueError: If the shapes or the devices do not fit.

    Example:
        >>> import hessx, torch
        >>> u = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
        >>> hessx.ops.cross_moments(u, u)[2]
        tensor([[10., 14.],
                [14., 20.]], dtype=torch.float64)
    """
    _check_samples("u", u)
    _check_samples("v", v)
    _check_alike("v", v, "u", u)
    if weight is not None:
        _check_weight(weight, "u", u)
    single = u.ndim == 2 and v.ndim == 2 and (weight is None or weight.ndim == 1)
    results = torch.ops.hessx.cross_moments.default(_batched(u), _batched(v), weight)
    sum_u, sum_v, uv = (result[0] for result in results) if single else results
    return sum_u, sum_v, uv


def normal_moments(
    v: torch.Tensor,
    m: int,
    *,
    seed: int,
    first_sample: int = 0,
    stream: int = 0,
    weight: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Sum samples and their outer products with standard normal draws that are never stored.

    The same as `cross_moments` of ``z = normal(n, m, seed=seed, ..., dtype=v.dtype)`` and ``v``:
    ``sum_z = sum_i w_i z_i``, ``sum_v = sum_i w_i v_i``, ``zv = sum_i w_i z_i v_i^T``. The draws
    are made from their numbers where they are used, tile by tile. Differentiable in v and weight
    (the gradient does store the draws).

    Args:
        v: Samples (n, l) or (B, n, l); all of the batch meet the same draws.
        m: Number of features of a draw, >= 0.
        seed: Key of the generator, 0 <= seed < 2**63.
        first_sample: Number of the first draw, >= 0.
        stream: Independent stream under the same seed, 0 <= stream < 2**32.
        weight: Weight of each sample, (n,) or (B, n), of v's dtype; 1 when not given.

    Returns:
        sum_z (1, m) or (B, m) with a batch of weights, sum_v (B, l) and zv (B, m, l), float64;
        without the batch dimension if no argument has one.

    Raises:
        TypeError: If a tensor is not floating-point, the dtypes differ or a number is not an
            integer.
        ValueError: If the shapes or the devices do not fit, or a number is out of its range.

    Source: the Stein estimators of SmoothHess (Proposition 1) and LEG (Theorem 1) are such sums.

    Example:
        >>> import hessx, torch
        >>> v = torch.ones(1000, 1)
        >>> z = hessx.ops.normal(1000, 3, seed=7)
        >>> torch.allclose(hessx.ops.normal_moments(v, 3, seed=7)[0], z.double().sum(0))
        True
    """
    _check_samples("v", v)
    check_draws(v.shape[-2], m, seed, first_sample, stream)
    if weight is not None:
        _check_weight(weight, "v", v)
    single = v.ndim == 2 and (weight is None or weight.ndim == 1)
    results = torch.ops.hessx.normal_moments.default(
        _batched(v), weight, m, seed, first_sample, stream
    )
    sum_z, sum_v, zv = (result[0] for result in results) if single else results
    return sum_z, sum_v, zv


def core_moments(
    u: torch.Tensor, w: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Sum the three products that an estimated Hessian and its entry variances need.

    ``uw = u^T w``, ``u2w2 = (u*u)^T (w*w)``, ``cross = (u*w)^T (u*w)``, ``w2 = sum_i w_i^2``,
    products ``*`` by element. Differentiable in u and w.

    Args:
        u: Samples (n, k) or (B, n, k).
        w: Samples of u's shape and dtype.

    Returns:
        uw (B, k, k), u2w2 (B, k, k), cross (B, k, k), exactly symmetric, and w2 (B, k), float64;
        without the batch dimension if u and w have none.

    Raises:
        TypeError: If an argument is not a floating-point tensor, or the dtypes differ.
        ValueError: If the shapes or the devices differ.

    Example:
        >>> import hessx, torch
        >>> u = torch.tensor([[1.0, 2.0]])
        >>> hessx.ops.core_moments(u, u)[3]
        tensor([1., 4.], dtype=torch.float64)
    """
    _check_samples("u", u)
    _check_samples("w", w)
    _check_alike("w", w, "u", u)
    if u.shape != w.shape:
        raise ValueError(f"w must have the shape of u, {tuple(u.shape)}, got {tuple(w.shape)}")
    results = torch.ops.hessx.core_moments.default(_batched(u), _batched(w))
    uw, u2w2, cross, w2 = (result[0] for result in results) if u.ndim == 2 else results
    return uw, u2w2, cross, w2


def _batched(x: torch.Tensor) -> torch.Tensor:
    return x[None] if x.ndim == 2 else x


def _check_tensor(name: str, x: torch.Tensor) -> None:
    if not isinstance(x, torch.Tensor):
        raise TypeError(f"{name} must be a tensor, got {type(x).__name__}")
    if x.dtype not in DTYPES:
        raise TypeError(f"{name} must have a dtype of {DTYPES}, got {x.dtype}")


def _check_samples(name: str, x: torch.Tensor) -> None:
    _check_tensor(name, x)
    if x.ndim not in (2, 3):
        raise ValueError(
            f"{name} must have shape (samples, features) or (batch, samples, features), "
            f"got {tuple(x.shape)}"
        )


def _check_weight(weight: torch.Tensor, name: str, x: torch.Tensor) -> None:
    _check_tensor("weight", weight)
    _check_alike("weight", weight, name, x)
    if weight.ndim not in (1, 2):
        raise ValueError(f"weight must have shape (n,) or (B, n), got {tuple(weight.shape)}")


def _check_alike(name: str, x: torch.Tensor, other_name: str, other: torch.Tensor) -> None:
    if x.dtype != other.dtype:
        raise TypeError(f"{name} must have the dtype of {other_name}, {other.dtype}, got {x.dtype}")
    if x.device != other.device:
        raise ValueError(
            f"{name} must be on the device of {other_name}, {other.device}, got {x.device}"
        )
