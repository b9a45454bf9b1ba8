"""Moments on the CPU: the fused kernels where they win, torch's matrix products elsewhere."""

from __future__ import annotations

from collections.abc import Callable

import torch

from hessx import backends
from hessx.ops.moments.rules import (
    SAMPLE_BLOCK,
    check_core_moments,
    cross_moments_shapes,
    normal_moments_shapes,
)
from hessx.ops.noise.native import normal

_FUSED_FLOAT64_ENTRIES = 256 * 256
# Draws made at once, for one block of samples: 4 MB of float32, which the last cache holds.
_DRAWN_COLUMNS = 4096


def cross_moments(
    u: torch.Tensor, v: torch.Tensor, weight: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Sums and outer products; see `hessx.ops.cross_moments`."""
    shapes = cross_moments_shapes(u, v, weight)
    u, v = _working(u), _working(v)
    weight = None if weight is None else _working(weight)
    sum_u = _sums(u, weight, shapes[0])
    sum_v = _sums(v, weight, shapes[1])
    product = _fused_product if fused_product_wins(u, v) else _blocked_product
    return sum_u, sum_v, product(u, v, weight, shapes[2])


def normal_moments(
    v: torch.Tensor,
    weight: torch.Tensor | None,
    m: int,
    seed: int,
    first_sample: int,
    stream: int,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Sums and outer products with normal draws; see `hessx.ops.normal_moments`."""
    shape_z, shape_v, shape_zv = normal_moments_shapes(v, weight, m)
    sum_z, zv = (v.new_zeros(shape, dtype=torch.float64) for shape in (shape_z, shape_zv))
    for left in range(0, m, _DRAWN_COLUMNS):
        columns = slice(left, min(m, left + _DRAWN_COLUMNS))
        for start in range(0, v.shape[1], SAMPLE_BLOCK):
            block = slice(start, start + SAMPLE_BLOCK)
            part = v[:, block]
            z = v.new_empty(part.shape[1], columns.stop - left)
            normal(z, seed, first_sample + start, stream, left // 4)
            # One block of samples at a time: the float64 additions are those of cross_moments.
            weights = None if weight is None else weight[..., block]
            sums = cross_moments(z[None], part, weights)
            sum_z[:, columns] += sums[0]
            zv[:, columns] += sums[2]
    working = None if weight is None else _working(weight)
    return sum_z, _sums(_working(v), working, shape_v), zv


def core_moments(
    u: torch.Tensor, w: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """The three products of the estimator's core; see `hessx.ops.core_moments`."""
    check_core_moments(u, w)
    u, w = _working(u), _working(w)
    batch, n, k = u.shape
    out = [torch.empty(batch, k, k, dtype=torch.float64, device=u.device) for _ in range(3)]
    _kernel("core_moments", u.dtype)(
        u.data_ptr(),
        u.stride(),
        w.data_ptr(),
        w.stride(),
        batch,
        n,
        k,
        *(product.data_ptr() for product in out),
        torch.get_num_threads(),
        backends.cpu_level(),
    )
    w2 = _sums(w, None, (batch, k), squares=True)
    return out[0], out[1], out[2], w2


def fused_product_wins(u: torch.Tensor, v: torch.Tensor) -> bool:
    """Say whether the fused kernel beats torch's matrix product on fixed blocks of samples.

    Measured by ``python -m bench.moments --crossover`` (docs/ops.md): in float32 the kernel, which
    adds its tiles to the float64 sum while they are in cache, is at par or ahead at every size
    up to 1500 x 1500; in float64 the library's product is 15 to 25 % faster once the result is
    large.
    """
    return u.dtype != torch.float64 or u.shape[2] * v.shape[2] <= _FUSED_FLOAT64_ENTRIES


def _sums(
    x: torch.Tensor,
    weight: torch.Tensor | None,
    shape: tuple[int, ...],
    squares: bool = False,
) -> torch.Tensor:
    out = torch.empty(shape, dtype=torch.float64, device=x.device)
    batch, k = shape
    _kernel("sums", x.dtype)(
        x.data_ptr(),
        _shared_strides(x, batch),
        *_weight_arguments(weight, batch),
        squares,
        batch,
        x.shape[1],
        k,
        out.data_ptr(),
        torch.get_num_threads(),
        backends.cpu_level(),
    )
    return out


def _fused_product(
    u: torch.Tensor, v: torch.Tensor, weight: torch.Tensor | None, shape: tuple[int, ...]
) -> torch.Tensor:
    out = torch.empty(shape, dtype=torch.float64, device=u.device)
    batch, k, l = shape  # noqa: E741
    _kernel("cross_moments", u.dtype)(
        u.data_ptr(),
        _shared_strides(u, batch),
        v.data_ptr(),
        _shared_strides(v, batch),
        *_weight_arguments(weight, batch),
        batch,
        u.shape[1],
        k,
        l,
        out.data_ptr(),
        torch.get_num_threads(),
        backends.cpu_level(),
    )
    return out


def _blocked_product(
    u: torch.Tensor, v: torch.Tensor, weight: torch.Tensor | None, shape: tuple[int, ...]
) -> torch.Tensor:
    out = torch.zeros(shape, dtype=torch.float64, device=u.device)
    for start in range(0, u.shape[1], SAMPLE_BLOCK):
        block = slice(start, start + SAMPLE_BLOCK)
        left = u[:, block] if weight is None else weight[..., block, None] * u[:, block]
        out += left.mT @ v[:, block]
    return out


def _working(x: torch.Tensor) -> torch.Tensor:
    return x if x.dtype == torch.float64 else x.float()


def _shared_strides(x: torch.Tensor, batch: int) -> tuple[int, ...]:
    return x.expand(batch, -1, -1).stride()


def _weight_arguments(weight: torch.Tensor | None, batch: int) -> tuple[int, tuple[int, ...]]:
    if weight is None:
        return 0, (0, 0)
    return weight.data_ptr(), weight.expand(batch, -1).stride()


def _kernel(name: str, dtype: torch.dtype) -> Callable[..., None]:
    suffix = "double" if dtype == torch.float64 else "float"
    return getattr(backends.native(), f"{name}_{suffix}")
