"""Fixtures that every test may use."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def fixed_torch_state() -> Iterator[None]:
    """Start each test from one seed and give back the number of threads it found."""
    n_threads = torch.get_num_threads()
    torch.manual_seed(0)
    yield
    torch.set_num_threads(n_threads)
