"""Tests of the Triton kernels on CPU tensors; tests/gpu/test_interpreted.py runs them."""

from __future__ import annotations

import os

import pytest
import torch

collect_ignore_glob = [] if os.environ.get("TRITON_INTERPRET") == "1" else ["*.py"]


@pytest.fixture(autouse=True)
def trustworthy():
    from tests.gpu.interpreter import trustworthy_interpreter

    # Deterministic mode fills new tensors with NaN: an output that a kernel leaves out is seen.
    torch.use_deterministic_algorithms(True)
    with trustworthy_interpreter():
        yield
    torch.use_deterministic_algorithms(False)
