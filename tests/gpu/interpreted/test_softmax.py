"""The softmax product by Triton's interpreter."""

from __future__ import annotations

import pytest
import torch

import hessx
from hessx.ops.softmax import triton as kernels
from tests.gpu.checks import softmax
from tests.references.softmax import arguments

# Types and sizes whose way through the kernel others take as well.
_SLOW = ("1-float64", "16-float", "17-float64", "300", "1024-float", "2050", "-0-", "-700-")


def _marked(case: str):
    slow = any(part in case for part in _SLOW)
    return pytest.param(case, marks=pytest.mark.slow if slow else ())


@pytest.mark.parametrize("case", map(_marked, softmax.CASES))
def test_case(case):
    softmax.CASES[case]()


def test_through_the_op():
    assert hessx.backends.choose("cpu") == "triton"
    p, u = arguments(2, 3, 7)
    assert torch.equal(hessx.ops.softmax_product(p, u), kernels.softmax_product(p, u))
    u.requires_grad_()
    hessx.ops.softmax_product(p, u)[0, 0, 1].backward()
    one = torch.zeros(2, 3, 7, dtype=torch.float64)
    one[0, 0, 1] = 1
    assert torch.equal(u.grad, kernels.softmax_product(p, one))
