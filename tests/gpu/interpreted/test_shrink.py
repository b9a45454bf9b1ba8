"""Soft threshold and FISTA step by Triton's interpreter."""

from __future__ import annotations

import pytest
import torch

import hessx
from tests.gpu.checks import shrink
from tests.references.shrink import problem


@pytest.mark.parametrize("case", shrink.CASES)
def test_case(case):
    shrink.CASES[case]()


def test_through_the_ops():
    assert hessx.backends.choose("cpu") == "triton"
    arguments = problem(2, 2, 9)
    for found, exact in zip(hessx.ops.fista_step(*arguments), shrink.step(*arguments), strict=True):
        assert torch.equal(found, exact)
    x = torch.tensor([[-3.0, 0.5, 2.0]], requires_grad=True)
    hessx.ops.soft_threshold(x, torch.ones(1)).sum().backward()
    assert x.grad.tolist() == [[1.0, 0.0, 1.0]]
