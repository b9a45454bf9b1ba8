"""Noise by Triton: integers equal to a NumPy Philox, normals to the last bits of log and cosine."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import hessx
from hessx.ops.noise import triton as kernels

# seed, first_sample, stream: small, and with bits in every half of every word.
KEYS = [
    (0, 0, 0),
    (1, 5, 1),
    (2**31 + 5, 2**32 - 3, 2**31 + 7),
    (2**63 - 123, 2**40 + 9, 2**32 - 1),
    (7, 2**63 - 40, 3),
]
SHAPES = [(1, 1), (1, 4), (5, 7), (3, 257), (33, 130)]


def _words(counter: list[np.ndarray], key: tuple[int, int]) -> list[np.ndarray]:
    """Philox 4x32-10 on arrays of 32-bit words held in uint64."""
    low = np.uint64(0xFFFFFFFF)
    half = np.uint64(32)
    k0, k1 = key
    c0, c1, c2, c3 = counter
    for _ in range(10):
        p0, p1 = np.uint64(0xD2511F53) * c0, np.uint64(0xCD9E8D57) * c2
        c0, c1, c2, c3 = (
            (p1 >> half) ^ c1 ^ np.uint64(k0),
            p1 & low,
            (p0 >> half) ^ c3 ^ np.uint64(k1),
            p0 & low,
        )
        k0, k1 = (k0 + 0x9E3779B9) % 2**32, (k1 + 0xBB67AE85) % 2**32
    return [c0, c1, c2, c3]


def _integers(n: int, m: int, seed: int, first_sample: int, stream: int) -> np.ndarray:
    """The word of every sample and feature, m rounded up to a multiple of 4."""
    samples = (np.arange(n, dtype=np.uint64) + np.uint64(first_sample))[:, None]
    counters = np.arange((m + 3) // 4, dtype=np.uint64)[None, :]
    words = np.broadcast_arrays(
        counters,
        np.uint64(stream),
        samples & np.uint64(0xFFFFFFFF),
        samples >> np.uint64(32),
    )
    return np.stack(_words(words, (seed % 2**32, seed >> 32)), axis=-1).reshape(n, -1)


def _normals(words: np.ndarray, dtype: torch.dtype) -> np.ndarray:
    x0, x1 = words[:, 0::2], words[:, 1::2]
    if dtype == torch.float64:
        u = x0 * 2.0**-32 + 2.0**-33
    else:
        u = x0.astype(np.float32) * np.float32(2.0**-32) + np.float32(2.0**-33)
    radius = np.sqrt(-2 * np.log(u.astype(np.float64)))
    angle = 2 * np.pi * (x1 * 2.0**-32)
    pairs = np.stack((radius * np.cos(angle), radius * np.sin(angle)), axis=-1)
    return pairs.reshape(len(words), -1)


def test_numpy_philox_gives_the_published_answers():
    # Random123, kat_vectors, philox4x32 10 rounds.
    ones = 2**32 - 1
    cases = [
        ((0,) * 4, (0, 0), "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ((ones,) * 4, (ones, ones), "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            "d16cfe09 94fdcceb 5001e420 24126ea1",
        ),
    ]
    for counter, key, expected in cases:
        words = _words([np.array([c], np.uint64) for c in counter], key)
        assert " ".join(f"{int(word[0]):08x}" for word in words) == expected


def test_zero_key_gives_the_published_words():
    out = torch.empty(1, 4, dtype=torch.float64)
    kernels.uniform(out, 0, 0, 0)
    expected = [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    assert (out[0] * 2**32).tolist() == expected


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("key", KEYS)
def test_uniform_is_exact(shape, key):
    words = _integers(*shape, *key)[:, : shape[1]]
    out = torch.empty(shape)
    kernels.uniform(out, *key)
    assert np.array_equal(out.numpy(), (words >> np.uint64(8)).astype(np.float32) * 2.0**-24)
    out = out.double()
    kernels.uniform(out, *key)
    assert np.array_equal(out.numpy(), words * 2.0**-32)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_uniform_is_rounded_and_below_one(dtype):
    wide, out = torch.empty(32, 512), torch.empty(32, 512, dtype=dtype)
    kernels.uniform(wide, 3, 0, 0)
    kernels.uniform(out, 3, 0, 0)
    below_one = 1 - torch.finfo(dtype).eps / 2
    assert (wide.to(dtype) == 1).any(), "no draw would have been rounded to 1"
    assert torch.equal(out, wide.to(dtype).clamp(max=below_one))


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    # Two roundings of log and square root, two of the cosine and one of the product, on numbers
    # up to 8: a few units of 2^-22 and 2^-50.
    [(torch.float32, 2 * 2.0**-22), (torch.float64, 4 * 2.0**-50)],
)
@pytest.mark.parametrize("key", KEYS)
def test_normal(key, dtype, tolerance):
    out = torch.empty(9, 131, dtype=dtype)
    kernels.normal(out, *key)
    expected = _normals(_integers(9, 131, *key), dtype)[:, :131]
    assert np.abs(out.double().numpy() - expected).max() <= tolerance


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_normal_is_rounded(dtype):
    wide, out = torch.empty(5, 260), torch.empty(5, 260, dtype=dtype)
    kernels.normal(wide, 3, 0, 0)
    kernels.normal(out, 3, 0, 0)
    assert torch.equal(out, wide.to(dtype))


@pytest.mark.parametrize("fill", [kernels.uniform, kernels.normal])
def test_strided_outputs(fill):
    plain = torch.empty(6, 9)
    fill(plain, 1, 2, 3)
    base = torch.zeros(14, 40)
    for view in (base.T[3:9, 1:10], base[1:13:2, 2:29:3]):
        base.zero_()
        fill(view, 1, 2, 3)
        assert torch.equal(view, plain)
        assert base.count_nonzero() == plain.count_nonzero()


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0)])
def test_empty(shape):
    kernels.normal(torch.empty(shape), 1, 2, 3)


def test_through_the_op():
    assert hessx.backends.choose("cpu") == "triton"
    assert torch.equal(
        hessx.ops.uniform(7, 10, seed=5, first_sample=2),
        torch.from_numpy((_integers(7, 10, 5, 2, 0)[:, :10] >> np.uint64(8)) * 2.0**-24).float(),
    )
    joined = torch.cat([hessx.ops.normal(3, 5, seed=1, first_sample=i) for i in (0, 3)])
    assert torch.equal(joined, hessx.ops.normal(6, 5, seed=1))
