"""Triton kernels of the grid operators: one program a tile of the pixels or faces of one grid.

Sums are those of csrc/grid.h, in its order: results equal those of the CPU kernels to the bit.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

from hessx.ops.grid import rules

# Numbers of a tile at the most, eight for each thread of four warps, and columns of it.
_TILE = 1024
_MAX_COLUMNS = 256


@triton.jit
def difference_adjoint_of(left, right, above, below):
    """The number of a pixel, by those of the edges beside it."""
    return (left - right) + (above - below)


@triton.jit
def tile_of_grid(rows, columns, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """The grid that this program works on, and the rows and columns of its tile, in 64 bits."""
    pid = tl.program_id(0).to(tl.int64)
    across = tl.cdiv(columns, COLUMNS)
    down = tl.cdiv(rows, ROWS)
    i = pid // across % down * ROWS + tl.arange(0, ROWS)[:, None]
    j = pid % across * COLUMNS + tl.arange(0, COLUMNS)[None, :]
    return pid // across // down, i, j


@triton.jit(do_not_specialize=["p1"])
def _grid_difference_kernel(
    grid,
    edges,
    p1,
    p2,
    horizontal,
    stride_grid,
    stride_edges,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """The edges to the right of and below a tile of pixels."""
    entry, i, j = tile_of_grid(p1, p2, ROWS, COLUMNS)
    grid += entry * stride_grid
    edges += entry * stride_edges
    at = i * p2 + j
    right = (i < p1) & (j + 1 < p2)
    below = (i + 1 < p1) & (j < p2)
    g = tl.load(grid + at, mask=(i < p1) & (j < p2), other=0.0)
    tl.store(edges + (at - i), tl.load(grid + (at + 1), mask=right, other=0.0) - g, mask=right)
    v = tl.load(grid + (at + p2), mask=below, other=0.0) - g
    tl.store(edges + (horizontal + at), v, mask=below)


@triton.jit(do_not_specialize=["p1"])
def _grid_difference_adjoint_kernel(
    edges,
    grid,
    p1,
    p2,
    horizontal,
    stride_edges,
    stride_grid,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """The edges beside a tile of pixels, added up."""
    entry, i, j = tile_of_grid(p1, p2, ROWS, COLUMNS)
    edges += entry * stride_edges
    vertical = edges + horizontal
    at = i * p2 + j
    mask = (i < p1) & (j < p2)
    left = tl.load(edges + (at - i - 1), mask=mask & (j > 0), other=0.0)
    right = tl.load(edges + (at - i), mask=mask & (j + 1 < p2), other=0.0)
    above = tl.load(vertical + (at - p2), mask=mask & (i > 0), other=0.0)
    below = tl.load(vertical + at, mask=mask & (i + 1 < p1), other=0.0)
    net = difference_adjoint_of(left, right, above, below)
    tl.store(grid + (entry * stride_grid + at), net, mask=mask)


@triton.jit(do_not_specialize=["p1"])
def _grid_laplacian_kernel(
    grid,
    out,
    p1,
    p2,
    horizontal,
    stride_grid,
    stride_out,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """The same of edges that are made where they are used."""
    entry, i, j = tile_of_grid(p1, p2, ROWS, COLUMNS)
    grid += entry * stride_grid
    at = i * p2 + j
    mask = (i < p1) & (j < p2)
    has_left = mask & (j > 0)
    has_right = mask & (j + 1 < p2)
    has_above = mask & (i > 0)
    has_below = mask & (i + 1 < p1)
    g = tl.load(grid + at, mask=mask, other=0.0)
    left = tl.where(has_left, g - tl.load(grid + (at - 1), mask=has_left, other=0.0), 0.0)
    right = tl.where(has_right, tl.load(grid + (at + 1), mask=has_right, other=0.0) - g, 0.0)
    above = tl.where(has_above, g - tl.load(grid + (at - p2), mask=has_above, other=0.0), 0.0)
    below = tl.where(has_below, tl.load(grid + (at + p2), mask=has_below, other=0.0) - g, 0.0)
    net = difference_adjoint_of(left, right, above, below)
    tl.store(out + (entry * stride_out + at), net, mask=mask)


@triton.jit(do_not_specialize=["p1"])
def _grid_curl_kernel(
    edges,
    out,
    p1,
    p2,
    horizontal,
    stride_edges,
    stride_out,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """The edges around a tile of faces, added up."""
    entry, i, j = tile_of_grid(p1 - 1, p2 - 1, ROWS, COLUMNS)
    edges += entry * stride_edges
    vertical = edges + horizontal
    at = i * p2 + j
    mask = (i + 1 < p1) & (j + 1 < p2)
    top = tl.load(edges + (at - i), mask=mask, other=0.0)
    bottom = tl.load(edges + (at - i + p2 - 1), mask=mask, other=0.0)
    left = tl.load(vertical + at, mask=mask, other=0.0)
    right = tl.load(vertical + (at + 1), mask=mask, other=0.0)
    tl.store(out + (entry * stride_out + at - i), (top - bottom) + (right - left), mask=mask)


@triton.jit(do_not_specialize=["p1"])
def _grid_curl_adjoint_kernel(
    potential,
    edges,
    p1,
    p2,
    horizontal,
    stride_potential,
    stride_edges,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """The edges to the right of and below a tile of pixels, by the faces beside them."""
    entry, i, j = tile_of_grid(p1, p2, ROWS, COLUMNS)
    potential += entry * stride_potential
    edges += entry * stride_edges
    at = i * p2 + j
    right = (i < p1) & (j + 1 < p2)
    below = (i + 1 < p1) & (j < p2)
    face = tl.load(potential + (at - i), mask=right & below, other=0.0)
    above = tl.load(potential + (at - i - p2 + 1), mask=right & (i > 0), other=0.0)
    before = tl.load(potential + (at - i - 1), mask=below & (j > 0), other=0.0)
    tl.store(edges + (at - i), face - above, mask=right)
    tl.store(edges + (horizontal + at), before - face, mask=below)


def tile(rows: int, columns: int) -> tuple[int, int, int]:
    """Rows and columns of a tile, and warps: eight numbers a thread."""
    width = min(_MAX_COLUMNS, triton.next_power_of_2(columns))
    height = min(_TILE // width, triton.next_power_of_2(rows))
    return height, width, max(1, height * width // 256)


def entries(x: torch.Tensor) -> torch.Tensor:
    """The tensor, with entries of its batch that are contiguous."""
    return x if x[0].is_contiguous() else x.contiguous()


def _run(
    kernel: Any, x: torch.Tensor, out: torch.Tensor, p1: int, p2: int, *, faces: bool = False
) -> torch.Tensor:
    """Launch a kernel over tiles of pixels or faces."""
    if x.numel() == 0 or out.numel() == 0:
        return out.zero_()
    x = entries(x)
    rows, columns = (p1 - 1, p2 - 1) if faces else (p1, p2)
    height, width, warps = tile(rows, columns)
    programs = x.shape[0] * triton.cdiv(rows, height) * triton.cdiv(columns, width)
    with torch.cuda.device_of(x):
        kernel[(programs,)](
            x,
            out,
            p1,
            p2,
            p1 * (p2 - 1),
            x.stride(0),
            out.stride(0),
            ROWS=height,
            COLUMNS=width,
            num_warps=warps,
        )
    return out


def grid_difference(grid: torch.Tensor) -> torch.Tensor:
    """Differences along the edges; see `hessx.ops.grid_difference`."""
    out = rules.grid_difference_fake(grid)
    return _run(_grid_difference_kernel, grid, out, *grid.shape[1:])


def grid_difference_adjoint(edges: torch.Tensor, p1: int, p2: int) -> torch.Tensor:
    """What flows into each pixel; see `hessx.ops.grid_difference_adjoint`."""
    out = rules.grid_difference_adjoint_fake(edges, p1, p2)
    return _run(_grid_difference_adjoint_kernel, edges, out, p1, p2)


def grid_laplacian(grid: torch.Tensor) -> torch.Tensor:
    """D^T D g; see `hessx.ops.grid_laplacian`."""
    out = rules.grid_laplacian_fake(grid)
    return _run(_grid_laplacian_kernel, grid, out, *grid.shape[1:])


def grid_curl(edges: torch.Tensor, p1: int, p2: int) -> torch.Tensor:
    """What goes round each face; see `hessx.ops.grid_curl`."""
    out = rules.grid_curl_fake(edges, p1, p2)
    return _run(_grid_curl_kernel, edges, out, p1, p2, faces=True)


def grid_curl_adjoint(potential: torch.Tensor) -> torch.Tensor:
    """Differences of the faces beside each edge; see `hessx.ops.grid_curl_adjoint`."""
    out = rules.grid_curl_adjoint_fake(potential)
    _, rows, columns = potential.shape
    return _run(_grid_curl_adjoint_kernel, potential, out, rows + 1, columns + 1)
