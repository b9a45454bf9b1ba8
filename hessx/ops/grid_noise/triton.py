"""Triton kernel of noise on grids: normal numbers of edges drawn once, exchanged inside a program.

A pixel needs four edges, an edge belongs to two pixels, and one Philox counter serves four edges in
line. A program therefore draws whole counters for a rectangle of edges of both kinds and moves the
numbers to the pixels by gathers, which stay in registers and shared memory.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from hessx.ops.grid_noise.rules import grid_normal_fake
from hessx.ops.noise.triton import drawn_counters


@triton.jit
def horizontal_edges(p1, p2):
    """p1 (p2 - 1) in int64; with the sizes the other way round, the number of vertical edges."""
    # A size of 1 comes as a constant, which is no tensor.
    return tl.to_tensor(p1).to(tl.int64) * (p2 - 1)


@triton.jit
def rectangle_of(p1, p2, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """The picture that a program works at, the rectangle of it, and where that begins (int64)."""
    pid = tl.program_id(0).to(tl.int64)
    across = tl.cdiv(p2, COLUMNS)
    count = tl.to_tensor(tl.cdiv(p1, ROWS)).to(tl.int64) * across
    picture = pid // count
    # Fits 32 bits, which are divided in fewer steps.
    rectangle = (pid - picture * count).to(tl.int32)
    first_row = (rectangle // across).to(tl.int64) * ROWS
    return picture, rectangle, first_row, (rectangle % across).to(tl.int64) * COLUMNS


@triton.jit
def _taken(tile, columns):
    """Numbers of each row by their columns; any number in place of one beyond the tile."""
    return tl.gather(tile, columns & (tile.shape[1] - 1), 1)


@triton.jit(do_not_specialize=["seed", "first_sample", "stream"])
def _grid_normal_kernel(
    out,
    p1,
    p2,
    stride_n,
    stride_i,
    stride_j,
    seed: tl.int64,
    first_sample: tl.int64,
    stream: tl.int64,
    REAL: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Fills ROWS - 1 rows and COLUMNS - 4 columns of one picture.

    The row above belongs to the tile for its vertical edges. Its horizontal ones are not needed:
    their place takes the counter of the last feature, which all pixels share.
    """
    sample, _, first_row, first_column = rectangle_of(p1, p2, ROWS - 1, COLUMNS - 4)
    row, column = tl.arange(0, ROWS)[:, None], tl.arange(0, COLUMNS)[None, :]
    i = first_row + row - 1
    j = first_column + column

    split = horizontal_edges(p1, p2)
    last_feature = split + horizontal_edges(p2, p1)
    # The edges that end in the first pixel of each row, and those that go down from it.
    right_first = i * (p2 - 1) + first_column - 1
    down_first = split + i * p2 + first_column
    right_block = tl.maximum(right_first, 0) // 4
    down_block = tl.maximum(down_first, 0) // 4
    blocks = tl.arange(0, COLUMNS // 4)[None, :]
    right_counters = tl.where(row == 0, last_feature // 4, right_block) + blocks
    samples = tl.full((1, 1), 0, tl.int64) + sample + first_sample
    rights = drawn_counters(samples, right_counters, seed, stream, True, REAL, 1.0)
    downs = drawn_counters(samples, down_block + blocks, seed, stream, True, REAL, 1.0)

    w = tl.sum(tl.where((row == 0) & (column == last_feature % 4), rights, 0.0))
    at = (right_first - 4 * right_block).to(tl.int32) + column
    left, right = _taken(rights, at), _taken(rights, at + 1)
    down = _taken(downs, (down_first - 4 * down_block).to(tl.int32) + column)
    above = tl.broadcast_to(tl.maximum(row - 1, 0), (ROWS, COLUMNS))
    up = tl.gather(down, above, 0)

    value = tl.where(j > 0, left, 0.0) - tl.where(j < p2 - 1, right, 0.0)
    value += tl.where(i > 0, up, 0.0) - tl.where(i < p1 - 1, down, 0.0)
    pixels = (tl.to_tensor(p1).to(tl.int64) * p2).to(REAL)
    value += w / (tl.sqrt(pixels) if REAL.primitive_bitwidth == 64 else tl.sqrt_rn(pixels))
    mask = (row > 0) & (i < p1) & (column < COLUMNS - 4) & (j < p2)
    pointers = out + sample * stride_n + i * stride_i + j * stride_j
    tl.store(pointers, value.to(out.dtype.element_ty), mask=mask)


def _tile(p1: int, p2: int) -> tuple[int, int]:
    """Rows and columns of a tile of edges: about 1,024 of either kind."""
    columns = min(64, max(8, triton.next_power_of_2(p2 + 4)))
    rows = min(1024 // columns, triton.next_power_of_2(p1 + 1))
    return rows, columns


def grid_normal(out: torch.Tensor, seed: int, first_sample: int, stream: int) -> None:
    """Fill out (n, p1, p2) with noise; see `hessx.ops.grid_normal`."""
    grid_normal_fake(out, seed, first_sample, stream)
    if out.numel() == 0:
        return
    n, p1, p2 = out.shape
    rows, columns = _tile(p1, p2)
    grid = (n * triton.cdiv(p1, rows - 1) * triton.cdiv(p2, columns - 4),)
    with torch.cuda.device_of(out):
        _grid_normal_kernel[grid](
            out,
            p1,
            p2,
            out.stride(0),
            out.stride(1),
            out.stride(2),
            seed,
            first_sample,
            stream,
            REAL=tl.float64 if out.dtype == torch.float64 else tl.float32,
            ROWS=rows,
            COLUMNS=columns,
            num_warps=max(1, rows * columns // 128),
        )
