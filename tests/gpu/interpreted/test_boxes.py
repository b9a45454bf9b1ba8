"""Box sums by Triton's interpreter."""

from __future__ import annotations

import pytest
import torch

import hessx
from tests.gpu.checks import boxes

# One of each kind; the rest are other types and sizes.
_FAST = ("4x6-3-1-4-float32", "5x9-2-5-float64", "1x1-1-float32", "tiles-5x17", "strided", "empty")


def _marked(case: str):
    return pytest.param(case, marks=() if case.endswith(_FAST) else pytest.mark.slow)


@pytest.mark.parametrize("case", map(_marked, boxes.CASES))
def test_case(case):
    boxes.CASES[case]()


def test_through_the_ops():
    assert hessx.backends.choose("cpu") == "triton"
    x = torch.tensor([[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]], requires_grad=True)
    sums = hessx.ops.box_sums(x, [2])
    assert sums.tolist() == [[12.0, 16.0]]
    sums.sum().backward()
    assert x.grad.tolist() == [[[1.0, 2.0, 1.0], [1.0, 2.0, 1.0]]]
