"""Moments by Triton, against the formulas in float64."""

from __future__ import annotations

import pytest
import torch

import hessx
from hessx.ops.moments import triton as kernels

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]


def _numbers(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def _assert_product(actual: torch.Tensor, left: torch.Tensor, right: torch.Tensor, dtype) -> None:
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


def _assert_cross_moments(u, v, weight=None):
    sum_u, sum_v, uv = kernels.cross_moments(u, v, weight)
    ones = torch.ones(u.shape[-2])
    w = (ones if weight is None else weight).double()[..., None]
    _assert_product(sum_u[..., None], u, w, u.dtype)
    _assert_product(sum_v[..., None], v, w, u.dtype)
    _assert_product(uv, w * u.double(), v, u.dtype)


def _assert_core_moments(u, w):
    uw, u2w2, cross, w2 = kernels.core_moments(u, w)
    x, y = u.double(), w.double()
    _assert_product(uw, x, y, u.dtype)
    _assert_product(u2w2, x.square(), y.square(), u.dtype)
    _assert_product(cross, x * y, x * y, u.dtype)
    _assert_product(w2[..., None], y.square(), torch.ones(u.shape[1], 1), u.dtype)
    assert torch.equal(cross, cross.mT)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("weighted", [False, True])
def test_cross_moments(dtype, weighted):
    # Two blocks of samples, the second masked; two tiles by one, both masked.
    u, v = _numbers(2, 262, 33, dtype=dtype), _numbers(2, 262, 19, dtype=dtype, seed=1)
    weight = _numbers(262, dtype=dtype, seed=2) if weighted else None
    _assert_cross_moments(u, v, weight)


@pytest.mark.parametrize("dtype", DTYPES)
def test_core_moments(dtype):
    # Two tiles by two, the float64 ones of 16 columns, the others of 32.
    k = 17 if dtype == torch.float64 else 33
    u, w = _numbers(2, 262, k, dtype=dtype), _numbers(2, 262, k, dtype=dtype, seed=1)
    _assert_core_moments(u[:1], w[:1])
    _assert_core_moments(u[:, :9], w[:, :9])


@pytest.mark.parametrize("n", [1, 15, 17, 256, 257])
@pytest.mark.parametrize("k", [1, 17])
def test_sizes(n, k):
    u, w = _numbers(1, n, k), _numbers(1, n, k, seed=1)
    _assert_cross_moments(u, w[..., :1])
    _assert_core_moments(u, w)


def test_largest_tile():
    # More than 256 columns: tiles of 64.
    _assert_cross_moments(_numbers(1, 20, 257), _numbers(1, 20, 3, seed=1))


@pytest.mark.parametrize(
    ("batch_u", "batch_v", "batch_weight"),
    [(1, 3, None), (3, 1, None), (1, 3, 1), (1, 1, 3), (3, 1, 3)],
)
def test_shared_batches(batch_u, batch_v, batch_weight):
    u, v = _numbers(batch_u, 20, 5), _numbers(batch_v, 20, 4, seed=1)
    weight = None if batch_weight is None else _numbers(batch_weight, 20, seed=2)
    _assert_cross_moments(u, v, weight)


@pytest.mark.parametrize(
    ("u", "v"),
    [
        ((1, 0, 3), (1, 0, 2)),
        ((1, 5, 0), (1, 5, 2)),
        ((2, 5, 3), (2, 5, 0)),
        ((0, 5, 3), (1, 5, 2)),
    ],
)
def test_empty(u, v):
    _assert_cross_moments(torch.ones(u), torch.ones(v))
    _assert_core_moments(torch.ones(u), torch.ones(u))


def test_strided_inputs():
    base = _numbers(7, 40, 30)
    u, v = base.permute(2, 1, 0)[3:9:3, ::2], base.permute(2, 1, 0)[4:10:3, 1::2]
    assert 1 not in u.stride()
    weight = _numbers(2, 60, seed=1)[:, ::3]
    _assert_cross_moments(u, v, weight)
    _assert_cross_moments(u[:1].expand(2, -1, -1), v)
    _assert_core_moments(u, v)


def test_blocks_are_added_in_order_in_float64():
    u, ones = torch.zeros(1, 4 * 256, 1), torch.ones(1, 4 * 256, 1)
    for large, expected in (
        (2.0**30, 2.0),  # float32 would lose both of the ones
        (2.0**60, 1.0),  # float64 loses the first one, and only in this order
    ):
        u[0, ::256, 0] = torch.tensor([large, 1.0, -large, 1.0])
        assert kernels.cross_moments(u, ones)[2].item() == expected


@pytest.mark.parametrize("workspace_bytes", [1, 8100])
def test_splitting_over_samples_changes_no_bit(monkeypatch, workspace_bytes):
    u, v = _numbers(2, 520, 9), _numbers(2, 520, 9, seed=1)
    weight = _numbers(2, 520, seed=2)
    # One block a launch, then two.
    monkeypatch.setattr(kernels, "_WORKSPACE_BYTES", workspace_bytes)
    split = (*kernels.cross_moments(u, v, weight), *kernels.core_moments(u, v))
    monkeypatch.setattr(kernels, "_ENOUGH_PROGRAMS", 0)
    whole = (*kernels.cross_moments(u, v, weight), *kernels.core_moments(u, v))
    assert all(torch.equal(a, b) for a, b in zip(split, whole, strict=True))


def test_nan_reaches_what_it_touches():
    u, v = _numbers(1, 20, 5), _numbers(1, 20, 4, seed=1)
    u[0, 3, 2] = torch.nan
    sum_u, sum_v, uv = kernels.cross_moments(u, v)
    assert sum_u.isnan().nonzero().tolist() == [[0, 2]]
    assert not sum_v.isnan().any()
    assert uv.isnan().any(2).nonzero().tolist() == [[0, 2]]
    assert uv[0, 2].isnan().all()
    weight = torch.ones(20)
    weight[7] = torch.nan
    assert all(moment.isnan().all() for moment in kernels.cross_moments(u, v, weight))


def test_through_the_op():
    assert hessx.backends.choose("cpu") == "triton"
    u, v = _numbers(30, 5), _numbers(30, 4, seed=1)
    expected = kernels.cross_moments(u[None], v[None])
    for actual, value in zip(hessx.ops.cross_moments(u, v), expected, strict=True):
        assert torch.equal(actual, value[0])
    w = _numbers(30, 5, seed=2).requires_grad_()
    hessx.ops.core_moments(u, w)[3].sum().backward()
    torch.testing.assert_close(w.grad, 2 * w.detach())
