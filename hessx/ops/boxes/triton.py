"""Triton kernel of the box sums: sums of neighbours along one axis, one program a tile of them.

A square has some tens of rows at the most, which lie in the cache of the processor that adds them
up: numbers are read as often as they are terms, and nothing is exchanged between programs.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl

from hessx.ops.boxes import rules
from hessx.ops.grid.triton import entries, tile, tile_of_grid


@triton.jit(
    do_not_specialize=[
        *("rows", "columns", "length", "side", "margin"),
        *("stride_x", "first_x", "stride_out", "first_out"),
    ]
)
def _windows_kernel(
    x,
    out,
    rows,
    columns,
    length,
    side,
    margin,
    stride_x,
    first_x,
    stride_out,
    first_out,
    DOWN: tl.constexpr,
    ADD: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Sums of `side` numbers along an axis, which has `length` of them and zeros around these.

    The first sum begins `margin` places before the first number. Sums are float64, `rows` by
    `columns` of them in each entry.
    """
    entry, row, column = tile_of_grid(rows, columns, ROWS, COLUMNS)
    i = row + tl.arange(0, ROWS)[:, None]
    j = column + tl.arange(0, COLUMNS)[None, :]
    inside = (i < rows) & (j < columns)
    x += entry * stride_x + first_x
    if DOWN:
        step = columns
        place = i - margin
        at = x + (place * columns + j)
    else:
        step = 1
        place = j - margin
        at = x + (i * length + place)
    total = tl.zeros((ROWS, COLUMNS), tl.float64)
    for _ in range(side):
        mask = inside & (place >= 0) & (place < length)
        total += tl.load(at, mask=mask, other=0.0).to(tl.float64)
        place += 1
        at += step
    out += entry * stride_out + first_out
    if ADD:
        total += tl.load(out + (i * columns + j), mask=inside, other=0.0)
        # In a tile of few numbers several threads read one, and one of them writes it.
        tl.debug_barrier()
    tl.store(out + (i * columns + j), total.to(out.dtype.element_ty), mask=inside)


def _windows(
    x: torch.Tensor,
    out: torch.Tensor,
    size: tuple[int, int],
    length: int,
    side: int,
    *,
    margin: int,
    down: bool = False,
    first_x: int = 0,
    first_out: int = 0,
    add: bool = False,
) -> None:
    """Launch the kernel for all entries; numbers begin `first` places into each."""
    rows, columns = size
    height, width, warps = tile(rows, columns)
    programs = x.shape[0] * triton.cdiv(rows, height) * triton.cdiv(columns, width)
    with torch.cuda.device_of(x):
        _windows_kernel[(programs,)](
            x,
            out,
            rows,
            columns,
            length,
            side,
            margin,
            x.stride(0),
            first_x,
            out.stride(0),
            first_out,
            DOWN=down,
            ADD=add,
            ROWS=height,
            COLUMNS=width,
            num_warps=warps,
        )


def box_sums(x: torch.Tensor, sides: Sequence[int]) -> torch.Tensor:
    """Sums over squares; see `hessx.ops.box_sums`."""
    out = rules.box_sums_fake(x, sides)
    if out.numel() == 0:
        return out
    x = entries(x)
    n, p1, p2 = x.shape
    for side, first, rows, columns in rules.box_slices(p1, p2, sides):
        along = x.new_empty((n, p1, columns), dtype=torch.float64)
        _windows(x, along, (p1, columns), p2, side, margin=0)
        _windows(along, out, (rows, columns), p1, side, margin=0, down=True, first_out=first)
    return out


def box_sums_adjoint(w: torch.Tensor, sides: Sequence[int], p1: int, p2: int) -> torch.Tensor:
    """Sums over the squares that cover each pixel; see `hessx.ops.box_sums_adjoint`."""
    out = rules.box_sums_adjoint_fake(w, sides, p1, p2)
    if out.numel() == 0:
        return out
    w = entries(w)
    total = torch.zeros_like(out, dtype=torch.float64)
    for side, first, rows, columns in rules.box_slices(p1, p2, sides):
        along = total.new_empty((len(w), rows, p2))
        margin = side - 1
        _windows(w, along, (rows, p2), columns, side, margin=margin, first_x=first)
        _windows(along, total, (p1, p2), rows, side, margin=margin, down=True, add=True)
    return out.copy_(total)
