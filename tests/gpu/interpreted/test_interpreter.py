"""The checks of tests/gpu/interpreter.py, shown on kernels with planted mistakes."""

from __future__ import annotations

import pytest
import torch
import triton
import triton.language as tl

from tests.gpu.interpreter import DataRaceError, OutOfBoundsError


@triton.jit
def _copy_kernel(x, out, n, stride_x, shift_x, shift_out, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    value = tl.load(x + (i + shift_x) * stride_x, mask=i < n)
    tl.store(out + i + shift_out, value, mask=i < n)


@triton.jit
def _store_lanes_kernel(out, n_programs, n_lanes, BLOCK: tl.constexpr):
    lanes = tl.arange(0, BLOCK)
    tl.store(out + tl.program_id(0) % n_programs * BLOCK + lanes % n_lanes, lanes.to(tl.float32))


@triton.jit
def _atomic_kernel(out, PLAIN: tl.constexpr):
    if PLAIN and tl.program_id(0) == 1:
        tl.store(out, 1.0)
    else:
        tl.atomic_add(out, 1.0)


def _copy(x, out, *, n, stride_x=1, shift_x=0, shift_out=0):
    _copy_kernel[(triton.cdiv(n, 4),)](x, out, n, stride_x, shift_x, shift_out, BLOCK=4)
    return out


def test_correct_kernels_raise_nothing():
    x = torch.arange(20.0)
    assert torch.equal(_copy(x[:10], torch.empty(10), n=10), x[:10])
    assert torch.equal(_copy(x[::2], torch.empty(10), n=10, stride_x=2), x[::2])
    total = torch.zeros(1)
    _atomic_kernel[(5,)](total, PLAIN=False)
    assert total.item() == 5


def test_programs_may_read_what_others_read():
    x = torch.arange(4.0)
    out = torch.empty(8)
    _copy_kernel[(2,)](x, out, 8, 0, 0, 0, BLOCK=4)
    assert (out == 0).all()


def test_load_outside_the_storage():
    x = torch.zeros(10)
    with pytest.raises(OutOfBoundsError, match="load in program 2: 1 of 2") as caught:
        _copy(x, torch.zeros(10), n=10, shift_x=1)
    assert (caught.value.addresses - x.data_ptr()).tolist() == [40]


def test_store_outside_the_storage():
    with pytest.raises(OutOfBoundsError, match="store in program 2: 2 of 2"):
        _copy(torch.zeros(10), torch.zeros(10), n=10, shift_out=2)


def test_load_beside_a_view():
    base = torch.zeros(4, 5)
    with pytest.raises(OutOfBoundsError, match="load in program 0"):
        _copy(base[:, 1], torch.zeros(4), n=4, stride_x=4)


def test_load_beyond_a_view():
    base = torch.zeros(40)
    with pytest.raises(OutOfBoundsError, match="load in program 2"):
        _copy(base[:9], torch.zeros(10), n=10)


def test_two_programs_store_one_address():
    out = torch.zeros(8)
    _store_lanes_kernel[(2,)](out, 2, 4, BLOCK=4)
    with pytest.raises(DataRaceError, match="store in program 2 races with store in program 0"):
        _store_lanes_kernel[(3,)](out, 2, 4, BLOCK=4)


def test_two_lanes_store_one_address():
    with pytest.raises(DataRaceError, match="two lanes"):
        _store_lanes_kernel[(1,)](torch.zeros(4), 1, 3, BLOCK=4)


def test_one_program_reads_what_another_stores():
    x = torch.zeros(10)
    with pytest.raises(DataRaceError, match="load in program 1 races with store in program 0"):
        _copy(x[2:], x[4:], n=6)
    with pytest.raises(DataRaceError, match="store in program 1 races with load in program 0"):
        _copy(x[2:], x, n=8)


def test_atomic_meets_a_store():
    with pytest.raises(DataRaceError, match="store in program 1 races with atomic"):
        _atomic_kernel[(2,)](torch.zeros(1), PLAIN=True)


@triton.jit
def _convert_kernel(x, out, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    tl.store(out + i, tl.load(x + i).to(out.dtype.element_ty))


@triton.jit
def _arithmetic_kernel(x, y, out, less, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    a = tl.load(x + i)
    b = tl.load(y + i)
    tl.store(out + i, a * b + a)
    tl.store(less + i, (a < b).to(tl.float32))


@triton.jit
def _dot_kernel(x, y, out, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)[:, None] * BLOCK + tl.arange(0, BLOCK)[None, :]
    tl.store(out + i, tl.dot(tl.load(x + i), tl.load(y + i)))


@pytest.fixture
def numbers():
    x = torch.randn(1024, generator=torch.Generator().manual_seed(0))
    x *= 2.0 ** torch.linspace(-140, 120, 1024)
    x[:6] = torch.tensor([float("inf"), -float("inf"), float("nan"), 0.0, -0.0, 3.3895314e38])
    # Halfway between two neighbours: once to the even one below, once above.
    x[6:8] = torch.tensor([1 + 2.0**-8, 1 + 3 * 2.0**-8])
    return x


@pytest.mark.parametrize("source", [torch.float32, torch.float64])
def test_conversion_to_bfloat16_is_torchs(numbers, source):
    out = torch.empty(1024, dtype=torch.bfloat16)
    _convert_kernel[(1,)](numbers.to(source), out, BLOCK=1024)
    torch.testing.assert_close(out, numbers.bfloat16(), rtol=0, atol=0, equal_nan=True)


@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
@pytest.mark.parametrize("target", [torch.float32, torch.float64, torch.float16])
def test_conversion_from_bfloat16_is_torchs(numbers, target):
    out = torch.empty(1024, dtype=target)
    _convert_kernel[(1,)](numbers.bfloat16(), out, BLOCK=1024)
    expected = numbers.bfloat16().to(target)
    torch.testing.assert_close(out, expected, rtol=0, atol=0, equal_nan=True)


def test_conversion_of_integers(numbers):
    integers = torch.arange(-512, 512, dtype=torch.int32) * 37
    out = torch.empty(1024, dtype=torch.bfloat16)
    _convert_kernel[(1,)](integers, out, BLOCK=1024)
    assert torch.equal(out, integers.bfloat16())
    back = torch.empty(1024, dtype=torch.int32)
    _convert_kernel[(1,)](out, back, BLOCK=1024)
    assert torch.equal(back, out.int())


def test_bfloat16_arithmetic_is_torchs():
    x, y = torch.randn(2, 512, generator=torch.Generator().manual_seed(0)).bfloat16()
    out, less = torch.empty(512, dtype=torch.bfloat16), torch.empty(512)
    _arithmetic_kernel[(1,)](x, y, out, less, BLOCK=512)
    assert torch.equal(out, x * y + x)
    assert torch.equal(less, (x < y).float())


def test_bfloat16_dot_accumulates_in_float32():
    x, y = torch.randn(2, 32, 32, generator=torch.Generator().manual_seed(0)).bfloat16()
    out = torch.empty(32, 32)
    _dot_kernel[(1,)](x, y, out, BLOCK=32)
    # 32 exact products, 31 additions: at most 31 half-units of the sum of magnitudes.
    bound = 31 * 2.0**-24 * (x.double().abs() @ y.double().abs())
    assert ((out.double() - x.double() @ y.double()).abs() <= bound).all()


@triton.jit
def _add_argument_kernel(out, value):
    tl.store(out, value + value)


def test_argument_beyond_31_bits_is_an_int64():
    out = torch.empty(1, dtype=torch.int64)
    _add_argument_kernel[(1,)](out, 2**32 - 1)
    assert out.item() == 2 * (2**32 - 1)
