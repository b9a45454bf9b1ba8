"""Soft threshold and FISTA step by Triton's interpreter."""

from __future__ import annotations

import pytest
import torch

import hessx
from tests.gpu.checks import shrink
from tests.references.shrink import problem

# Types and sizes whose way through the kernels others take as well.
_SLOW = ("9x3x7", "4101-float64", "blocks-3x2x70", "nan-2", "nan-4", "nan-5", "nan-6", "1x1x1")


def _marked(case: str):
    slow = any(part in case for part in _SLOW)
    return pytest.param(case, marks=pytest.mark.slow if slow else ())


@pytest.mark.parametrize("case", map(_marked, shrink.CASES))
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
