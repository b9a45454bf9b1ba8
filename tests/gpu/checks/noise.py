"""Noise by Triton: integers equal to a NumPy Philox, normals to the last bits of log and cosine."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch

from hessx.ops.noise import triton as kernels
from tests.gpu.checks import Cases

# seed, first_sample, stream: small, and with bits in every half of every word.
KEYS = [
    (0, 0, 0),
    (1, 5, 1),
    (2**31 + 5, 2**32 - 3, 2**31 + 7),
    (2**63 - 123, 2**40 + 9, 2**32 - 1),
    (7, 2**63 - 40, 3),
]
SHAPES = [(1, 1), (1, 4), (5, 7), (3, 257), (33, 130)]


def philox(counter: list[np.ndarray], key: tuple[int, int]) -> list[np.ndarray]:
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


def words(n: int, m: int, seed: int, first_sample: int, stream: int) -> np.ndarray:
    """The word of every sample and feature, m rounded up to a multiple of 4."""
    samples = (np.arange(n, dtype=np.uint64) + np.uint64(first_sample))[:, None]
    counters = np.arange((m + 3) // 4, dtype=np.uint64)[None, :]
    counter = np.broadcast_arrays(
        counters,
        np.uint64(stream),
        samples & np.uint64(0xFFFFFFFF),
        samples >> np.uint64(32),
    )
    return np.stack(philox(counter, (seed % 2**32, seed >> 32)), axis=-1).reshape(n, -1)


def normals(words: np.ndarray, dtype: torch.dtype) -> np.ndarray:
    """Box-Muller in float64, of radii rounded as `dtype` rounds them."""
    x0, x1 = words[:, 0::2], words[:, 1::2]
    if dtype == torch.float64:
        u = x0 * 2.0**-32 + 2.0**-33
    else:
        u = x0.astype(np.float32) * np.float32(2.0**-32) + np.float32(2.0**-33)
    radius = np.sqrt(-2 * np.log(u.astype(np.float64)))
    angle = 2 * np.pi * (x1 * 2.0**-32)
    pairs = np.stack((radius * np.cos(angle), radius * np.sin(angle)), axis=-1)
    return pairs.reshape(len(words), -1)


def _uniform(shape: tuple[int, int], key: tuple[int, int, int], dtype: torch.dtype) -> None:
    expected = words(*shape, *key)[:, : shape[1]]
    out = torch.empty(shape, dtype=dtype)
    kernels.uniform(out, *key)
    if dtype == torch.float32:
        assert np.array_equal(out.numpy(), (expected >> np.uint64(8)).astype(np.float32) * 2.0**-24)
    else:
        assert np.array_equal(out.numpy(), expected * 2.0**-32)


def _half_uniform(dtype: torch.dtype) -> None:
    wide, out = torch.empty(32, 512), torch.empty(32, 512, dtype=dtype)
    kernels.uniform(wide, 3, 0, 0)
    kernels.uniform(out, 3, 0, 0)
    below_one = 1 - torch.finfo(dtype).eps / 2
    assert (wide.to(dtype) == 1).any(), "no draw would have been rounded to 1"
    assert torch.equal(out, wide.to(dtype).clamp(max=below_one))


def _normal(shape: tuple[int, int], key: tuple[int, int, int], dtype: torch.dtype) -> None:
    # Two roundings of log and square root, two of the cosine and one of the product, on numbers
    # up to 8: a few units of 2^-22 and 2^-50.
    tolerance = 4 * 2.0**-50 if dtype == torch.float64 else 2 * 2.0**-22
    out = torch.empty(shape, dtype=dtype)
    kernels.normal(out, *key)
    expected = normals(words(*shape, *key), dtype)[:, : shape[1]]
    assert np.abs(out.double().numpy() - expected).max() <= tolerance


def _half_normal(dtype: torch.dtype) -> None:
    wide, out = torch.empty(5, 260), torch.empty(5, 260, dtype=dtype)
    kernels.normal(wide, 3, 0, 0)
    kernels.normal(out, 3, 0, 0)
    assert torch.equal(out, wide.to(dtype))


def _strided(fill) -> None:
    plain = torch.empty(6, 9)
    fill(plain, 1, 2, 3)
    base = torch.zeros(14, 40)
    for view in (base.T[3:9, 1:10], base[1:13:2, 2:29:3]):
        base.zero_()
        fill(view, 1, 2, 3)
        assert torch.equal(view, plain)
        assert base.count_nonzero() == plain.count_nonzero()


def _empty(shape: tuple[int, int]) -> None:
    kernels.normal(torch.empty(shape), 1, 2, 3)


def _cases() -> Cases:
    cases: Cases = {}
    wide = (33, 130)
    for number, key in enumerate(KEYS):
        for shape in SHAPES if number == 2 else [wide]:
            name = f"key{number}-{shape[0]}x{shape[1]}"
            for dtype in (torch.float32, torch.float64):
                suffix = f"{name}-{str(dtype).removeprefix('torch.')}"
                cases[f"uniform-{suffix}"] = partial(_uniform, shape, key, dtype)
                cases[f"normal-{suffix}"] = partial(_normal, shape, key, dtype)
    for dtype in (torch.bfloat16, torch.float16):
        name = str(dtype).removeprefix("torch.")
        cases[f"uniform-{name}"] = partial(_half_uniform, dtype)
        cases[f"normal-{name}"] = partial(_half_normal, dtype)
    cases["uniform-strided"] = partial(_strided, kernels.uniform)
    cases["normal-strided"] = partial(_strided, kernels.normal)
    for shape in ((0, 3), (3, 0), (0, 0)):
        cases[f"normal-empty-{shape[0]}x{shape[1]}"] = partial(_empty, shape)
    return cases


CASES = _cases()
