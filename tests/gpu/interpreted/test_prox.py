"""The prox pass and Gram matrices by Triton's interpreter."""

from __future__ import annotations

import pytest
import torch

import hessx
from hessx.ops.prox import triton as kernels
from tests.gpu.checks import prox
from tests.references.prox import numbers, problem

# Sizes whose way through the kernels others take as well.
_SLOW = ("size-15", "size-512", "size-513x1", "float64", "one-slot", "two-slots", "nan-z", "nan-g")


def _marked(case: str):
    slow = any(part in case for part in _SLOW)
    return pytest.param(case, marks=pytest.mark.slow if slow else ())


@pytest.mark.parametrize("case", map(_marked, prox.CASES))
def test_case(case):
    prox.CASES[case]()


def test_through_the_ops():
    assert hessx.backends.choose("cpu") == "triton"
    arguments = problem(2, 2, 3, 30, torch.float32)
    expected = kernels.prox_pass(*arguments, True)
    for actual, value in zip(hessx.ops.prox_pass(*arguments), expected, strict=True):
        assert torch.equal(actual, value)
    x = numbers(3, 20).requires_grad_()
    hessx.ops.gram(x).sum().backward()
    torch.testing.assert_close(x.grad, 2 * x.detach().sum(0, keepdim=True).expand(3, 20))
