"""The global random generators, seeded for the length of a block and put back."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def seeded_generators(seed: int, device: torch.device, number: int = 0) -> Iterator[None]:
    """Seed the global generators of torch, NumPy and Python inside and put them back.

    Args:
        seed: A key, >= 0.
        device: Whose generator is seeded beside the CPU's.
        number: Of the block of draws, >= 0: blocks of one key, and of all others, are independent.
    """
    words = np.random.SeedSequence([seed, number]).generate_state(1, np.uint64)
    mixed = int(words[0])
    # What a user's function draws from: NumPy's global generator is the legacy one.
    numpy_state, python_state = np.random.get_state(), random.getstate()  # noqa: NPY002
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.default_generator.manual_seed(mixed)
        if device.type == "cuda":
            with torch.cuda.device(device):
                torch.cuda.manual_seed(mixed)
        np.random.seed(mixed % 2**32)  # noqa: NPY002
        random.seed(mixed)
        try:
            yield
        finally:
            np.random.set_state(numpy_state)  # noqa: NPY002
            random.setstate(python_state)
