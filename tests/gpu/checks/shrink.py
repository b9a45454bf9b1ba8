"""Soft threshold and FISTA step by Triton, against the formulas in float64."""

from __future__ import annotations

from functools import partial
from unittest import mock

import torch

from hessx.ops.shrink import rules
from hessx.ops.shrink import triton as kernels
from tests.gpu.checks import Cases
from tests.references.shrink import assert_step, problem, spread


def step(*arguments: torch.Tensor, out: tuple[torch.Tensor, torch.Tensor] | None = None):
    """fista_step into new tensors, or those given."""
    product = arguments[1]
    if out is None:
        out = product.new_empty(product.shape), product.new_empty(product.shape)
    sums = torch.empty(*product.shape[:2], rules.FISTA_SUMS, dtype=torch.float64)
    kernels.fista_step(*arguments, *out, sums)
    return *out, sums


def _threshold(rows: int, d: int, dtype: torch.dtype) -> None:
    x, threshold = problem(1, rows, d, dtype)[1][0], problem(1, rows, d, dtype)[5][0]
    t = threshold[:, None]
    # The difference is rounded once.
    expected = torch.where(x > t, x - t, torch.where(x < -t, x + t, 0))
    assert torch.equal(kernels.soft_threshold(x, threshold), expected)
    spread_x, spread_threshold = spread(x), spread(threshold)
    assert torch.equal(kernels.soft_threshold(spread_x, spread_threshold), expected)
    gaps = torch.zeros(rows, d + 3, dtype=dtype)[:, 1 : d + 1].copy_(x)
    assert torch.equal(kernels.soft_threshold(gaps, threshold), expected)


def _threshold_edges() -> None:
    inf, nan = float("inf"), float("nan")
    x = torch.tensor([-2.0, -1.0, -0.0, 0.0, 1.0, 2.0, inf, -inf, nan])
    shrunk = torch.tensor([-1.0, 0, 0, 0, 0, 1.0, inf, -inf, nan])
    # Infinity less infinity is nobody's number.
    beyond = torch.tensor([0.0, 0, 0, 0, 0, 0, nan, nan, nan])
    expected = torch.stack((x, shrunk, beyond, torch.full_like(x, nan)))
    result = kernels.soft_threshold(x.repeat(4, 1), torch.tensor([0.0, 1.0, inf, nan]))
    torch.testing.assert_close(result, expected, rtol=0, atol=0, equal_nan=True)


def _step(batch: int, m: int, d: int, dtype: torch.dtype) -> None:
    arguments = problem(batch, m, d, dtype)
    results = step(*arguments)
    assert_step(results, arguments)
    in_place = step(*arguments, out=(arguments[3], arguments[2]))
    assert all(torch.equal(a, b) for a, b in zip(in_place, results, strict=True))


def _blocks(batch: int, m: int, d: int) -> None:
    # Small blocks, to be quick.
    with mock.patch.object(rules, "COLUMN_BLOCK", 16):
        _step(batch, m, d, torch.float32)


def _blocks_in_order() -> None:
    zero, one = torch.zeros(1, 1, 64), torch.ones(1, 1)
    with mock.patch.object(rules, "COLUMN_BLOCK", 16):
        for large, expected in (
            (2.0**30, 2.0),  # float32 would lose both of the ones
            (2.0**60, 1.0),  # float64 loses the first one, and only in this order
        ):
            gradient = torch.zeros(1, 64)
            gradient[0, ::16] = torch.tensor([1.0, 1.0, -1.0, 1.0])
            point = torch.zeros(1, 1, 64)
            point[0, 0, ::16] = torch.tensor([large, 1.0, large, 1.0])
            # A step of no length: next is the point.
            _, _, sums = step(gradient, zero, point, zero, one * 0, one, one, one)
            assert sums[0, 0, 0].item() == expected


def _strided() -> None:
    arguments = problem(2, 3, 40)
    for found, exact in zip(step(*map(spread, arguments)), step(*arguments), strict=True):
        assert torch.equal(found, exact)
    # Contiguous rows, no two of them equally far apart.
    rows = [
        torch.zeros(*x.shape[:-1], x.shape[-1] + gap, dtype=x.dtype)[..., gap:].copy_(x)
        for gap, x in enumerate(arguments, 1)
    ]
    for found, exact in zip(step(*rows), step(*arguments), strict=True):
        assert torch.equal(found, exact)


def _empty(batch: int, m: int, d: int) -> None:
    next_point, extrapolated, sums = step(*problem(batch, m, d))
    assert next_point.shape == extrapolated.shape == (batch, m, d)
    assert (sums == 0).all()
    assert kernels.soft_threshold(torch.ones(batch, d), torch.ones(batch)).shape == (batch, d)


def _nan(argument: int) -> None:
    arguments = problem(2, 2, 70, torch.float32)
    clean = step(*arguments)
    arguments[argument][(1,) * arguments[argument].ndim] = torch.nan
    results = step(*arguments)
    moved = results[1 if argument in (3, 5) else 0]
    rows = [(1, 0), (1, 1)] if argument == 0 else [(1, 1)]
    for row in rows:
        touched = list(range(70)) if argument >= 4 else [1]
        assert moved[row].isnan().nonzero().flatten().tolist() == touched
        lost = {3: [3], 5: []}.get(argument, [0, 1, 2, 3])
        assert results[2][row].isnan().nonzero().flatten().tolist() == lost
        for result, value in zip(results, clean, strict=True):
            result[row] = value[row]
    assert all(torch.equal(a, b) for a, b in zip(results, clean, strict=True))


def _cases() -> Cases:
    cases: Cases = {}
    for dtype in (torch.float32, torch.float64):
        name = str(dtype).removeprefix("torch.")
        for rows, d in ((1, 1), (3, 5), (2, 128), (2, 4101)):
            cases[f"threshold-{rows}x{d}-{name}"] = partial(_threshold, rows, d, dtype)
        for batch, m, d in ((1, 1, 1), (2, 3, 5), (1, 2, 128), (9, 3, 7), (2, 2, 4101)):
            cases[f"step-{batch}x{m}x{d}-{name}"] = partial(_step, batch, m, d, dtype)
    cases["threshold-edges"] = _threshold_edges
    for batch, m, d in ((1, 1, 48), (3, 2, 70)):
        cases[f"blocks-{batch}x{m}x{d}"] = partial(_blocks, batch, m, d)
    cases["blocks-in-order"] = _blocks_in_order
    cases["strided"] = _strided
    for shape in ((0, 2, 5), (2, 0, 5), (2, 2, 0)):
        cases[f"empty-{'x'.join(map(str, shape))}"] = partial(_empty, *shape)
    for argument in range(8):
        cases[f"nan-{argument}"] = partial(_nan, argument)
    return cases


CASES = _cases()
