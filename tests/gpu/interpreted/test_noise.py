"""Noise by Triton's interpreter."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import hessx
from hessx.ops.noise import triton as kernels
from tests.gpu.checks import noise


@pytest.mark.parametrize("case", noise.CASES)
def test_case(case):
    noise.CASES[case]()


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
        words = noise.philox([np.array([c], np.uint64) for c in counter], key)
        assert " ".join(f"{int(word[0]):08x}" for word in words) == expected


def test_zero_key_gives_the_published_words():
    out = torch.empty(1, 4, dtype=torch.float64)
    kernels.uniform(out, 0, 0, 0)
    expected = [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    assert (out[0] * 2**32).tolist() == expected


def test_through_the_op():
    assert hessx.backends.choose("cpu") == "triton"
    words = noise.words(7, 10, 5, 2, 0)[:, :10]
    assert torch.equal(
        hessx.ops.uniform(7, 10, seed=5, first_sample=2),
        torch.from_numpy((words >> np.uint64(8)) * 2.0**-24).float(),
    )
    joined = torch.cat([hessx.ops.normal(3, 5, seed=1, first_sample=i) for i in (0, 3)])
    assert torch.equal(joined, hessx.ops.normal(6, 5, seed=1))
