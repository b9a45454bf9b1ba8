"""The prox pass and Gram matrices by Triton, against the formulas in float64."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from unittest import mock

import torch
from torch import Tensor

from hessx.ops.prox import reference
from hessx.ops.prox import triton as kernels
from tests.gpu.checks import Cases
from tests.references.prox import bounds_of_gram, bounds_of_pass, numbers, problem

DTYPES = (torch.float32, torch.float64)
TILE = 512


def check_pass(basis: Tensor, gradient: Tensor, z: Tensor, lambda1: Tensor) -> None:
    arguments = basis, gradient, z, lambda1
    results = kernels.prox_pass(*arguments, True)
    expected = reference.prox_pass(*arguments, True)
    for result, exact, bound in zip(results, expected, bounds_of_pass(*arguments), strict=True):
        assert result.dtype == torch.float64
        assert result.shape == exact.shape
        assert ((result - exact).abs() <= bound).all()
    assert torch.equal(results[2], results[2].mT)


def check_gram(x: Tensor) -> None:
    result = kernels.gram(x)
    assert result.dtype == torch.float64
    assert result.shape == (*x.shape[:2], x.shape[1])
    assert ((result - reference.gram(x)).abs() <= bounds_of_gram(x)).all()
    assert torch.equal(result, result.mT)


def _pass(dtype: torch.dtype) -> None:
    # Two tiles of columns and two blocks of rows, both masked.
    check_pass(*problem(1, 2, 9, TILE + 5, dtype))


def _gram(dtype: torch.dtype) -> None:
    # Two tiles of rows by two, two of columns, all masked.
    check_gram(numbers(1, 33, TILE + 5, dtype=dtype))


def _without_gram() -> None:
    arguments = problem(1, 2, 3, 20, torch.float32)
    *sums, nothing = kernels.prox_pass(*arguments, False)
    expected = kernels.prox_pass(*arguments, True)
    assert all(torch.equal(a, b) for a, b in zip(sums, expected[:2], strict=True))
    assert nothing.shape == (1, 2, 0, 0)


def _tiles(check: Callable[..., None], *arguments: Tensor) -> None:
    """Several tiles of rows, small ones, for several problems."""
    with mock.patch.object(kernels, "_tile", return_value=kernels._Tile(16, 32, 4)):
        check(*arguments)


def _sizes(d: int, r: int) -> None:
    check_pass(*problem(1, 2, r, d, torch.float32))
    check_gram(numbers(1, r, d))


def _largest_tile() -> None:
    # More than 256 rows: tiles of 64 in float32.
    check_gram(numbers(1, 257, 20))


def _empty(shape: tuple[int, ...]) -> None:
    arguments = problem(*shape, torch.float32)
    check_pass(*arguments)
    check_gram(arguments[0])


def _strided() -> None:
    basis, gradient = numbers(40, 5, 4).permute(2, 1, 0)[::2, 1::2, ::3], numbers(14, 4).mT[::2]
    assert 1 not in (*basis.stride(), *gradient.stride())
    z, lambda1 = numbers(2, 3, 2).permute(2, 1, 0)[..., :2], numbers(3, 2).mT.abs()
    check_pass(basis, gradient, z, lambda1)
    check_pass(basis[:1].expand(2, -1, -1), gradient[:1].expand(2, -1), z, lambda1)
    check_gram(basis)


def _ties() -> None:
    """Integers: no rounding. An entry of exactly lambda1 is zero."""
    gradient = (torch.arange(42.0) % 21 - 10)[None]
    lambda1 = torch.tensor([[0.0, 4.0, 10.0, 1e30]])
    w, sums, gram = kernels.prox_pass(
        torch.ones(1, 1, 42), gradient, torch.zeros(1, 4, 1), lambda1, True
    )
    assert sums[0, :, 3].tolist() == [2, 18, 42, 42]
    assert gram.flatten().tolist() == [40, 24, 0, 0]
    s = gradient.sign() * (gradient.abs() - lambda1.mT).clamp(min=0)
    assert torch.equal(w.flatten(), s.sum(1).double())
    expected = [s.square().sum(1), s.abs().sum(1), (gradient * s).sum(1)]
    assert torch.equal(sums[0, :, :3], torch.stack(expected, 1).double())


def _infinite() -> None:
    """Infinity minus infinity would be NaN: what does not exceed lambda1 is zero."""
    gradient = torch.tensor([[torch.inf, 1.0, -torch.inf]])
    lambda1 = torch.full((1, 1), torch.inf)
    w, sums, gram = kernels.prox_pass(
        torch.ones(1, 1, 3), gradient, torch.zeros(1, 1, 1), lambda1, True
    )
    assert w.item() == gram.item() == sums[0, 0, 0].item() == sums[0, 0, 1].item() == 0
    assert sums[0, 0, 3].item() == 3


def _tiles_in_order() -> None:
    """A large number, ones and its negative, each in a tile, all tiles in one slot or in four."""
    x = torch.zeros(1, 2, 4 * 32)
    x[0, 1] = 1
    gradient, z, lambda1 = torch.ones(1, 4 * 32), torch.zeros(1, 1, 2), torch.zeros(1, 1)
    for slots in (1, 4):
        with mock.patch.multiple(kernels, _TILE=32, _MAX_SLOTS=slots):
            for large, expected in (
                (2.0**30, 2.0),  # float32 would lose both of the ones
                (2.0**60, 1.0),  # float64 loses the first one, and only in this order
            ):
                x[0, 0, ::32] = torch.tensor([large, 1.0, -large, 1.0])
                assert kernels.gram(x)[0, 0, 1].item() == expected
                w, sums, gram = kernels.prox_pass(x, gradient, z, lambda1, True)
                assert w[0, 0, 0].item() == gram[0, 0, 0, 1].item() == expected
                # The same numbers as the point: magnitudes have no order to lose.
                sums = kernels.prox_pass(x, x[:, 0], z, lambda1, False)[1]
                assert sums[0, 0, 1].item() == 2 * large + (2 if large < 2.0**50 else 0)


def _slots(check: Callable[..., None], arguments: tuple[Tensor, ...], **limits: int) -> None:
    """Several problems over three tiles of columns, the last one masked."""
    # Small tiles, to be quick.
    with mock.patch.multiple(kernels, _TILE=32, **limits):
        check(*arguments)


def _company() -> None:
    """A row of the batch gets the same bits alone, although the workspace then holds more slots."""
    arguments = problem(3, 2, 5, 70, torch.float32)
    with mock.patch.multiple(kernels, _TILE=32, _WORKSPACE_BYTES=2000):
        whole = (*kernels.prox_pass(*arguments, True), kernels.gram(arguments[0]))
        single = [x[1:2] for x in arguments]
        alone = (*kernels.prox_pass(*single, True), kernels.gram(single[0]))
    assert all(torch.equal(a[1:2], b) for a, b in zip(whole, alone, strict=True))


def _nan(number: int) -> None:
    clean = problem(3, 2, 4, 40, torch.float32)
    expected = kernels.prox_pass(*clean, True)
    arguments = [x.clone() for x in clean]
    arguments[number][1].view(-1)[-1] = torch.nan
    results = kernels.prox_pass(*arguments, True)
    for result, value in zip(results, expected, strict=True):
        assert torch.equal(result[::2], value[::2])
    assert results[0][1, 1].isnan().all()
    assert results[1][1, 1, :3].isnan().all()
    if number == 0:
        # One entry of the basis: its row and column alone.
        finite = torch.ones(4, 4, dtype=torch.bool)
        finite[3], finite[:, 3] = False, False
        assert torch.equal(results[2][1, 1].isfinite(), finite)
        assert torch.equal(kernels.gram(arguments[0])[1].isfinite(), finite)
    else:
        # All columns that become NaN are active.
        assert results[2][1, 1].isfinite().all()


def _cases() -> Cases:
    cases: Cases = {}
    for dtype in DTYPES:
        name = str(dtype).removeprefix("torch.")
        cases[f"pass-{name}"] = partial(_pass, dtype)
        cases[f"gram-{name}"] = partial(_gram, dtype)
    for d in (1, 15, 17, TILE, TILE + 1):
        for r in (1, 9):
            cases[f"size-{d}x{r}"] = partial(_sizes, d, r)
    cases["largest-tile"] = _largest_tile
    for shape in [(0, 2, 3, 5), (2, 0, 3, 5), (2, 2, 0, 5), (2, 2, 3, 0)]:
        cases[f"empty-{shape}"] = partial(_empty, shape)
    cases["strided"] = _strided
    cases["ties"] = _ties
    cases["infinite"] = _infinite
    cases["tiles-in-order"] = _tiles_in_order
    cases["without-gram"] = _without_gram
    for name, check, several, few in (
        # Two or four of everything: with coprime numbers, wrong divisors still reach all programs.
        ("pass", check_pass, problem(2, 2, 26, 20, torch.float32), problem(2, 2, 9, 70, DTYPES[0])),
        ("gram", check_gram, (numbers(2, 26, 20),), (numbers(2, 5, 70),)),
    ):
        cases[f"{name}-tiles"] = partial(_tiles, check, *several)
        cases[f"{name}-one-slot"] = partial(_slots, check, few, _MAX_SLOTS=1)
        cases[f"{name}-two-slots"] = partial(_slots, check, few, _MAX_SLOTS=2)
        # Two slots of the largest output at once: the third one by itself.
        cases[f"{name}-two-at-once"] = partial(
            _slots, check, few, _WORKSPACE_BYTES=2 * 8 * (2 * 2 * 81 if name == "pass" else 50)
        )
    cases["company"] = _company
    for number, name in enumerate(("basis", "gradient", "z", "lambda1")):
        cases[f"nan-{name}"] = partial(_nan, number)
    return cases


CASES = _cases()
