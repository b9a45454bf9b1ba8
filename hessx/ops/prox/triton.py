"""Triton kernels of the prox ops: the point in one pass, then products of rows over its columns.

Sums inside a tile of columns are of the input's type; tiles are added up in float64, first to last,
within a slot (a run of tiles that depends on d alone), and a second kernel adds up the slots in
order, without atomics: a row of the batch gets the same bits alone and in company.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import triton
import triton.language as tl

from hessx.ops.moments.triton import add_slots
from hessx.ops.prox import rules

# Columns that are added up in the input's type.
_TILE = 512
# Enough for one row of the batch to occupy the largest current GPUs, and few to add up in order.
_MAX_SLOTS = 128
_WORKSPACE_BYTES = 64 * 2**20
# Rows of the basis that a program has under way.
_ROWS = 8


@triton.jit(do_not_specialize=["r", "lambdas", "batch", "first_slot", "tiles_per_slot"])
def _point_kernel(
    basis,
    gradient,
    z,
    lambda1,
    point,
    sums,
    d,
    r,
    lambdas,
    batch,
    first_slot,
    tiles_per_slot,
    stride_basis_batch,
    stride_basis_row,
    stride_basis_column,
    stride_gradient_batch,
    stride_gradient_column,
    TILE: tl.constexpr,
    BLOCK_R: tl.constexpr,
):
    """Store s = S(gradient + basis^T z, lambda1) of one lambda over one slot, and add up its sums.

    Lambdas come first in the numbers of programs: those of one row read the same basis at once.
    """
    pid = tl.program_id(0).to(tl.int64)
    m = pid % lambdas
    b = pid // lambdas % batch
    slot = pid // lambdas // batch
    problem = b * lambdas + m
    basis += b * stride_basis_batch
    gradient += b * stride_gradient_batch
    threshold = tl.load(lambda1 + problem)

    squares = tl.zeros((), tl.float64)
    magnitudes = tl.zeros((), tl.float64)
    along = tl.zeros((), tl.float64)
    zeros = tl.zeros((), tl.float64)
    begin = (first_slot + slot) * tiles_per_slot * TILE
    end = (first_slot + slot + 1) * tiles_per_slot * TILE
    for start in range(begin, tl.minimum(d, end), TILE):
        columns = start + tl.arange(0, TILE)
        in_d = columns < d
        g = tl.load(gradient + columns * stride_gradient_column, mask=in_d, other=0.0)
        u = g
        for first in range(0, r, BLOCK_R):
            rows = first + tl.arange(0, BLOCK_R).to(tl.int64)
            in_r = rows < r
            weights = tl.load(z + problem * r + rows, mask=in_r, other=0.0)
            values = tl.load(
                basis + rows[:, None] * stride_basis_row + columns[None, :] * stride_basis_column,
                mask=in_r[:, None] & in_d[None, :],
                other=0.0,
            )
            u += tl.sum(values * weights[:, None], axis=0)
        # NaN fails the comparison and stays NaN.
        zero = tl.abs(u) <= threshold
        s = tl.where(zero | (columns >= d), 0.0, u - tl.where(u < 0, -threshold, threshold))
        tl.store(point + problem * d + columns, s, mask=in_d)
        squares += tl.sum(s * s).to(tl.float64)
        magnitudes += tl.sum(tl.abs(s)).to(tl.float64)
        along += tl.sum(s * g).to(tl.float64)
        zeros += tl.sum((in_d & (s == 0)).to(tl.int32)).to(tl.float64)

    at = (slot * batch * lambdas + problem) * 4
    tl.store(sums + at, squares)
    tl.store(sums + (at + 1), magnitudes)
    tl.store(sums + (at + 2), along)
    tl.store(sums + (at + 3), zeros)


@triton.jit(do_not_specialize=["r", "lambdas", "batch", "first_slot", "tiles_per_slot"])
def _product_kernel(
    basis,
    point,
    w,
    d,
    r,
    lambdas,
    batch,
    first_slot,
    tiles_per_slot,
    stride_basis_batch,
    stride_basis_row,
    stride_basis_column,
    TILE: tl.constexpr,
    BLOCK_R: tl.constexpr,
):
    """A block of rows of basis s, of one lambda over one slot."""
    pid = tl.program_id(0).to(tl.int64)
    blocks = tl.cdiv(r, BLOCK_R)
    m = pid % lambdas
    block = pid // lambdas % blocks
    b = pid // lambdas // blocks % batch
    slot = pid // lambdas // blocks // batch
    problem = b * lambdas + m
    basis += b * stride_basis_batch
    rows = block * BLOCK_R + tl.arange(0, BLOCK_R)
    in_r = rows < r

    total = tl.zeros((BLOCK_R,), tl.float64)
    begin = (first_slot + slot) * tiles_per_slot * TILE
    end = (first_slot + slot + 1) * tiles_per_slot * TILE
    for start in range(begin, tl.minimum(d, end), TILE):
        columns = start + tl.arange(0, TILE)
        in_d = columns < d
        s = tl.load(point + problem * d + columns, mask=in_d, other=0.0)
        values = tl.load(
            basis + rows[:, None] * stride_basis_row + columns[None, :] * stride_basis_column,
            mask=in_r[:, None] & in_d[None, :],
            other=0.0,
        )
        total += tl.sum(values * s[None, :], axis=1).to(tl.float64)
    tl.store(w + (slot * batch * lambdas + problem) * r + rows, total, mask=in_r)


@triton.jit(do_not_specialize=["lambdas", "batch", "first_slot", "tiles_per_slot"])
def _gram_kernel(
    x,
    point,
    gram,
    d,
    c,
    lambdas,
    batch,
    first_slot,
    tiles_per_slot,
    stride_batch,
    stride_row,
    stride_column,
    TILE: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """One tile of x x^T over the columns where the point is not 0, or over all without a point."""
    pid = tl.program_id(0).to(tl.int64)
    tiles = tl.cdiv(c, BLOCK)
    tile_j = pid % tiles
    tile_i = pid // tiles % tiles
    m = pid // tiles // tiles % lambdas
    b = pid // tiles // tiles // lambdas % batch
    slot = pid // tiles // tiles // lambdas // batch
    problem = b * lambdas + m
    real: tl.constexpr = x.dtype.element_ty
    # The tiles below the diagonal are written by their mirror images.
    if tile_i <= tile_j:
        rows_i = tile_i * BLOCK + tl.arange(0, BLOCK)
        rows_j = tile_j * BLOCK + tl.arange(0, BLOCK)
        in_i = rows_i < c
        in_j = rows_j < c
        x += b * stride_batch
        total = tl.zeros((BLOCK, BLOCK), tl.float64)
        begin = (first_slot + slot) * tiles_per_slot * TILE
        end = (first_slot + slot + 1) * tiles_per_slot * TILE
        for start in range(begin, tl.minimum(d, end), TILE):
            partial = tl.zeros((BLOCK, BLOCK), real)
            for step in range(start, tl.minimum(d, start + TILE), BLOCK_N):
                columns = step + tl.arange(0, BLOCK_N)
                in_d = columns < d
                at = columns[None, :] * stride_column
                left = tl.load(
                    x + rows_i[:, None] * stride_row + at,
                    mask=in_i[:, None] & in_d[None, :],
                    other=0.0,
                )
                if point is not None:
                    s = tl.load(point + problem * d + columns, mask=in_d, other=0.0)
                    left = tl.where(s[None, :] != 0, left, 0.0)
                right = tl.load(
                    x + rows_j[:, None] * stride_row + at,
                    mask=in_j[:, None] & in_d[None, :],
                    other=0.0,
                )
                partial = tl.dot(
                    left, tl.trans(right), partial, input_precision="ieee", out_dtype=real
                )
            total += partial.to(tl.float64)
        # Each unordered pair is written from one value: the result is symmetric to the last bit. A
        # column below c leaves no row beyond it.
        gram += (slot * batch * lambdas + problem) * c * c
        ordered = (rows_i[:, None] <= rows_j[None, :]) & in_j[None, :]
        tl.store(gram + rows_i[:, None] * c + rows_j[None, :], total, mask=ordered)
        mirrored = (rows_i[:, None] < rows_j[None, :]) & in_j[None, :]
        tl.store(gram + rows_j[None, :] * c + rows_i[:, None], total, mask=mirrored)


@dataclass(frozen=True)
class _Tile:
    """Shape of one program of Gram matrices: `edge` rows of either side, `columns` a step, `warps`.

    `registers` a thread may be taken; left open, the assembler rather spills a few bytes than takes
    more than fit twice.
    """

    edge: int
    columns: int
    warps: int
    registers: int | None = None


def _tile(rows: int, d: int, dtype: torch.dtype) -> _Tile:
    """Choose a tile for `rows` a side of `d` columns; it must not depend on the batch.

    A thread loads 128 bits of a factor at once. Rows that are not aligned take an address for each
    number, and spill where a step has more than 16 columns.
    """
    columns = 32 if dtype == torch.float32 and d % 16 == 0 else 16
    if rows <= 16:
        return _Tile(edge=16, columns=columns, warps=4, registers=128)
    if rows <= 256 or dtype == torch.float64:
        return _Tile(edge=32, columns=columns, warps=8, registers=128)
    return _Tile(edge=64, columns=16, warps=8)


def _over_slots(
    launch: Callable[[torch.Tensor, int, int, int], None], output: torch.Tensor, d: int
) -> torch.Tensor:
    """Run `launch(slots of output, first_slot, slots, tiles_per_slot)` until all columns are in."""
    output.zero_()
    tiles = triton.cdiv(d, _TILE)
    if tiles == 0 or output.numel() == 0:
        return output
    tiles_per_slot = triton.cdiv(tiles, _MAX_SLOTS)
    slots = triton.cdiv(tiles, tiles_per_slot)
    bytes_of_slot = output.numel() * output.element_size()
    at_once = min(slots, max(1, _WORKSPACE_BYTES // bytes_of_slot))
    workspace = output.new_empty((at_once, *output.shape))
    for first_slot in range(0, slots, at_once):
        used = min(at_once, slots - first_slot)
        launch(workspace, first_slot, used, tiles_per_slot)
        add_slots(workspace, output, used)
    return output


def prox_pass(
    basis: torch.Tensor,
    gradient: torch.Tensor,
    z: torch.Tensor,
    lambda1: torch.Tensor,
    with_gram: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Sums of the soft-thresholded point; see `hessx.ops.prox_pass`."""
    w, sums, grams = rules.prox_pass_fake(basis, gradient, z, lambda1, with_gram)
    batch, lambdas, r = z.shape
    d = basis.shape[2]
    z, lambda1 = z.contiguous(), lambda1.contiguous()
    point = basis.new_empty(batch, lambdas, d)

    def launch_point(out: torch.Tensor, first_slot: int, slots: int, tiles_per_slot: int) -> None:
        _point_kernel[(lambdas * batch * slots,)](
            basis,
            gradient,
            z,
            lambda1,
            point,
            out,
            d,
            r,
            lambdas,
            batch,
            first_slot,
            tiles_per_slot,
            basis.stride(0),
            basis.stride(1),
            basis.stride(2),
            gradient.stride(0),
            gradient.stride(1),
            TILE=_TILE,
            BLOCK_R=_ROWS,
            num_warps=4,
            # Left to itself, the assembler spills a few bytes to be there more often; so below.
            maxnreg=168 if basis.dtype == torch.float64 else 128,
        )

    def launch_product(out: torch.Tensor, first_slot: int, slots: int, tiles_per_slot: int) -> None:
        _product_kernel[(lambdas * triton.cdiv(r, _ROWS) * batch * slots,)](
            basis,
            point,
            out,
            d,
            r,
            lambdas,
            batch,
            first_slot,
            tiles_per_slot,
            basis.stride(0),
            basis.stride(1),
            basis.stride(2),
            TILE=_TILE,
            BLOCK_R=_ROWS,
            num_warps=4,
            maxnreg=96,
        )

    with torch.cuda.device_of(basis):
        _over_slots(launch_point, sums, d)
        _over_slots(launch_product, w, d)
    return w, sums, write_grams(basis, point, grams) if with_gram else grams


def gram(x: torch.Tensor) -> torch.Tensor:
    """Gram matrices of rows; see `hessx.ops.gram`."""
    return write_grams(x, None, rules.gram_fake(x))


def write_grams(x: torch.Tensor, point: torch.Tensor | None, out: torch.Tensor) -> torch.Tensor:
    """Write to `out` the Gram matrices of x over the columns where the points are not 0, or all."""
    batch, c, d = x.shape
    lambdas = 1 if point is None else point.shape[1]
    tile = _tile(c, d, x.dtype)

    def launch(out: torch.Tensor, first_slot: int, slots: int, tiles_per_slot: int) -> None:
        _gram_kernel[(triton.cdiv(c, tile.edge) ** 2 * batch * lambdas * slots,)](
            x,
            point,
            out,
            d,
            c,
            lambdas,
            batch,
            first_slot,
            tiles_per_slot,
            x.stride(0),
            x.stride(1),
            x.stride(2),
            TILE=_TILE,
            BLOCK_N=tile.columns,
            BLOCK=tile.edge,
            num_warps=tile.warps,
            maxnreg=tile.registers,
        )

    with torch.cuda.device_of(x):
        return _over_slots(launch, out, d)
