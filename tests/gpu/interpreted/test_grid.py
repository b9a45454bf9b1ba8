"""Grid operators by Triton's interpreter."""

from __future__ import annotations

import pytest
import torch

import hessx
from tests.gpu.checks import grid

# One of each kind; the rest are other types and sizes.
_FAST = ("1x1-float32", "5x9-float32", "5x9-float64", "tiles-5x17", "order-5x6", "strided")


def _marked(case: str):
    fast = case.endswith(_FAST) or case == "laplacian-not-finite"
    return pytest.param(case, marks=() if fast else pytest.mark.slow)


@pytest.mark.parametrize("case", map(_marked, grid.CASES))
def test_case(case):
    grid.CASES[case]()


def test_through_the_ops():
    assert hessx.backends.choose("cpu") == "triton"
    g = torch.tensor([[[1.0, 3.0], [7.0, 5.0]]], requires_grad=True)
    differences = hessx.ops.grid_difference(g)
    assert differences.tolist() == [[2.0, -2.0, 6.0, 2.0]]
    differences.square().sum().backward()
    assert torch.equal(g.grad, 2 * hessx.ops.grid_laplacian(g))
