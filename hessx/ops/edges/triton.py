"""Triton kernels of the edges ops: rectangles of pixels, each with its right and its lower edge.

Rectangles need no division to find the pixels of an edge. Each writes the squares of its residual,
added up in float64; a second kernel adds them up, first to last, without atomics: a row gives the
same bits alone and in company.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from hessx.ops.edges import rules
from hessx.ops.grid_noise.triton import horizontal_edges, rectangle_of
from hessx.ops.moments.triton import add_slots
from hessx.ops.shrink.triton import rows_of, soft_threshold_of

# Pixels of a rectangle.
_PIXELS = 1024


@triton.jit
def _prox_of(z, centre, radius, threshold):
    """Shrink and clip; NaN of any argument and empty boxes give NaN."""
    shrunk = soft_threshold_of(z, threshold)
    low, high = centre - radius, centre + radius
    raised = tl.where(shrunk < low, low, shrunk)
    # A comparison with NaN is false: bounds that are none show in their order.
    return tl.where(low <= high, tl.where(raised > high, high, raised), float("nan"))


@triton.jit
def _edge_prox_kernel(
    z, centre, radius, threshold, out, m, stride_z, stride_centre, BLOCK: tl.constexpr
):
    """One block of edges of one row."""
    pid = tl.program_id(0).to(tl.int64)
    blocks = tl.cdiv(m, BLOCK)
    row = pid // blocks
    edges = pid % blocks * BLOCK + tl.arange(0, BLOCK)
    mask = edges < m
    x = tl.load(z + row * stride_z + edges, mask=mask, other=0.0)
    c = tl.load(centre + row * stride_centre + edges, mask=mask, other=0.0)
    a = _prox_of(x, c, tl.load(radius + row), tl.load(threshold + row))
    tl.store(out + row * m + edges, a, mask=mask)


@triton.jit
def _reflected(z, centre, edges, mask, radius, threshold):
    """2 a - z of some edges, 0 where there is none."""
    x = tl.load(z + edges, mask=mask, other=0.0)
    c = tl.load(centre + edges, mask=mask, other=0.0)
    return tl.where(mask, 2 * _prox_of(x, c, radius, threshold) - x, 0.0)


@triton.jit
def _edge_divergence_kernel(
    z,
    centre,
    radius,
    threshold,
    out,
    p1,
    p2,
    stride_z,
    stride_centre,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Each edge is read, shrunk and clipped by both of its pixels: the second time from cache."""
    row, _, first_row, first_column = rectangle_of(p1, p2, ROWS, COLUMNS)
    i = first_row + tl.arange(0, ROWS)[:, None]
    j = first_column + tl.arange(0, COLUMNS)[None, :]
    inside = (i < p1) & (j < p2)
    z += row * stride_z
    centre += row * stride_centre
    r, t = tl.load(radius + row), tl.load(threshold + row)
    right = i * (p2 - 1) + j
    below = horizontal_edges(p1, p2) + i * p2 + j
    along = _reflected(z, centre, right - 1, inside & (j > 0), r, t)
    along -= _reflected(z, centre, right, inside & (j < p2 - 1), r, t)
    down = _reflected(z, centre, below - p2, inside & (i > 0), r, t)
    down -= _reflected(z, centre, below, inside & (i < p1 - 1), r, t)
    pixels = row * p1 * p2 + i * p2 + j
    tl.store(out + pixels, along + down, mask=inside)


@triton.jit
def _step(z, centre, g, g_of_head, edges, mask, radius, threshold):
    """Numbers z of some edges and Tz - z, 0 where there is no edge."""
    x = tl.load(z + edges, mask=mask, other=0.0)
    c = tl.load(centre + edges, mask=mask, other=0.0)
    step = (g_of_head - g) - _prox_of(x, c, radius, threshold)
    return x, tl.where(mask, step, 0.0)


@triton.jit(do_not_specialize=["rows"])
def _edge_update_kernel(
    z,
    anchor,
    centre,
    potential,
    radius,
    threshold,
    weight,
    next_point,
    partial,
    rows,
    p1,
    p2,
    stride_z,
    stride_anchor,
    stride_centre,
    stride_potential,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """The right and the lower edges of a rectangle, and their squares to partial (.., rows)."""
    row, rectangle, first_row, first_column = rectangle_of(p1, p2, ROWS, COLUMNS)
    i = first_row + tl.arange(0, ROWS)[:, None]
    j = first_column + tl.arange(0, COLUMNS)[None, :]
    inside = (i < p1) & (j < p2)
    has_right, has_below = inside & (j < p2 - 1), inside & (i < p1 - 1)
    m = horizontal_edges(p1, p2) + horizontal_edges(p2, p1)
    z += row * stride_z
    anchor += row * stride_anchor
    centre += row * stride_centre
    pixels = potential + row * stride_potential + i * p2 + j
    r, t, w = tl.load(radius + row), tl.load(threshold + row), tl.load(weight + row)

    # Steps of 64 bits from these pointers take fewer registers than offsets of their own.
    g = tl.load(pixels, mask=inside, other=0.0)
    g_right = tl.load(pixels + tl.full((), 1, tl.int64), mask=has_right, other=0.0)
    g_below = tl.load(pixels + tl.to_tensor(p2).to(tl.int64), mask=has_below, other=0.0)
    right = i * (p2 - 1) + j
    below = horizontal_edges(p1, p2) + i * p2 + j
    x_right, step_right = _step(z, centre, g, g_right, right, has_right, r, t)
    x_below, step_below = _step(z, centre, g, g_below, below, has_below, r, t)
    anchor_right = tl.load(anchor + right, mask=has_right, other=0.0)
    anchor_below = tl.load(anchor + below, mask=has_below, other=0.0)
    # The result may replace z or anchor, which another thread may have yet to read.
    tl.debug_barrier()
    next_right = w * (x_right + 2 * step_right) + (1 - w) * anchor_right
    next_below = w * (x_below + 2 * step_below) + (1 - w) * anchor_below
    tl.store(next_point + row * m + right, next_right, mask=has_right)
    tl.store(next_point + row * m + below, next_below, mask=has_below)

    wide_right, wide_below = step_right.to(tl.float64), step_below.to(tl.float64)
    squares = tl.sum(wide_right * wide_right + wide_below * wide_below)
    tl.store(partial + rectangle.to(tl.int64) * rows + row, squares)


def _block(m: int) -> tuple[int, int]:
    """Edges of a block, and warps: a thread has eight numbers of each operand."""
    edges = min(4096, triton.next_power_of_2(m))
    return edges, max(1, edges // 256)


def _tile(p1: int, p2: int) -> tuple[int, int, int]:
    """Rows and columns of a rectangle, and warps."""
    columns = min(128, triton.next_power_of_2(p2))
    rows = min(_PIXELS // columns, triton.next_power_of_2(p1))
    return rows, columns, max(1, rows * columns // 128)


def edge_prox(
    z: torch.Tensor, centre: torch.Tensor, radius: torch.Tensor, threshold: torch.Tensor
) -> torch.Tensor:
    """Shrink and clip; see `hessx.ops.edge_prox`."""
    out = rules.edge_prox_fake(z, centre, radius, threshold)
    if out.numel() == 0:
        return out
    rows, m = z.shape
    z, centre = rows_of(z), rows_of(centre)
    block, warps = _block(m)
    with torch.cuda.device_of(z):
        _edge_prox_kernel[(rows * triton.cdiv(m, block),)](
            z,
            centre,
            radius.contiguous(),
            threshold.contiguous(),
            out,
            m,
            z.stride(0),
            centre.stride(0),
            BLOCK=block,
            num_warps=warps,
        )
    return out


def edge_divergence(
    z: torch.Tensor,
    centre: torch.Tensor,
    radius: torch.Tensor,
    threshold: torch.Tensor,
    out: torch.Tensor,
) -> None:
    """The reflected point at the pixels, in place of the last; see `hessx.ops.edge_divergence`."""
    rules.edge_divergence_fake(z, centre, radius, threshold, out)
    if z.numel() == 0:
        out.zero_()
        return
    rows, p1, p2 = out.shape
    z, centre = rows_of(z), rows_of(centre)
    height, width, warps = _tile(p1, p2)
    with torch.cuda.device_of(z):
        _edge_divergence_kernel[(rows * triton.cdiv(p1, height) * triton.cdiv(p2, width),)](
            z,
            centre,
            radius.contiguous(),
            threshold.contiguous(),
            out,
            p1,
            p2,
            z.stride(0),
            centre.stride(0),
            ROWS=height,
            COLUMNS=width,
            num_warps=warps,
        )


def edge_update(
    z: torch.Tensor,
    anchor: torch.Tensor,
    centre: torch.Tensor,
    potential: torch.Tensor,
    radius: torch.Tensor,
    threshold: torch.Tensor,
    weight: torch.Tensor,
    next: torch.Tensor,
    residual: torch.Tensor,
) -> None:
    """Finish a step, in place of the last two; see `hessx.ops.edge_update`."""
    arguments = (z, anchor, centre, potential, radius, threshold, weight)
    rules.edge_update_fake(*arguments, next, residual)
    residual.zero_()
    if z.numel() == 0:
        return
    rows, p1, p2 = potential.shape
    vectors = [rows_of(x) for x in (z, anchor, centre, potential.flatten(1))]
    height, width, warps = _tile(p1, p2)
    rectangles = triton.cdiv(p1, height) * triton.cdiv(p2, width)
    partial = residual.new_empty(rectangles, rows)
    with torch.cuda.device_of(z):
        _edge_update_kernel[(rows * rectangles,)](
            *vectors,
            *(x.contiguous() for x in (radius, threshold, weight)),
            next,
            partial,
            rows,
            p1,
            p2,
            *(x.stride(0) for x in vectors),
            ROWS=height,
            COLUMNS=width,
            num_warps=warps,
        )
        add_slots(partial, residual, rectangles)
