"""The device of these tests: a GPU, or what HESSX_TEST_DEVICE names, to try the tests."""

from __future__ import annotations

import os

import pytest
import torch


@pytest.fixture
def device() -> torch.device:
    chosen = torch.device(os.environ.get("HESSX_TEST_DEVICE", "cuda"))
    if chosen.type == "cuda" and not torch.cuda.is_available():
        pytest.skip("torch finds no GPU")
    return chosen


@pytest.fixture
def gpu(device: torch.device) -> torch.device:
    """The device, for tests of what only GPUs have: streams, graphs, several devices."""
    if device.type != "cuda":
        pytest.skip(f"HESSX_TEST_DEVICE={device}")
    return device
