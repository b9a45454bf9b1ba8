"""Moments on every CPU backend: values, gradients, precision, NaN, threads, arguments."""

from __future__ import annotations

import itertools

import pytest
import torch

import hessx
from hessx.ops import core_moments, cross_moments, normal, normal_moments
from hessx.ops.moments import native
from hessx.ops.moments.rules import SAMPLE_BLOCK

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
# Around the vector widths (4, 8, 16 numbers), the tile (6, 14 rows) and a block of samples.
SIZES = (1, 2, 3, 5, 7, 8, 13, 15, 16, 17, 31, 33, 49, 65)
SAMPLES = (1, 2, SAMPLE_BLOCK - 1, SAMPLE_BLOCK, SAMPLE_BLOCK + 1, 2 * SAMPLE_BLOCK + 3)


def assert_moments_close(results, expected, bounds, dtype):
    """Compare sums with their exact values.

    Each block of 256 float32 samples adds at most 256 rounding errors of 2^-24 relative to the sum
    of magnitudes (`bounds`), and three more from the products; the errors of independent samples
    cancel, so that a tenth of this bound is never reached.
    """
    rounding = 2.0**-52 if dtype == torch.float64 else 2.0**-24
    for result, exact, bound in zip(results, expected, bounds, strict=True):
        assert result.dtype == torch.float64
        assert result.shape == exact.shape
        assert ((result - exact).abs() <= 26 * rounding * bound).all()


def check_cross(u, v, weight=None):
    results = cross_moments(u, v, weight)
    with hessx.backend("reference"):
        expected = cross_moments(u, v, weight)
        bounds = cross_moments(u.abs(), v.abs(), None if weight is None else weight.abs())
    assert_moments_close(results, expected, bounds, u.dtype)


def check_core(u, w):
    results = core_moments(u, w)
    with hessx.backend("reference"):
        expected, bounds = core_moments(u, w), core_moments(u.abs(), w.abs())
    assert_moments_close(results, expected, bounds, u.dtype)
    assert torch.equal(results[2], results[2].mT)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_sizes(cpu_backend, dtype):
    for n, (k, l) in itertools.product(SAMPLES, zip(SIZES, SIZES[::-1], strict=True)):  # noqa: E741
        u, v = torch.randn(n, k, dtype=dtype), torch.randn(n, l, dtype=dtype)
        check_cross(u, v)
        check_core(u, torch.randn(n, k, dtype=dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(3, 300, 20), (1, 260, 70), (1, 70, 1100)])
def test_batches_and_dtypes(cpu_backend, shape, dtype):
    """1100 columns are more than are packed at once."""
    u, v = torch.randn(shape).to(dtype), torch.randn(shape).to(dtype)
    check_cross(u, v, torch.rand(shape[1]).to(dtype))
    check_core(u, v)


@pytest.mark.parametrize("by_product", ["_fused_product", "_blocked_product"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_both_products_at_every_size(native_level, monkeypatch, by_product, dtype):
    """The crossover between kernel and matrix product changes the time, never the contract."""
    monkeypatch.setattr(native, "fused_product_wins", lambda u, v: by_product == "_fused_product")
    for n, k, l in [(5, 3, 4), (600, 40, 90), (256, 14, 32), (257, 300, 1)]:  # noqa: E741
        check_cross(torch.randn(2, n, k, dtype=dtype), torch.randn(1, n, l, dtype=dtype))


@pytest.mark.parametrize("u_batch", [1, 3])
@pytest.mark.parametrize("v_batch", [1, 3])
@pytest.mark.parametrize("weight_shape", [None, (50,), (1, 50), (3, 50)])
def test_shared_batches(cpu_backend, u_batch, v_batch, weight_shape):
    u, v = torch.randn(u_batch, 50, 6), torch.randn(v_batch, 50, 4)
    weight = None if weight_shape is None else torch.randn(weight_shape)
    check_cross(u, v, weight)
    weights = 3 if weight_shape == (3, 50) else 1
    sum_u, sum_v, uv = cross_moments(u, v, weight)
    assert sum_u.shape == (max(u_batch, weights), 6)
    assert sum_v.shape == (max(v_batch, weights), 4)
    assert uv.shape == (max(u_batch, v_batch, weights), 6, 4)


def test_two_dimensional_inputs_have_no_batch(cpu_backend):
    u, v = torch.randn(30, 6), torch.randn(30, 4)
    for single, batched in zip(cross_moments(u, v), cross_moments(u[None], v[None]), strict=True):
        assert torch.equal(single, batched[0])
    for single, batched in zip(core_moments(u, -u), core_moments(u[None], -u[None]), strict=True):
        assert torch.equal(single, batched[0])


@pytest.mark.parametrize("shape", [(0, 5, 3), (2, 0, 3), (2, 5, 0), (0, 0, 0)])
def test_empty(cpu_backend, shape):
    u = torch.randn(shape)
    for result in (*cross_moments(u, u), *core_moments(u, u)):
        assert (result == 0).all()
    assert cross_moments(u, u)[2].shape == (shape[0], shape[2], shape[2])


def test_strided_inputs(cpu_backend):
    base = torch.randn(40, 3, 100)
    strided = base.permute(1, 2, 0)[:, ::2, ::3]
    check_cross(strided, strided.flip(0), torch.rand(3, 100)[:, ::2])
    check_core(strided, torch.randn(3, 14, 50).mT)
    shared = torch.randn(50, 14).expand(3, -1, -1)
    check_core(shared, strided)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("k", [5, 40])
def test_nan_reaches_only_what_it_touches(cpu_backend, bad, k):
    u, v = torch.rand(300, k) + 0.5, torch.rand(300, k) + 0.5
    u[270, 2] = bad
    sum_u, sum_v, uv = cross_moments(u, v)
    finite = torch.ones(k, dtype=torch.bool)
    finite[2] = False
    assert torch.equal(sum_u.isfinite(), finite)
    assert sum_v.isfinite().all()
    assert torch.equal(uv.isfinite(), finite[:, None].expand(k, k))
    uw, u2w2, cross, w2 = core_moments(u, v)
    for product in (uw, u2w2):
        assert torch.equal(product.isfinite(), finite[:, None].expand(k, k))
    assert torch.equal(cross.isfinite(), finite[:, None] & finite)
    assert w2.isfinite().all()


def test_float32_sums_are_added_up_in_float64(cpu_backend):
    """2^24 + 1 is no float32 number: a float32 total would lose every later block."""
    u = torch.zeros(4 * SAMPLE_BLOCK, 1)
    u[0] = 2.0**12
    u[SAMPLE_BLOCK::SAMPLE_BLOCK] = 1.0
    assert cross_moments(u, u)[2].item() == 2.0**24 + 3
    assert core_moments(u, torch.ones_like(u))[1].item() == 2.0**24 + 3


@pytest.mark.parametrize("batch", [1, 3, 16])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_threads_do_not_change_a_bit(native_level, monkeypatch, batch, dtype):
    # The kernels alone: what torch's matrix product does with threads is torch's promise.
    monkeypatch.setattr(native, "fused_product_wins", lambda u, v: True)
    u, w = torch.randn(batch, 300, 65, dtype=dtype), torch.randn(batch, 300, 65, dtype=dtype)
    weight = torch.rand(300, dtype=dtype)
    torch.set_num_threads(1)
    alone = (*cross_moments(u, w, weight), *core_moments(u, w))
    for n_threads in (2, 3, 5):
        torch.set_num_threads(n_threads)
        again = (*cross_moments(u, w, weight), *core_moments(u, w))
        assert all(torch.equal(a, b) for a, b in zip(alone, again, strict=True))


def test_batch_element_equals_the_single_call(native_level, monkeypatch):
    monkeypatch.setattr(native, "fused_product_wins", lambda u, v: True)
    u, w = torch.randn(9, 300, 33), torch.randn(9, 300, 33)
    whole = (*cross_moments(u, w), *core_moments(u, w))
    single = (*cross_moments(u[4], w[4]), *core_moments(u[4], w[4]))
    assert all(torch.equal(a[4], b) for a, b in zip(whole, single, strict=True))


# The gradients are written in torch and call no kernel: one level stands for all.
@pytest.mark.parametrize("backend", ["reference", "native"])
@pytest.mark.parametrize("weight_shape", [None, (3,), (2, 3)])
def test_cross_moments_gradient(backend, weight_shape):
    inputs = [torch.randn(2, 3, 2), torch.randn(1, 3, 1)]
    if weight_shape is not None:
        inputs.append(torch.randn(weight_shape))
    inputs = [x.double().requires_grad_() for x in inputs]
    with hessx.backend(backend):
        assert torch.autograd.gradcheck(cross_moments, inputs)
        assert torch.autograd.gradgradcheck(cross_moments, inputs)


@pytest.mark.parametrize("backend", ["reference", "native"])
def test_core_moments_gradient(backend):
    inputs = [torch.randn(2, 3, 2, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    with hessx.backend(backend):
        assert torch.autograd.gradcheck(core_moments, inputs)
        assert torch.autograd.gradgradcheck(core_moments, inputs)


def test_gradient_has_the_dtype_of_its_input(cpu_backend):
    u = torch.randn(9, 3, dtype=torch.bfloat16, requires_grad=True)
    core_moments(u, u)[0].sum().backward()
    expected = 2 * u.detach().float().sum(1, keepdim=True).expand(9, 3)
    torch.testing.assert_close(u.grad, expected.to(torch.bfloat16), rtol=0.02, atol=0.02)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((torch.ones(3, 2), torch.ones(4, 2)), ValueError, "same number of samples"),
        ((torch.ones(3), torch.ones(3, 2)), ValueError, "u must have shape"),
        ((torch.ones(3, 2), torch.ones(3)), ValueError, "v must have shape"),
        ((torch.ones(2, 3, 2), torch.ones(4, 3, 2)), ValueError, "batches .* equal or 1"),
        ((torch.ones(3, 2), torch.ones(3, 2), torch.ones(4)), ValueError, "one number a sample"),
        ((torch.ones(3, 2), torch.ones(3, 2), torch.ones(())), ValueError, "weight must have"),
        ((torch.ones(3, 2), torch.ones(3, 2).double()), TypeError, "v must have the dtype of u"),
        ((torch.ones(3, 2).int(), torch.ones(3, 2)), TypeError, "u must have a dtype"),
        (([[1.0]], torch.ones(3, 2)), TypeError, "u must be a tensor, got list"),
        ((torch.ones(3, 2), torch.ones(3, 2, device="meta")), ValueError, "device of u"),
    ],
)
def test_wrong_cross_moments_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        cross_moments(*arguments)


def test_wrong_core_moments_arguments():
    with pytest.raises(ValueError, match=r"w must have the shape of u, \(3, 2\), got \(3, 1\)"):
        core_moments(torch.ones(3, 2), torch.ones(3, 1))


def test_raw_op_refuses_what_would_read_out_of_bounds(cpu_backend):
    with pytest.raises(ValueError, match="same number of samples"):
        torch.ops.hessx.cross_moments(torch.ones(1, 3, 2), torch.ones(1, 4, 2))
    with pytest.raises(ValueError, match="one shape"):
        torch.ops.hessx.core_moments(torch.ones(1, 3, 2), torch.ones(1, 4, 2))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("weight_shape", [None, (300,), (3, 300)])
# One feature, and a counter that is not full.
@pytest.mark.parametrize("m", [1, 30])
def test_normal_moments_are_those_of_the_draws(cpu_backend, dtype, weight_shape, m):
    v = torch.randn(3, 300, 2).to(dtype)
    weight = None if weight_shape is None else torch.rand(weight_shape).to(dtype)
    numbers = dict(seed=2**40 + 1, first_sample=2**33 - 7, stream=4)
    z = normal(300, m, dtype=dtype, **numbers)
    expected = cross_moments(z[None], v, weight)
    for result, value in zip(normal_moments(v, m, weight=weight, **numbers), expected, strict=True):
        assert torch.equal(result, value)


def test_normal_moments_of_more_columns_than_are_drawn_at_once(native_level):
    v = torch.randn(260, 2)
    expected = cross_moments(normal(260, 4099, seed=1), v)
    for result, value in zip(normal_moments(v, 4099, seed=1), expected, strict=True):
        assert torch.equal(result, value)


def test_normal_moments_without_a_batch(cpu_backend):
    v = torch.randn(20, 2)
    sum_z, sum_v, zv = normal_moments(v, 3, seed=1)
    assert (sum_z.shape, sum_v.shape, zv.shape) == ((3,), (2,), (3, 2))
    assert torch.equal(zv, normal_moments(v[None], 3, seed=1)[2][0])


@pytest.mark.parametrize(
    ("shape", "m"), [((0, 5, 3), 2), ((2, 0, 3), 2), ((2, 5, 0), 2), ((2, 5, 3), 0)]
)
def test_normal_moments_of_nothing(cpu_backend, shape, m):
    sum_z, sum_v, zv = normal_moments(torch.randn(shape), m, seed=1)
    assert sum_z.shape == (1, m)
    assert sum_v.shape == (shape[0], shape[2])
    assert zv.shape == (shape[0], m, shape[2])
    assert (zv == 0).all()


@pytest.mark.parametrize("backend", ["reference", "native"])
@pytest.mark.parametrize("weight_shape", [None, (4,), (2, 4)])
def test_normal_moments_gradient(backend, weight_shape):
    v = torch.randn(2, 4, 2, dtype=torch.float64, requires_grad=True)
    inputs = [v]
    if weight_shape is not None:
        inputs.append(torch.randn(weight_shape, dtype=torch.float64, requires_grad=True))

    def moments(v, weight=None):
        return normal_moments(v, 3, seed=5, weight=weight)

    with hessx.backend(backend):
        assert torch.autograd.gradcheck(moments, inputs)
        assert torch.autograd.gradgradcheck(moments, inputs)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (dict(m=-1), ValueError, r"m must be in \[0, "),
        (dict(m=2.0), TypeError, "m must be an integer, got float"),
        (dict(seed=-1), ValueError, "seed must be in"),
        (dict(first_sample=2**63 - 2), ValueError, "first_sample must be in"),
        (dict(v=torch.ones(3)), ValueError, "v must have shape"),
        (dict(weight=torch.ones(3).double()), TypeError, "weight must have the dtype of v"),
        (dict(weight=torch.ones(2)), ValueError, "one number a sample, 3"),
    ],
)
def test_wrong_normal_moments_arguments(change, error, message):
    with pytest.raises(error, match=message):
        normal_moments(**dict(v=torch.ones(3, 2), m=2, seed=0) | change)


def test_results_stay_on_the_tensors_device():
    """A default device for new tensors must not reach the outputs of kernels."""
    u = torch.randn(2, 30, 5)
    expected = core_moments(u, u)
    with torch.device("meta"):
        found = core_moments(u, u)
        sums = (*cross_moments(u, u), *normal_moments(u, 3, seed=0))
    for a, b in zip(expected, found, strict=True):
        assert torch.equal(a, b)
    assert all(x.device.type == "cpu" for x in sums)
