"""The global generators inside a block: independent of all other blocks, and put back."""

from __future__ import annotations

import random

import numpy as np
import torch

from hessx.generators import seeded_generators

CPU = torch.device("cpu")


def draws(seed: int, block: int | None = None) -> tuple[float, ...]:
    with seeded_generators(seed, CPU, block):
        return torch.rand(()).item(), np.random.rand(), random.random()  # noqa: NPY002


def test_no_two_keys_draw_the_same():
    """Seeds of more than 32 bits are two words, which a block must not be taken for."""
    seeds = 0, 1, 2, 2**32, 2**32 + 1, 2**33, 2**63 - 1
    found = [draws(seed, block) for seed in seeds for block in (None, 0, 1, 2, 256, 2**32)]
    for of_one_library in zip(*found, strict=True):
        assert len(set(of_one_library)) == len(found)


def test_a_key_draws_the_same_again_and_leaves_the_generators():
    torch.manual_seed(0)
    state = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
    assert draws(3, 1) == draws(3, 1)
    assert torch.equal(torch.get_rng_state(), state[0])
    assert np.array_equal(np.random.get_state()[1], state[1])  # noqa: NPY002
    assert random.getstate() == state[2]
