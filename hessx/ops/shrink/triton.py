"""Triton kernels of the shrink ops: one pass over blocks of columns, then the sums in order.

Each block of columns writes its sums, in the working precision made float64; a second kernel adds
them up, first to last, without atomics: a row gives the same bits alone and in company.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from hessx.ops.moments.triton import add_slots
from hessx.ops.shrink import rules


@triton.jit
def soft_threshold_of(x, threshold):
    """Take from x its part within [-threshold, threshold]; NaN of either reaches the difference."""
    below = tl.where(x < threshold, x, threshold)
    return x - tl.where(below > -threshold, below, -threshold)


@triton.jit
def _soft_threshold_kernel(x, threshold, out, d, stride_x, BLOCK: tl.constexpr):
    """One block of columns of one row."""
    pid = tl.program_id(0).to(tl.int64)
    blocks = tl.cdiv(d, BLOCK)
    row = pid // blocks
    columns = pid % blocks * BLOCK + tl.arange(0, BLOCK)
    mask = columns < d
    value = tl.load(x + row * stride_x + columns, mask=mask, other=0.0)
    shrunk = soft_threshold_of(value, tl.load(threshold + row))
    tl.store(out + row * d + columns, shrunk, mask=mask)


@triton.jit(do_not_specialize=["m", "rows"])
def _fista_step_kernel(
    gradient,
    product,
    point,
    previous,
    step,
    momentum,
    lambda1,
    lambda2,
    next_point,
    extrapolated,
    partial,
    m,
    rows,
    d,
    stride_gradient,
    stride_product,
    stride_point,
    stride_previous,
    BLOCK: tl.constexpr,
):
    """One block of columns of one row, and its five sums to partial (blocks, rows, 5).

    Programs of the rows that share a block of a gradient follow each other, so that it is in cache.
    """
    pid = tl.program_id(0).to(tl.int64)
    blocks = tl.cdiv(d, BLOCK)
    batch = pid // m // blocks
    block = pid // m % blocks
    row = batch * m + pid % m
    columns = block * BLOCK + tl.arange(0, BLOCK)
    mask = columns < d

    size = tl.load(step + row)
    g = tl.load(gradient + batch * stride_gradient + columns, mask=mask, other=0.0)
    hy = tl.load(product + row * stride_product + columns, mask=mask, other=0.0)
    y = tl.load(point + row * stride_point + columns, mask=mask, other=0.0)
    x = tl.load(previous + row * stride_previous + columns, mask=mask, other=0.0)
    # The results may replace point and previous, which another thread may have yet to read.
    tl.debug_barrier()
    ascent = g + hy - 2 * tl.load(lambda2 + row) * y
    z = soft_threshold_of(y + size * ascent, size * tl.load(lambda1 + row))
    change = z - x
    tl.store(next_point + row * d + columns, z, mask=mask)
    tl.store(extrapolated + row * d + columns, z + tl.load(momentum + row) * change, mask=mask)

    # Columns that are not there are 0 in all sums, but must not be counted.
    zeros = tl.where(mask & (z == 0), 1.0, 0.0)
    at = (block * rows + row) * 5
    tl.store(partial + at, tl.sum(g * z, axis=0).to(tl.float64))
    tl.store(partial + (at + 1), tl.sum(tl.abs(z), axis=0).to(tl.float64))
    tl.store(partial + (at + 2), tl.sum(z * z, axis=0).to(tl.float64))
    tl.store(partial + (at + 3), tl.sum(change * change, axis=0).to(tl.float64))
    tl.store(partial + (at + 4), tl.sum(zeros, axis=0).to(tl.float64))


def _tile(d: int) -> tuple[int, int]:
    """Columns of a block, and warps: a thread has eight numbers of each operand."""
    columns = min(rules.COLUMN_BLOCK, triton.next_power_of_2(d))
    return columns, max(1, columns // 256)


def rows_of(x: torch.Tensor) -> torch.Tensor:
    """The rows of a tensor as a matrix with contiguous rows."""
    rows = x.reshape(-1, x.shape[-1])
    return rows if rows.stride(1) == 1 else rows.contiguous()


def soft_threshold(x: torch.Tensor, threshold: torch.Tensor) -> torch.Tensor:
    """Shrink towards zero; see `hessx.ops.soft_threshold`."""
    out = rules.soft_threshold_fake(x, threshold)
    if out.numel() == 0:
        return out
    x = rows_of(x)
    rows, d = x.shape
    block, warps = _tile(d)
    grid = (rows * triton.cdiv(d, block),)
    with torch.cuda.device_of(x):
        _soft_threshold_kernel[grid](
            x,
            threshold.contiguous(),
            out,
            d,
            x.stride(0),
            BLOCK=block,
            num_warps=warps,
        )
    return out


def fista_step(
    gradient: torch.Tensor,
    product: torch.Tensor,
    point: torch.Tensor,
    previous: torch.Tensor,
    step: torch.Tensor,
    momentum: torch.Tensor,
    lambda1: torch.Tensor,
    lambda2: torch.Tensor,
    next: torch.Tensor,
    extrapolated: torch.Tensor,
    sums: torch.Tensor,
) -> None:
    """One step of FISTA and its sums, in place of the last three; see `hessx.ops.fista_step`."""
    arguments = (gradient, product, point, previous, step, momentum, lambda1, lambda2)
    rules.fista_step_fake(*arguments, next, extrapolated, sums)
    if product.numel() == 0:
        sums.zero_()
        return
    vectors = [rows_of(x) for x in arguments[:4]]
    numbers = [x.contiguous() for x in arguments[4:]]
    batch, m, d = product.shape
    block, warps = _tile(d)
    blocks = triton.cdiv(d, block)
    partial = sums.new_empty((blocks, *sums.shape))
    with torch.cuda.device_of(product):
        _fista_step_kernel[(batch * m * blocks,)](
            *vectors,
            *numbers,
            next,
            extrapolated,
            partial,
            m,
            batch * m,
            d,
            *(x.stride(0) for x in vectors),
            BLOCK=block,
            num_warps=warps,
        )
        add_slots(partial, sums.zero_(), blocks)
