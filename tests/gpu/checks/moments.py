"""Moments by Triton, against the formulas in float64."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from unittest import mock

import torch

from hessx.ops.moments import triton as kernels
from hessx.ops.noise import triton as noise
from tests.gpu.checks import Cases

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def numbers(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> torch.Tensor:
    """Normal numbers, the same in every process."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def assert_product(actual: torch.Tensor, left: torch.Tensor, right: torch.Tensor, dtype) -> None:
    """Compare with left^T right, for inputs of `dtype`.

    Each sum rounds at most 255 times in a block, each term up to 4 times (weight, squares,
    product); every such step errs by half a unit of the sum of magnitudes. The float64 additions
    of the blocks and of the expected value add far less, except to float64.
    """
    left, right = left.double(), right.double()
    half_unit = 2.0**-53 if dtype == torch.float64 else 2.0**-24
    steps = min(256, left.shape[-2]) + 3
    bound = (steps * half_unit + left.shape[-2] * 2.0**-53) * (left.abs().mT @ right.abs())
    assert actual.dtype == torch.float64
    assert actual.shape == bound.shape
    assert ((actual - left.mT @ right).abs() <= bound).all()


def check_cross_moments(u, v, weight=None) -> None:
    _check_products(kernels.cross_moments(u, v, weight), u, v, weight)


def _check_products(moments, u, v, weight) -> None:
    sum_u, sum_v, uv = moments
    ones = torch.ones(u.shape[-2])
    w = (ones if weight is None else weight).double()[..., None]
    assert_product(sum_u[..., None], u, w, u.dtype)
    assert_product(sum_v[..., None], v, w, u.dtype)
    assert_product(uv, w * u.double(), v, u.dtype)


def check_core_moments(u, w) -> None:
    uw, u2w2, cross, w2 = kernels.core_moments(u, w)
    x, y = u.double(), w.double()
    assert_product(uw, x, y, u.dtype)
    assert_product(u2w2, x.square(), y.square(), u.dtype)
    assert_product(cross, x * y, x * y, u.dtype)
    assert_product(w2[..., None], y.square(), torch.ones(u.shape[1], 1), u.dtype)
    assert torch.equal(cross, cross.mT)


def check_normal_moments(v, m: int, weight=None, key=(5, 2**33 + 7, 3)) -> None:
    """The draws are those of `normal`, the sums those of `cross_moments`."""
    drawn = torch.empty(v.shape[1], m, dtype=v.dtype)
    noise.normal(drawn, *key)
    moments = kernels.normal_moments(v, weight, m, *key)
    _check_products(moments, drawn[None], v, weight)


def _cross(dtype: torch.dtype, weighted: bool) -> None:
    # Two blocks of samples, the second masked; two tiles by one, both masked.
    u, v = numbers(2, 262, 33, dtype=dtype), numbers(2, 262, 19, dtype=dtype, seed=1)
    weight = numbers(262, dtype=dtype, seed=2) if weighted else None
    check_cross_moments(u, v, weight)


def _core(dtype: torch.dtype) -> None:
    # Two tiles by two, the float64 ones of 16 columns, the others of 32.
    k = 17 if dtype == torch.float64 else 33
    u, w = numbers(2, 262, k, dtype=dtype), numbers(2, 262, k, dtype=dtype, seed=1)
    check_core_moments(u[:1], w[:1])
    check_core_moments(u[:, :9], w[:, :9])


def _normal(dtype: torch.dtype, weighted: bool) -> None:
    # Two steps of samples, the second masked; two tiles by one.
    v = numbers(2, 20, 19, dtype=dtype)
    check_normal_moments(v, 35, numbers(20, dtype=dtype, seed=2) if weighted else None)


def _sizes(n: int, k: int) -> None:
    u, w = numbers(1, n, k), numbers(1, n, k, seed=1)
    check_cross_moments(u, w[..., :1])
    check_core_moments(u, w)
    if n < 256:
        check_normal_moments(u, k)


def _normal_blocks() -> None:
    # One counter that is not full, two blocks of samples.
    check_normal_moments(numbers(1, 262, 2), 3)


def _largest_tile() -> None:
    # More than 256 columns: tiles of 64.
    check_cross_moments(numbers(1, 20, 257), numbers(1, 20, 3, seed=1))
    check_normal_moments(numbers(1, 20, 3), 257)


def _shared_batch(u: int, v: int, weight: int | None) -> None:
    weights = None if weight is None else numbers(weight, 20, seed=2)
    check_cross_moments(numbers(u, 20, 5), numbers(v, 20, 4, seed=1), weights)
    if u == 1:
        check_normal_moments(numbers(v, 20, 4, seed=1), 5, weights)


def _empty(u: tuple[int, ...], v: tuple[int, ...]) -> None:
    check_cross_moments(torch.ones(u), torch.ones(v))
    check_core_moments(torch.ones(u), torch.ones(u))
    check_normal_moments(torch.ones(v), u[-1])


def _strided() -> None:
    base = numbers(7, 40, 30)
    u, v = base.permute(2, 1, 0)[3:9:3, ::2], base.permute(2, 1, 0)[4:10:3, 1::2]
    assert 1 not in u.stride()
    weight = numbers(2, 60, seed=1)[:, ::3]
    check_cross_moments(u, v, weight)
    check_cross_moments(u[:1].expand(2, -1, -1), v)
    check_core_moments(u, v)
    check_normal_moments(v, 6, weight)


def _blocks_in_order() -> None:
    u, ones = torch.zeros(1, 4 * 256, 1), torch.ones(1, 4 * 256, 1)
    for large, expected in (
        (2.0**30, 2.0),  # float32 would lose both of the ones
        (2.0**60, 1.0),  # float64 loses the first one, and only in this order
    ):
        u[0, ::256, 0] = torch.tensor([large, 1.0, -large, 1.0])
        assert kernels.cross_moments(u, ones)[2].item() == expected


def _launched() -> None:
    """Moments come from kernels, not from the reference that serves empty batches."""

    def refuse(*args) -> None:
        raise AssertionError("no kernel was launched")

    functions = dict.fromkeys(("cross_moments", "normal_moments"), refuse)
    with mock.patch.object(kernels, "reference", SimpleNamespace(**functions)):
        check_cross_moments(numbers(1, 5, 3), numbers(1, 5, 2))
        check_normal_moments(numbers(1, 5, 2), 3)


def _slots(check: Callable[..., None], left: int, right: int, **limits: int) -> None:
    """Several tiles of several entries, over three blocks of samples, the last one masked."""
    with (
        # Small blocks, to be quick.
        mock.patch.object(kernels.rules, "SAMPLE_BLOCK", 16),
        mock.patch.multiple(kernels, **limits),
    ):
        check(numbers(2, 40, left), numbers(2, 40, right, seed=1))


def _nan() -> None:
    u, v = numbers(1, 20, 5), numbers(1, 20, 4, seed=1)
    u[0, 3, 2] = torch.nan
    sum_u, sum_v, uv = kernels.cross_moments(u, v)
    assert sum_u.isnan().nonzero().tolist() == [[0, 2]]
    assert not sum_v.isnan().any()
    assert uv.isnan().any(2).nonzero().tolist() == [[0, 2]]
    assert uv[0, 2].isnan().all()
    weight = torch.ones(20)
    weight[7] = torch.nan
    assert all(moment.isnan().all() for moment in kernels.cross_moments(u, v, weight))
    assert all(moment.isnan().all() for moment in kernels.normal_moments(v, weight, 5, 0, 0, 0))


def _cases() -> Cases:
    cases: Cases = {}
    for dtype in DTYPES:
        name = str(dtype).removeprefix("torch.")
        cases[f"core-{name}"] = partial(_core, dtype)
        for weighted in (False, True):
            suffix = f"{name}-weighted" if weighted else name
            cases[f"cross-{suffix}"] = partial(_cross, dtype, weighted)
            cases[f"normal-{suffix}"] = partial(_normal, dtype, weighted)
    for n in (1, 15, 17, 256, 257):
        for k in (1, 17):
            cases[f"size-{n}x{k}"] = partial(_sizes, n, k)
    cases["normal-blocks"] = _normal_blocks
    cases["largest-tile"] = _largest_tile
    for batches in [(1, 3, None), (3, 1, None), (1, 3, 1), (1, 1, 3), (3, 1, 3)]:
        cases[f"shared-batch-{batches}"] = partial(_shared_batch, *batches)
    for u, v in [
        ((1, 0, 3), (1, 0, 2)),
        ((1, 5, 0), (1, 5, 2)),
        ((2, 5, 3), (2, 5, 0)),
        ((0, 5, 3), (1, 5, 2)),
    ]:
        cases[f"empty-{u}-{v}"] = partial(_empty, u, v)
    cases["strided"] = _strided
    cases["launched"] = _launched
    cases["blocks-in-order"] = _blocks_in_order
    # Four tiles by two: with coprime numbers of them, wrong divisors still reach all pairs.
    for name, check, columns in (
        ("cross", check_cross_moments, (97, 33)),
        ("core", check_core_moments, (33, 33)),
    ):
        cases[f"{name}-one-slot"] = partial(_slots, check, *columns, _ENOUGH_PROGRAMS=0)
        cases[f"{name}-two-slots"] = partial(_slots, check, *columns, _WORKSPACE_BYTES=110_000)
    cases["nan"] = _nan
    return cases


CASES = _cases()
