"""Grid operators by Triton, against their matrices in float64 and the order of their sums."""

from __future__ import annotations

from functools import partial
from unittest import mock

import torch

from hessx.ops.grid import reference
from hessx.ops.grid import triton as kernels
from tests.gpu.checks import Cases
from tests.references.grid import arguments, assert_product, matrices
from tests.references.shrink import spread

NAMES = tuple(matrices(1, 1))
# A pixel, a row, a column, one face, tiles that are full and that are not.
GRIDS = ((1, 1), (1, 6), (5, 1), (2, 2), (4, 8), (5, 9))


def _values(name: str, n: int, p1: int, p2: int, dtype: torch.dtype) -> None:
    call = arguments(name, n, p1, p2, dtype)
    assert_product(getattr(kernels, name)(*call), name, call[0], p1, p2)


def _tiles(name: str, p1: int, p2: int) -> None:
    # Small tiles, to be quick: several across and down, the last ones not full.
    with mock.patch.multiple(kernels, _TILE=16, _MAX_COLUMNS=8):
        _values(name, 2, p1, p2, torch.float32)


def _order(name: str, p1: int, p2: int) -> None:
    """The sums of the reference in its order, in float64: equal to the bit."""
    call = arguments(name, 2, p1, p2)
    assert torch.equal(getattr(kernels, name)(*call), getattr(reference, name)(*call))


def _strided(name: str) -> None:
    x, *size = arguments(name, 3, 4, 5)
    call = getattr(kernels, name)
    expected = call(x, *size)
    assert torch.equal(call(spread(x), *size), expected)
    # Entries that are contiguous, further apart than they are long, and one for all.
    far = torch.zeros(2 * x.shape[0], *x.shape[1:], dtype=x.dtype)[::2].copy_(x)
    assert torch.equal(call(far, *size), expected)
    assert torch.equal(call(x[:1].expand_as(x), *size), expected[:1].expand_as(expected))


def _empty(name: str) -> None:
    _values(name, 0, 3, 4, torch.float32)


def _not_finite(name: str) -> None:
    """Only what it is a term of: neither the next row in memory nor what a mask left out."""
    x, *size = arguments(name, 2, 3, 4, torch.float32)
    call = getattr(kernels, name)
    clean = call(x, *size)
    for at in range(x[0].numel()):
        touched = torch.zeros_like(x)
        touched[1].view(-1)[at] = 1
        touched = call(touched, *size) != 0
        wrong = x.clone()
        wrong[1].view(-1)[at] = torch.inf if at % 2 else torch.nan
        result = call(wrong, *size)
        assert torch.equal(~result.isfinite(), touched)
        assert torch.equal(result[~touched], clean[~touched])


def _cases() -> Cases:
    cases: Cases = {}
    for name in NAMES:
        op = name.removeprefix("grid_")
        for dtype in (torch.float32, torch.float64):
            kind = str(dtype).removeprefix("torch.")
            for p1, p2 in GRIDS:
                cases[f"{op}-{p1}x{p2}-{kind}"] = partial(_values, name, 3, p1, p2, dtype)
        cases[f"{op}-tiles-5x17"] = partial(_tiles, name, 5, 17)
        cases[f"{op}-tiles-19x3"] = partial(_tiles, name, 19, 3)
        # The largest tile, and more than one of it either way.
        for p1, p2 in ((5, 6), (5, 260)):
            cases[f"{op}-order-{p1}x{p2}"] = partial(_order, name, p1, p2)
        cases[f"{op}-strided"] = partial(_strided, name)
        cases[f"{op}-empty"] = partial(_empty, name)
        cases[f"{op}-not-finite"] = partial(_not_finite, name)
    return cases


CASES = _cases()
