"""Box sums by Triton, against the list of all squares in float64."""

from __future__ import annotations

from functools import partial
from unittest import mock

import torch

from hessx.ops.boxes import triton as kernels
from hessx.ops.grid import triton as tiles
from tests.gpu.checks import Cases
from tests.references.boxes import (
    PROBLEMS,
    assert_box_sums,
    assert_box_sums_adjoint,
    box_matrix,
    on_squares,
    pictures,
)
from tests.references.shrink import spread

Sides = tuple[int, ...]


def _sums(p1: int, p2: int, sides: Sides, dtype: torch.dtype, n: int = 2) -> None:
    x = pictures(n, p1, p2, dtype)
    assert_box_sums(kernels.box_sums(x, list(sides)), x, sides)


def _adjoint(p1: int, p2: int, sides: Sides, dtype: torch.dtype, n: int = 2) -> None:
    w = on_squares(n, p1, p2, sides, dtype)
    result = kernels.box_sums_adjoint(w, list(sides), p1, p2)
    assert_box_sums_adjoint(result, w, sides, p1, p2)


def _tiles(p1: int, p2: int, sides: Sides) -> None:
    # Small tiles, to be quick: several across and down, the last ones not full.
    with mock.patch.multiple(tiles, _TILE=16, _MAX_COLUMNS=8):
        _sums(p1, p2, sides, torch.float32)
        _adjoint(p1, p2, sides, torch.float32)


def _strided() -> None:
    sides = [2, 3]
    x, w = pictures(3, 4, 5), on_squares(3, 4, 5, (2, 3))
    for call, y in (
        (lambda x: kernels.box_sums(x, sides), x),
        (lambda w: kernels.box_sums_adjoint(w, sides, 4, 5), w),
    ):
        expected = call(y)
        assert torch.equal(call(spread(y)), expected)
        # Entries that are contiguous, further apart than they are long, and one for all.
        far = torch.zeros(2 * len(y), *y.shape[1:], dtype=y.dtype)[::2].copy_(y)
        assert torch.equal(call(far), expected)
        assert torch.equal(call(y[:1].expand_as(y)), expected[:1].expand_as(expected))


def _empty() -> None:
    for dtype in (torch.float32, torch.float64):
        _sums(3, 4, (2, 1), dtype, n=0)
        _adjoint(3, 4, (2, 1), dtype, n=0)


def _not_finite() -> None:
    """Only the squares that cover it, only the pixels of a square: no neighbour in memory."""
    p1, p2, sides = 3, 4, (2, 3)
    covers = box_matrix(p1, p2, sides) > 0
    x, w = pictures(1, p1, p2, torch.float32), on_squares(1, p1, p2, sides, torch.float32)
    for y, touched, call in (
        (x, covers.T, lambda x: kernels.box_sums(x, list(sides))),
        (w, covers, lambda w: kernels.box_sums_adjoint(w, list(sides), p1, p2)),
    ):
        clean = call(y).flatten()
        for at in range(y.numel()):
            wrong = y.clone()
            wrong.view(-1)[at] = torch.inf if at % 2 else torch.nan
            result = call(wrong).flatten()
            assert torch.equal(~result.isfinite(), touched[at])
            assert torch.equal(result[~touched[at]], clean[~touched[at]])


def _cases() -> Cases:
    cases: Cases = {}
    for dtype in (torch.float32, torch.float64):
        kind = str(dtype).removeprefix("torch.")
        for p1, p2, sides in PROBLEMS:
            label = f"{p1}x{p2}-{'-'.join(map(str, sides))}-{kind}"
            cases[f"sums-{label}"] = partial(_sums, p1, p2, sides, dtype)
            cases[f"adjoint-{label}"] = partial(_adjoint, p1, p2, sides, dtype)
    cases["tiles-5x17"] = partial(_tiles, 5, 17, (1, 3))
    cases["tiles-19x6"] = partial(_tiles, 19, 6, (4, 2))
    # More than one of the largest tile across.
    cases["wide"] = partial(_sums, 2, 260, (2,), torch.float32)
    cases["strided"] = _strided
    cases["empty"] = _empty
    cases["not-finite"] = _not_finite
    return cases


CASES = _cases()
