"""Perturbations times explanations by Triton, against the formulas in float64."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from unittest import mock

import torch
from torch import Tensor

from hessx.ops.infidelity import triton as kernels
from tests.gpu.checks import Cases
from tests.references.infidelity import assert_dots_close, assert_gradient_close, problem
from tests.references.prox import numbers

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def check(
    perturbations: Tensor, attributions: Tensor, differences: Tensor, weights: Tensor | None
) -> None:
    pair = perturbations, attributions
    assert_dots_close(kernels.perturbation_dots(*pair), *pair)
    arguments = (*pair, differences, weights)
    assert_gradient_close(kernels.perturbation_gradient(*arguments), *arguments)


def _sizes(n: int, d: int, explanations: int, dtype: torch.dtype = torch.float32) -> None:
    check(*problem(1, n, d, explanations, dtype))


def _mixed() -> None:
    """Explanations that are more exact than the perturbations, and the other way round."""
    perturbations, attributions, differences, weights = problem(1, 5, 20, 3)
    check(perturbations.half(), attributions, differences, weights)
    check(perturbations, attributions.double() / 3, differences, weights)
    check(perturbations.double() / 3, attributions, differences, weights)


def _without_weights() -> None:
    *arguments, _ = problem(1, 5, 20, 3)
    check(*arguments, None)


def _strided() -> None:
    perturbations = numbers(30, 14, 4).permute(2, 1, 0)[::2, 1::2, ::3]
    attributions = numbers(40, 9, 3).permute(2, 1, 0)[::2, ::3, ::4]
    differences = numbers(3, 7, 2, dtype=torch.float64).permute(2, 1, 0)
    weights = numbers(14, dtype=torch.float64).abs()[::2]
    assert 1 not in (*perturbations.stride(), *attributions.stride())
    check(perturbations, attributions, differences, weights)
    check(perturbations[:1].expand(2, -1, -1), attributions, differences, weights)
    check(perturbations[:1], attributions, differences, weights)


def _small(**limits: int) -> mock._patch:
    """Tiles of two rows, two explanations and 32 columns, one or more to a slot."""
    tile = kernels._Tile(2, 2, 32)
    return mock.patch.multiple(
        kernels,
        _dots_tile=lambda explanations: tile,
        _moment_tile=lambda explanations: tile,
        _explanations_at_once=lambda explanations: 2,
        _RESIDUAL_ROWS=2,
        **{"_TILES_PER_SLOT": 1, **limits},
    )


def _slots(arguments: tuple[Tensor, ...], **limits: int) -> None:
    """Several of everything, the last ones masked."""
    with _small(**limits):
        check(*arguments)


def _in_order() -> None:
    """A large number, ones and its negative, each in a slot or a tile of its own."""
    large = torch.tensor([2.0**60, 1.0, -(2.0**60), 1.0])
    for tiles in (1, 2, 4):
        with _small(_TILES_PER_SLOT=tiles):
            columns = torch.zeros(1, 1, 4 * 32)
            columns[..., ::32] = large
            # float64 loses the first 1, and only in this order; two to a slot lose both.
            expected = 0.0 if tiles == 2 else 1.0
            assert kernels.perturbation_dots(columns, torch.ones(1, 1, 128)).item() == expected
            rows = torch.zeros(1, 4 * 2, 1)
            rows[0, ::2, 0] = large
            differences = -torch.ones(1, 8, 1, dtype=torch.float64)
            arguments = rows, torch.zeros(1, 1, 1), differences
            assert kernels.perturbation_gradient(*arguments)[0].item() == expected
            weights = torch.zeros(8, dtype=torch.float64)
            weights[::2] = large
            assert kernels.perturbation_gradient(*arguments, weights)[1].item() == expected


def _results(arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return kernels.perturbation_dots(*arguments[:2]), *kernels.perturbation_gradient(*arguments)


def _company() -> None:
    """An input gets the same bits alone, although the workspace then holds more slots."""
    perturbations, attributions, differences, weights = problem(3, 5, 70, 3)
    with _small(_WORKSPACE_BYTES=2000):
        whole = _results((perturbations, attributions, differences, weights))
        alone = _results((perturbations[1:2], attributions[1:2], differences[1:2], weights))
    assert all(torch.equal(a[1:2], b) for a, b in zip(whole, alone, strict=True))


def _nan(number: int) -> None:
    """In the last of three rows, of two explanations or of three inputs."""
    arguments = [x.clone() for x in problem(3, 3, 20, 2)]
    clean = _results(tuple(arguments))
    arguments[number][-1].view(-1)[-1] = torch.nan
    dots, gradient, loss = (
        torch.where(actual.isnan(), torch.nan, actual) for actual in _results(tuple(arguments))
    )
    touched = [torch.zeros_like(x, dtype=torch.bool) for x in clean]
    if number == 0:
        touched[0][2, 2], touched[1][2], touched[2][2] = True, True, True
    elif number == 3:
        touched[1][:], touched[2][:] = True, True
    else:
        touched[0][2, :, 1] = number == 1
        touched[1][2, 1], touched[2][2, 1] = True, True
    for result, exact, bad in zip((dots, gradient, loss), clean, touched, strict=True):
        assert torch.equal(result.isnan(), bad)
        assert torch.equal(result[~bad], exact[~bad])


def _cases() -> Cases:
    cases: Cases = {}
    # Tiles of 1, 2, 4 and 8 explanations; one column, a block of 256 and more; masked rows.
    for n, d, explanations in ((1, 1, 1), (9, 257, 1), (3, 256, 2), (5, 17, 3), (10, 20, 9)):
        cases[f"{n}x{d}x{explanations}"] = partial(_sizes, n, d, explanations)
    for dtype in DTYPES:
        cases[str(dtype).removeprefix("torch.")] = partial(_sizes, 5, 35, 6, dtype)
    cases["mixed"] = _mixed
    cases["without-weights"] = _without_weights
    cases["strided"] = _strided
    for batch, n, d, explanations in ((0, 3, 5, 2), (2, 0, 5, 2), (2, 3, 0, 2), (2, 3, 5, 0)):
        for shared in (False, True):
            name = f"empty-{batch}x{n}x{d}x{explanations}{'-shared' * shared}"
            arguments = problem(batch, n, d, explanations, shared=shared)
            cases[name] = partial(check, *arguments)
    several, shared = problem(2, 5, 70, 3), problem(2, 5, 70, 3, shared=True)
    few = problem(2, 3, 40, 3)
    several_of_each: dict[str, Callable[[], None]] = {
        "slots": partial(_slots, several),
        "slots-shared": partial(_slots, shared),
        "two-to-a-slot": partial(_slots, several, _TILES_PER_SLOT=2),
        "one-slot": partial(_slots, several, _MAX_SLOTS=1),
        "two-slots": partial(_slots, several, _MAX_SLOTS=2),
        # Two slots of the gradient at once, the third one by itself.
        "two-at-once": partial(_slots, problem(2, 5, 40, 3), _WORKSPACE_BYTES=2 * 8 * 2 * 3 * 40),
        "one-at-once": partial(_slots, few, _WORKSPACE_BYTES=1),
    }
    cases |= several_of_each
    cases["in-order"] = _in_order
    cases["company"] = _company
    for number, name in enumerate(("perturbations", "attributions", "differences", "weights")):
        cases[f"nan-{name}"] = partial(_nan, number)
    return cases


CASES = _cases()
