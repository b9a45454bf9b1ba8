"""Noise on grids by Triton, against differences of the normal numbers of a NumPy Philox."""

from __future__ import annotations

from functools import partial

import torch

from hessx.ops.grid_noise import triton as kernels
from tests.gpu.checks import Cases
from tests.gpu.checks.noise import KEYS, normals, words
from tests.references.edges import GRIDS, difference_matrix


def _expected(n: int, p1: int, p2: int, key: tuple[int, int, int], dtype: torch.dtype):
    matrix = difference_matrix(p1, p2)
    m = len(matrix)
    drawn = torch.from_numpy(normals(words(n, m + 1, *key), dtype))[:, : m + 1].double()
    pictures = drawn[:, :m] @ matrix + drawn[:, m:] / (p1 * p2) ** 0.5
    return pictures.unflatten(1, (p1, p2))


def _normal(n: int, p1: int, p2: int, key: tuple[int, int, int], dtype: torch.dtype) -> None:
    # Five numbers up to 8, each off by a few units of 2^-22 or 2^-50, and their sums.
    tolerance = 24 * 2.0**-50 if dtype == torch.float64 else 12 * 2.0**-22
    out = torch.empty(n, p1, p2, dtype=dtype)
    kernels.grid_normal(out, *key)
    error = (out.double() - _expected(n, p1, p2, key, dtype)).abs().max()
    assert error <= tolerance


def _half(dtype: torch.dtype) -> None:
    wide, out = torch.empty(5, 9, 11), torch.empty(5, 9, 11, dtype=dtype)
    kernels.grid_normal(wide, 3, 0, 0)
    kernels.grid_normal(out, 3, 0, 0)
    assert torch.equal(out, wide.to(dtype))


def _strided() -> None:
    plain = torch.empty(3, 4, 6)
    kernels.grid_normal(plain, 1, 2, 3)
    base = torch.zeros(13, 17, 19)
    for view in (base.permute(2, 0, 1)[3:6, 1:5, 2:8], base[1:6:2, 2:14:3, 1:18:3]):
        base.zero_()
        kernels.grid_normal(view, 1, 2, 3)
        assert torch.equal(view, plain)
        assert base.count_nonzero() == plain.count_nonzero()


def _samples_are_their_own() -> None:
    whole, part = torch.empty(5, 6, 7), torch.empty(2, 6, 7)
    kernels.grid_normal(whole, 1, 4, 0)
    kernels.grid_normal(part, 1, 7, 0)
    assert torch.equal(whole[3:], part)


def _empty() -> None:
    kernels.grid_normal(torch.empty(0, 3, 4), 1, 2, 3)


def _cases() -> Cases:
    cases: Cases = {}
    for dtype in (torch.float32, torch.float64):
        name = str(dtype).removeprefix("torch.")
        # The last two have several tiles, by rows and by columns.
        for p1, p2 in (*GRIDS, (16, 61), (2, 125)):
            cases[f"{p1}x{p2}-{name}"] = partial(_normal, 3, p1, p2, KEYS[2], dtype)
        for number, key in enumerate(KEYS):
            cases[f"key{number}-{name}"] = partial(_normal, 2, 5, 6, key, dtype)
    for dtype in (torch.bfloat16, torch.float16):
        cases[str(dtype).removeprefix("torch.")] = partial(_half, dtype)
    cases["strided"] = _strided
    cases["samples"] = _samples_are_their_own
    cases["empty"] = _empty
    return cases


CASES = _cases()
