"""A call of every op, with arguments on any device, and how its results compare with the truth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

import hessx
from hessx.ops.boxes.rules import box_count

REALS = (torch.float32, torch.float64)
HALVES = (torch.bfloat16, torch.float16)
N, M, L, BATCH = 300, 33, 19, 4
_SIDES = [3, 1, 10]


def numbers(*shape: int, dtype: torch.dtype, seed: int = 0) -> Tensor:
    """Normal numbers, the same on every device."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


@dataclass(frozen=True)
class Call:
    """A call of a public op.

    Attributes:
        arguments: Gives the tensors of the call, on the CPU, for a dtype.
        run: Makes the call on them, wherever they are; gives what can be compared.
        dtypes: What the op takes.
        steps: Roundings that may add up in an entry of the result.
    """

    arguments: Callable[[torch.dtype], tuple[Tensor, ...]]
    run: Callable[..., tuple[Tensor, ...]]
    dtypes: tuple[torch.dtype, ...]
    steps: int

    def tolerance(self, dtype: torch.dtype) -> float:
        """Error allowed, as a part of the largest entry."""
        return self.steps * (2.0**-52 if dtype == torch.float64 else 2.0**-23)


def _draws(law: Callable[..., Tensor]) -> Callable[[Tensor], tuple[Tensor, ...]]:
    def run(like: Tensor) -> tuple[Tensor, ...]:
        # A unit of a half type may lie between two draws that differ in the last bit of float32.
        drawn = law(N, M, seed=7, first_sample=5, stream=2, dtype=like.dtype, device=like.device)
        return (drawn.double(),)

    return run


def _moments(dtype: torch.dtype) -> tuple[Tensor, ...]:
    u = numbers(BATCH, N, M, dtype=dtype)
    v, weight = numbers(1, N, L, dtype=dtype, seed=1), numbers(N, dtype=dtype, seed=2)
    return u, v, weight


def _symmetric(dtype: torch.dtype) -> tuple[Tensor, ...]:
    a = numbers(BATCH, 31, 31, dtype=dtype)
    return ((a + a.mT) / 2,)


def _eigenvalues_and_projection(a: Tensor) -> tuple[Tensor, ...]:
    values, vectors = hessx.ops.eigh(a)
    # Free of the signs of the eigenvectors.
    return values, vectors @ (values[:, :, None] * vectors.mT), vectors.mT @ vectors


def _convex_problems(dtype: torch.dtype) -> tuple[Tensor, ...]:
    e, g = numbers(BATCH, M, dtype=dtype), numbers(BATCH, M, dtype=dtype, seed=1)
    return e.abs() + 1, g, numbers(BATCH, dtype=dtype, seed=2).abs() + 0.1


def _classes(dtype: torch.dtype) -> tuple[Tensor, ...]:
    p = numbers(BATCH, N, dtype=torch.float64).softmax(1).to(dtype)
    return p, numbers(BATCH, L, N, dtype=dtype, seed=1)


def _rows(dtype: torch.dtype) -> tuple[Tensor, ...]:
    return numbers(L, N, dtype=dtype), numbers(L, dtype=dtype, seed=1).abs()


def _fista(dtype: torch.dtype) -> tuple[Tensor, ...]:
    vectors = [numbers(BATCH, 3, N, dtype=dtype, seed=seed) for seed in range(3)]
    rates = [numbers(BATCH, 3, dtype=dtype, seed=seed).abs() / 8 for seed in range(3, 7)]
    return numbers(BATCH, N, dtype=dtype, seed=7), *vectors, *rates


def _step_without_zeros(*arguments: Tensor) -> tuple[Tensor, ...]:
    next_point, extrapolated, sums = hessx.ops.fista_step(*arguments)
    # Rounding may decide whether a number is zero.
    return next_point, extrapolated, sums[..., :4].clone()


def _prox(dtype: torch.dtype) -> tuple[Tensor, ...]:
    basis, gradient = numbers(BATCH, M, N, dtype=dtype), numbers(BATCH, N, dtype=dtype, seed=1)
    z, lambda1 = numbers(BATCH, 3, M, dtype=dtype, seed=2), numbers(BATCH, 3, dtype=dtype, seed=3)
    return basis, gradient, z, lambda1.abs()


def _pixels(dtype: torch.dtype) -> tuple[Tensor, ...]:
    return (numbers(BATCH, M, L, dtype=dtype),)


def _edge_vectors(dtype: torch.dtype) -> tuple[Tensor, ...]:
    return (numbers(BATCH, 2 * M * L - M - L, dtype=dtype),)


def _grid(
    op: Callable[..., Tensor], *size: int | list[int]
) -> Callable[[Tensor], tuple[Tensor, ...]]:
    return lambda x: (op(x, *size),)


def _box_numbers(dtype: torch.dtype) -> tuple[Tensor, ...]:
    return (numbers(BATCH, box_count(M, L, _SIDES), dtype=dtype),)


def _pictures(like: Tensor) -> tuple[Tensor, ...]:
    drawn = hessx.ops.grid_normal(
        N, L, M, seed=7, first_sample=5, stream=2, dtype=like.dtype, device=like.device
    )
    return (drawn,)


def _edges(dtype: torch.dtype) -> tuple[Tensor, ...]:
    m = 2 * L * M - L - M
    z, anchor, centre = (numbers(BATCH, m, dtype=dtype, seed=seed) for seed in range(3))
    radius, threshold, weight = (numbers(BATCH, dtype=dtype, seed=seed).abs() for seed in (3, 4, 5))
    return z, anchor, centre, numbers(BATCH, L, M, dtype=dtype, seed=6), radius, threshold, weight


def _box(dtype: torch.dtype) -> tuple[Tensor, ...]:
    z, _, centre, _, radius, threshold, _ = _edges(dtype)
    return z, centre, radius, threshold


# A product, and a sum of N of them.
_SUM = N + 4
CALLS = {
    "uniform": Call(
        lambda dtype: (torch.empty(0, dtype=dtype),), _draws(hessx.ops.uniform), REALS + HALVES, 0
    ),
    # log, sin and cos of other libraries; float32 also rounds the angle.
    "normal": Call(
        lambda dtype: (torch.empty(0, dtype=dtype),), _draws(hessx.ops.normal), REALS, 64
    ),
    "cross_moments": Call(_moments, hessx.ops.cross_moments, REALS + HALVES, _SUM),
    "normal_moments": Call(
        _moments,
        lambda u, v, weight: hessx.ops.normal_moments(u, M, seed=3, weight=weight),
        REALS,
        _SUM,
    ),
    "core_moments": Call(
        _moments, lambda u, v, weight: hessx.ops.core_moments(u, u.flip(2)), REALS + HALVES, _SUM
    ),
    # No entry of these is within rounding of its lambda.
    "prox_pass": Call(_prox, hessx.ops.prox_pass, REALS, _SUM),
    "gram": Call(lambda dtype: _prox(dtype)[:1], lambda x: (hessx.ops.gram(x),), REALS, _SUM),
    "eigh": Call(_symmetric, _eigenvalues_and_projection, REALS, 256),
    "trust_region": Call(_convex_problems, hessx.ops.trust_region, REALS, 64),
    "softmax_product": Call(_classes, lambda p, u: (hessx.ops.softmax_product(p, u),), REALS, 4),
    "soft_threshold": Call(_rows, lambda x, t: (hessx.ops.soft_threshold(x, t),), REALS, 1),
    "grid_normal": Call(lambda dtype: (torch.empty(0, dtype=dtype),), _pictures, REALS, 64),
    "edge_prox": Call(_box, lambda *box: (hessx.ops.edge_prox(*box),), REALS, 1),
    "edge_divergence": Call(_box, lambda *box: (hessx.ops.edge_divergence(*box, L, M),), REALS, 8),
    "edge_update": Call(_edges, hessx.ops.edge_update, REALS, 8),
    "fista_step": Call(_fista, _step_without_zeros, REALS, _SUM),
    "grid_difference": Call(_pixels, _grid(hessx.ops.grid_difference), REALS, 1),
    "grid_difference_adjoint": Call(
        _edge_vectors, _grid(hessx.ops.grid_difference_adjoint, M, L), REALS, 3
    ),
    "grid_laplacian": Call(_pixels, _grid(hessx.ops.grid_laplacian), REALS, 4),
    "grid_curl": Call(_edge_vectors, _grid(hessx.ops.grid_curl, M, L), REALS, 3),
    "grid_curl_adjoint": Call(_pixels, _grid(hessx.ops.grid_curl_adjoint), REALS, 1),
    # Sums of all terms are larger than any one: roundings stay small beside the largest sum.
    "box_sums": Call(_pixels, _grid(hessx.ops.box_sums, _SIDES), REALS, 2 * max(_SIDES)),
    "box_sums_adjoint": Call(
        _box_numbers,
        _grid(hessx.ops.box_sums_adjoint, _SIDES, M, L),
        REALS,
        2 * max(_SIDES) + len(_SIDES),
    ),
}
CASES = [(name, dtype) for name, call in CALLS.items() for dtype in call.dtypes]


def on(device: torch.device, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """The same arguments on a device, with the same strides."""
    return tuple(
        torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device=device).copy_(x)
        for x in arguments
    )
