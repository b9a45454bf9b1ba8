"""Philox against its published vectors, and both laws on every CPU backend."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
import torch

import hessx
from hessx.ops import normal, uniform
from hessx.ops.noise.reference import philox4x32

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
LAWS = (uniform, normal)
FULL = 2**32 - 1
PI_DIGITS = (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344)


# Known answers of Random123 (Salmon et al. 2011), file kat_vectors, philox4x32 with 10 rounds.
@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((FULL,) * 4, (FULL, FULL), (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (PI_DIGITS, (0xA4093822, 0x299F31D0), (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1)),
    ],
)
def test_philox_known_answers(counter, key, words):
    drawn = philox4x32(tuple(torch.tensor(word) for word in counter), key)
    assert tuple(word.item() for word in drawn) == words


def test_uniform_is_the_known_philox_words(cpu_backend):
    """Seed, stream, feature and sample all zero is the first published vector."""
    expected = np.array([0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8])
    np.testing.assert_array_equal(
        uniform(1, 4, seed=0, dtype=torch.float64)[0].numpy(), expected * 2.0**-32
    )
    np.testing.assert_array_equal(uniform(1, 4, seed=0)[0].numpy(), (expected >> 8) * 2.0**-24)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("m", [1, 3, 4, 5, 63, 64, 65, 128, 130])
def test_values_match_the_reference(cpu_backend, m, dtype):
    far = 2**40 + 2**32 - 7
    place = {"seed": 2**62 + 12345, "first_sample": far, "stream": FULL, "dtype": dtype}
    drawn_uniform, drawn_normal = uniform(19, m, **place), normal(19, m, **place)
    with hessx.backend("reference"):
        torch.testing.assert_close(drawn_uniform, uniform(19, m, **place), rtol=0, atol=0)
        expected = normal(19, m, **place)
    # The log and sincos polynomials are good to 1 ulp each, the product to 1.5 more. Half types
    # round that float32 number: two neighbours at most. The error of cos near its zero is that of
    # the angle, hence the absolute term.
    rtol = {torch.float64: 1e-15, torch.float32: 4 * 2.0**-24}.get(dtype, torch.finfo(dtype).eps)
    atol = 4e-15 if dtype == torch.float64 else 4e-7
    torch.testing.assert_close(drawn_normal, expected, rtol=rtol, atol=atol)


def test_float32_normal_is_the_float64_draw(cpu_backend):
    """The same integers: float32 differs by rounding, and where u1 was rounded by little more."""
    exact = normal(400, 300, seed=3, dtype=torch.float64)
    error = (normal(400, 300, seed=3).double() - exact).abs()
    # Rounding u1 to 24 bits moves r = sqrt(-2 log u1) by up to 2^-25 / (u1 r).
    assert error.max() < 1e-4
    assert error.median() < 6e-8


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_distribution(cpu_backend, law, dtype):
    """Kolmogorov-Smirnov on 200,000 numbers; a wrong scale of 1 % is off by 12 standard errors."""
    drawn = law(1000, 200, seed=11, dtype=dtype).flatten().double().numpy()
    assert scipy.stats.kstest(drawn, "norm" if law is normal else "uniform").pvalue > 1e-3


@pytest.mark.parametrize("change", [{"seed": 8}, {"stream": 1}, {"first_sample": 1000}])
def test_seeds_streams_and_samples_are_independent(cpu_backend, change):
    place = {"seed": 7, "stream": 0, "first_sample": 0}
    a = normal(1000, 100, **place).flatten()
    b = normal(1000, 100, **(place | change)).flatten()
    # The correlation of 100,000 independent pairs has a standard deviation of 0.0032.
    assert abs(torch.corrcoef(torch.stack((a, b)))[0, 1]) < 0.013


def test_features_and_samples_are_uncorrelated(cpu_backend):
    drawn = normal(4000, 40, seed=5)
    correlation = torch.corrcoef(drawn.T) - torch.eye(40)
    # 780 pairs with a standard deviation of 0.016 each: 5 of them.
    assert correlation.abs().max() < 0.08


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("first", [0, 2**32 - 3, 2**63 - 100])
def test_blocks_join(cpu_backend, law, first):
    whole = law(9, 70, seed=1, first_sample=first)
    parts = [law(3, 70, seed=1, first_sample=first + start) for start in (0, 3, 6)]
    torch.testing.assert_close(torch.cat(parts), whole, rtol=0, atol=0)
    # Fewer features leave the ones that remain as they are.
    torch.testing.assert_close(law(9, 5, seed=1, first_sample=first), whole[:, :5], rtol=0, atol=0)


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_strided_output(cpu_backend, law, dtype):
    op = getattr(torch.ops.hessx, law.__name__)
    storage = torch.full((3 * 11, 2 * 70), -7.0, dtype=dtype)
    out = storage[::3, 1::2]
    op(out, 5, 0, 0)
    torch.testing.assert_close(out, law(11, 70, seed=5, dtype=dtype), rtol=0, atol=0)
    untouched = torch.ones_like(storage, dtype=torch.bool)
    untouched[::3, 1::2] = False
    assert (storage[untouched] == -7).all()
    transposed = torch.empty(70, 11, dtype=dtype).T
    op(transposed, 5, 0, 0)
    torch.testing.assert_close(transposed, out, rtol=0, atol=0)


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (0, 0), (1, 1)])
def test_empty_and_single(cpu_backend, law, shape):
    assert law(*shape, seed=0).shape == shape


@pytest.mark.parametrize("law", LAWS)
def test_threads_do_not_change_a_bit(native_level, law):
    torch.set_num_threads(1)
    alone = law(301, 333, seed=4)
    for n_threads in (2, 5):
        torch.set_num_threads(n_threads)
        assert torch.equal(law(301, 333, seed=4), alone)


@pytest.mark.parametrize("dtype", DTYPES)
def test_uniform_stays_below_one(cpu_backend, dtype):
    drawn = uniform(700, 1000, seed=2, dtype=dtype)
    assert drawn.min() >= 0
    assert drawn.max() < 1
    # 700,000 numbers reach the last half-precision number before 1.
    if dtype in (torch.bfloat16, torch.float16):
        assert drawn.max() == 1 - torch.finfo(dtype).eps / 2


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"n": -1}, ValueError, "n must be in"),
        ({"m": -1}, ValueError, "m must be in"),
        ({"seed": -1}, ValueError, "seed must be in"),
        ({"seed": 2**63}, ValueError, "seed must be in"),
        ({"seed": 1.0}, TypeError, "seed must be an integer, got float"),
        ({"seed": True}, TypeError, "seed must be an integer, got bool"),
        ({"stream": 2**32}, ValueError, "stream must be in"),
        ({"first_sample": 2**63 - 1}, ValueError, "first_sample must be in"),
        ({"dtype": torch.int32}, TypeError, "dtype must be one of"),
    ],
)
@pytest.mark.parametrize("law", LAWS)
def test_wrong_arguments(law, change, error, message):
    with pytest.raises(error, match=message):
        law(**({"n": 2, "m": 3, "seed": 0} | change))
