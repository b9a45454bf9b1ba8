"""What every implementation of the moments ops shares: dtypes, shapes, block size, gradients."""

from __future__ import annotations

from typing import Any

import torch

# The shapes of sum_u, sum_v and uv.
CrossMomentsShapes = tuple[tuple[int, int], tuple[int, int], tuple[int, int, int]]

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)

# Samples that are added up in the working precision before the float64 sum takes over. It bounds
# the float32 error by 256 rounding steps whatever n is, and fixes the order of all additions.
SAMPLE_BLOCK = 256


def cross_moments_shapes(
    u: torch.Tensor, v: torch.Tensor, weight: torch.Tensor | None
) -> CrossMomentsShapes:
    """Check the arguments of cross_moments and give the shapes of sum_u, sum_v and uv."""
    if u.ndim != 3 or v.ndim != 3 or u.shape[1] != v.shape[1]:
        raise ValueError(
            "u and v must hold the same number of samples, (B, n, k) and (B, n, l), "
            f"got {tuple(u.shape)} and {tuple(v.shape)}"
        )
    return _shapes(u.shape[0], u.shape[2], v, weight)


def normal_moments_shapes(
    v: torch.Tensor, weight: torch.Tensor | None, m: int
) -> CrossMomentsShapes:
    """Check the arguments of normal_moments and give the shapes of sum_z, sum_v and zv."""
    if v.ndim != 3:
        raise ValueError(f"v must have shape (B, n, l), got {tuple(v.shape)}")
    return _shapes(1, m, v, weight)


def _shapes(
    batch_u: int, k: int, v: torch.Tensor, weight: torch.Tensor | None
) -> CrossMomentsShapes:
    batch_v, n, l = v.shape  # noqa: E741
    if weight is not None and weight.shape[-1] != n:
        raise ValueError(f"weight must hold one number a sample, {n}, got {tuple(weight.shape)}")
    weights = 1 if weight is None or weight.ndim == 1 else weight.shape[0]
    batch_u = _common_batch(batch_u, weights)
    batch_v = _common_batch(batch_v, weights)
    return (batch_u, k), (batch_v, l), (_common_batch(batch_u, batch_v), k, l)


def _common_batch(a: int, b: int) -> int:
    if a != b and 1 not in (a, b):
        raise ValueError(f"the batches of u, v and weight must be equal or 1, got {a} and {b}")
    return b if a == 1 else a


def check_core_moments(u: torch.Tensor, w: torch.Tensor) -> None:
    """Check the arguments of core_moments."""
    if u.ndim != 3 or u.shape != w.shape:
        raise ValueError(
            f"u and w must have one shape (B, n, k), got {tuple(u.shape)} and {tuple(w.shape)}"
        )


def cross_moments_fake(
    u: torch.Tensor, v: torch.Tensor, weight: torch.Tensor | None = None
) -> tuple[torch.Tensor, ...]:
    """Give empty outputs of cross_moments."""
    shapes = cross_moments_shapes(u, v, weight)
    return tuple(u.new_empty(shape, dtype=torch.float64) for shape in shapes)


def normal_moments_fake(
    v: torch.Tensor,
    weight: torch.Tensor | None,
    m: int,
    seed: int,
    first_sample: int,
    stream: int,
) -> tuple[torch.Tensor, ...]:
    """Give empty outputs of normal_moments."""
    shapes = normal_moments_shapes(v, weight, m)
    return tuple(v.new_empty(shape, dtype=torch.float64) for shape in shapes)


def core_moments_fake(u: torch.Tensor, w: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Give empty outputs of core_moments."""
    check_core_moments(u, w)
    batch, _, k = u.shape
    square = [u.new_empty((batch, k, k), dtype=torch.float64) for _ in range(3)]
    return (*square, u.new_empty((batch, k), dtype=torch.float64))


def save_inputs(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    """Keep the inputs for the gradient."""
    ctx.save_for_backward(*inputs)


def cross_moments_backward(
    ctx: Any, grad_sum_u: torch.Tensor, grad_sum_v: torch.Tensor, grad_uv: torch.Tensor
) -> tuple[torch.Tensor | None, ...]:
    """Gradient of cross_moments: u_i gets w_i (grad_sum_u + grad_uv v_i), v_i alike."""
    u, v, weight = ctx.saved_tensors
    return _cross_moments_gradients(u, v, weight, grad_sum_u, grad_sum_v, grad_uv)


def save_normal_moments(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    """Keep the tensors and the numbers of the draws for the gradient."""
    v, weight, *ctx.draws = inputs
    ctx.save_for_backward(v, weight)


def normal_moments_backward(
    ctx: Any, grad_sum_z: torch.Tensor, grad_sum_v: torch.Tensor, grad_zv: torch.Tensor
) -> tuple[torch.Tensor | None, ...]:
    """Gradient of normal_moments: that of cross_moments with the draws, which are made again."""
    v, weight = ctx.saved_tensors
    m, *numbers = ctx.draws
    z = v.new_empty(v.shape[1], m)
    torch.ops.hessx.normal(z, *numbers)
    gradients = _cross_moments_gradients(z[None], v, weight, grad_sum_z, grad_sum_v, grad_zv)
    return (*gradients[1:], None, None, None, None)


def _cross_moments_gradients(
    u: torch.Tensor,
    v: torch.Tensor,
    weight: torch.Tensor | None,
    grad_sum_u: torch.Tensor,
    grad_sum_v: torch.Tensor,
    grad_uv: torch.Tensor,
) -> tuple[torch.Tensor | None, ...]:
    x, y = u.double(), v.double()
    w = x.new_ones(x.shape[1], 1) if weight is None else weight.double()[..., None]
    product_u, product_v = y @ grad_uv.mT, x @ grad_uv
    sum_u, sum_v = grad_sum_u[:, None, :], grad_sum_v[:, None, :]
    to_u = _sum_to(u, w * product_u, w * sum_u)
    to_v = _sum_to(v, w * product_v, w * sum_v)
    if weight is None:
        return to_u, to_v, None
    terms = ((x * product_u).sum(-1), (x * sum_u).sum(-1), (y * sum_v).sum(-1))
    return to_u, to_v, _sum_to(weight, *terms)


def _sum_to(like: torch.Tensor, *terms: torch.Tensor) -> torch.Tensor:
    # Term by term: the sums and uv may have different batches, and adding them first would count
    # the smaller one several times.
    reduced = [term.sum_to_size(like.shape) for term in terms]
    return torch.stack(reduced).sum(0).to(like.dtype)


def core_moments_backward(
    ctx: Any,
    grad_uw: torch.Tensor,
    grad_u2w2: torch.Tensor,
    grad_cross: torch.Tensor,
    grad_w2: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradient of core_moments, by the product rule on each of its three products."""
    u, w = ctx.saved_tensors
    x, y = u.double(), w.double()
    to_cross = (x * y) @ (grad_cross + grad_cross.mT)
    to_u = y @ grad_uw.mT + 2 * x * (y.square() @ grad_u2w2.mT) + to_cross * y
    to_w = x @ grad_uw + 2 * y * (x.square() @ grad_u2w2 + grad_w2[:, None, :]) + to_cross * x
    return to_u.to(u.dtype), to_w.to(w.dtype)
