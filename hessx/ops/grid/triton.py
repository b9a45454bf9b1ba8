"""Triton kernels of the grid operators: one program a tile of the pixels or faces of one grid.

Sums are those of csrc/grid.h, in its order: results equal those of the CPU kernels to the bit.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

from hessx.ops.grid import rules

# Numbers of a tile at the most, and columns of it.
_TILE = 1024
_MAX_COLUMNS = 256


@triton.jit
def difference_adjoint_of(left, right, above, below):
    """The number of a pixel, by those of the edges beside it."""
    return (left - right) + (above - below)


@triton.jit
def tile_of_grid(rows, columns, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """The grid that this program works on, and the row and column where its tile begins.

    They have 64 bits. Places within a tile need no more than 32: a tile has many rows only where
    these are short.
    """
    pid = tl.program_id(0).to(tl.int64)
    across = tl.cdiv(columns, COLUMNS)
    down = tl.cdiv(rows, ROWS)
    return pid // across // down, pid // across % down * ROWS, pid % across * COLUMNS


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
    entry, row, column = tile_of_grid(p1, p2, ROWS, COLUMNS)
    i = tl.arange(0, ROWS)[:, None]
    j = tl.arange(0, COLUMNS)[None, :]
    at = i * p2 + j
    grid += entry * stride_grid + row * p2 + column
    edges += entry * stride_edges + row * p2 + column
    mask = (i < p1 - row) & (j < p2 - column)
    right = mask & (j + 1 < p2 - column)
    below = mask & (i + 1 < p1 - row)
    g = tl.load(grid + at, mask=mask, other=0.0)
    h = tl.load(grid + 1 + at, mask=right, other=0.0) - g
    v = tl.load(grid + p2 + at, mask=below, other=0.0) - g
    tl.store(edges - row + (at - i), h, mask=right)
    tl.store(edges + horizontal + at, v, mask=below)


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
    entry, row, column = tile_of_grid(p1, p2, ROWS, COLUMNS)
    i = tl.arange(0, ROWS)[:, None]
    j = tl.arange(0, COLUMNS)[None, :]
    at = i * p2 + j
    edges += entry * stride_edges + row * p2 + column
    h = edges - row + (at - i)
    v = edges + horizontal + at
    mask = (i < p1 - row) & (j < p2 - column)
    left = tl.load(h - 1, mask=mask & (j > -column), other=0.0)
    right = tl.load(h, mask=mask & (j + 1 < p2 - column), other=0.0)
    above = tl.load(v - p2, mask=mask & (i > -row), other=0.0)
    below = tl.load(v, mask=mask & (i + 1 < p1 - row), other=0.0)
    net = difference_adjoint_of(left, right, above, below)
    tl.store(grid + (entry * stride_grid + row * p2 + column) + at, net, mask=mask)


@triton.jit(do_not_specialize=["p1"])
def _grid_laplacian_kernel(
    grid,
    out,
    p1,
    p2,
    stride_grid,
    stride_out,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """The same of edges that are made where they are used."""
    entry, row, column = tile_of_grid(p1, p2, ROWS, COLUMNS)
    i = tl.arange(0, ROWS)[:, None]
    j = tl.arange(0, COLUMNS)[None, :]
    at = i * p2 + j
    grid += entry * stride_grid + row * p2 + column
    mask = (i < p1 - row) & (j < p2 - column)
    has_left = mask & (j > -column)
    has_right = mask & (j + 1 < p2 - column)
    has_above = mask & (i > -row)
    has_below = mask & (i + 1 < p1 - row)
    g = tl.load(grid + at, mask=mask, other=0.0)
    left = tl.where(has_left, g - tl.load(grid - 1 + at, mask=has_left, other=0.0), 0.0)
    right = tl.where(has_right, tl.load(grid + 1 + at, mask=has_right, other=0.0) - g, 0.0)
    above = tl.where(has_above, g - tl.load(grid - p2 + at, mask=has_above, other=0.0), 0.0)
    below = tl.where(has_below, tl.load(grid + p2 + at, mask=has_below, other=0.0) - g, 0.0)
    net = difference_adjoint_of(left, right, above, below)
    tl.store(out + (entry * stride_out + row * p2 + column) + at, net, mask=mask)


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
    entry, row, column = tile_of_grid(p1 - 1, p2 - 1, ROWS, COLUMNS)
    i = tl.arange(0, ROWS)[:, None]
    j = tl.arange(0, COLUMNS)[None, :]
    at = i * p2 + j
    edges += entry * stride_edges + row * p2 + column
    h = edges - row + (at - i)
    v = edges + horizontal + at
    mask = (i + 1 < p1 - row) & (j + 1 < p2 - column)
    top = tl.load(h, mask=mask, other=0.0)
    bottom = tl.load(h + p2 - 1, mask=mask, other=0.0)
    left = tl.load(v, mask=mask, other=0.0)
    right = tl.load(v + 1, mask=mask, other=0.0)
    out += entry * stride_out + row * p2 + column - row
    tl.store(out + (at - i), (top - bottom) + (right - left), mask=mask)


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
    entry, row, column = tile_of_grid(p1, p2, ROWS, COLUMNS)
    i = tl.arange(0, ROWS)[:, None]
    j = tl.arange(0, COLUMNS)[None, :]
    at = i * p2 + j
    potential += entry * stride_potential + row * p2 + column - row
    psi = potential + (at - i)
    edges += entry * stride_edges + row * p2 + column
    mask = (i < p1 - row) & (j < p2 - column)
    right = mask & (j + 1 < p2 - column)
    below = mask & (i + 1 < p1 - row)
    face = tl.load(psi, mask=right & below, other=0.0)
    above = tl.load(psi - p2 + 1, mask=right & (i > -row), other=0.0)
    before = tl.load(psi - 1, mask=below & (j > -column), other=0.0)
    tl.store(edges - row + (at - i), face - above, mask=right)
    tl.store(edges + horizontal + at, before - face, mask=below)


def tile(rows: int, columns: int) -> tuple[int, int, int]:
    """Rows and columns of a tile, and warps: four numbers a thread."""
    width = min(_MAX_COLUMNS, triton.next_power_of_2(columns))
    height = min(_TILE // width, triton.next_power_of_2(rows))
    return height, width, max(1, height * width // 128)


def entries(x: torch.Tensor) -> torch.Tensor:
    """The tensor, with entries of its batch that are contiguous."""
    return x if x[0].is_contiguous() else x.contiguous()


def _run(
    kernel: Any, x: torch.Tensor, out: torch.Tensor, p1: int, p2: int, *, faces: bool = False
) -> torch.Tensor:
    """Launch a kernel over tiles of pixels, or of faces."""
    if x.numel() == 0 or out.numel() == 0:
        return out.zero_()
    x = entries(x)
    rows, columns = (p1 - 1, p2 - 1) if faces else (p1, p2)
    # Where the vertical edges begin, if there are edges.
    horizontal = () if x.shape == out.shape else (p1 * (p2 - 1),)
    height, width, warps = tile(rows, columns)
    programs = x.shape[0] * triton.cdiv(rows, height) * triton.cdiv(columns, width)
    with torch.cuda.device_of(x):
        kernel[(programs,)](
            x,
            out,
            p1,
            p2,
            *horizontal,
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
