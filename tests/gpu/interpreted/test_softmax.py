"""The softmax product by Triton's interpreter."""

from __future__ import annotations

import pytest
import torch

import hessx
from hessx.ops.softmax import triton as kernels
from tests.gpu.checks import softmax
from tests.references.softmax import arguments


@pytest.mark.parametrize("case", softmax.CASES)
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
