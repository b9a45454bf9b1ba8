"""Noise on grids by Triton's interpreter."""

from __future__ import annotations

import pytest
import torch

import hessx
from tests.gpu.checks import grid_noise

# Types, keys and shapes whose way through the kernel others take as well.
_SLOW = ("key0", "key1", "key3", "1x9", "7x1", "3x2", "4x17", "5x34-float64", "16x61-float64")


def _marked(case: str):
    slow = any(part in case for part in _SLOW)
    return pytest.param(case, marks=pytest.mark.slow if slow else ())


@pytest.mark.parametrize("case", map(_marked, grid_noise.CASES))
def test_case(case):
    grid_noise.CASES[case]()


def test_through_the_op():
    assert hessx.backends.choose("cpu") == "triton"
    joined = torch.cat([hessx.ops.grid_normal(3, 4, 5, seed=1, first_sample=i) for i in (0, 3)])
    assert torch.equal(joined, hessx.ops.grid_normal(6, 4, 5, seed=1))
    drawn = hessx.ops.normal(6, 32, seed=1)
    # The last pixel: two edges end there, and none begins.
    corner = drawn[:, 15] + drawn[:, 30] + drawn[:, 31] / 20**0.5
    torch.testing.assert_close(joined[:, 3, 4], corner, rtol=0, atol=1e-6)
