"""Perturbations times explanations by Triton's interpreter."""

from __future__ import annotations

import pytest
import torch

import hessx
from hessx.ops.infidelity import triton as kernels
from tests.gpu.checks import infidelity
from tests.references.infidelity import problem

# Types and sizes whose way through the kernels others take as well.
_SLOW = (
    *("3x256x2", "float16", "two-to-a-slot", "one-slot", "two-slots", "one-at-once", "nan-d"),
    *("slots-shared", "float64", "5x17x3"),
)


def _marked(case: str):
    slow = any(part in case for part in _SLOW)
    return pytest.param(case, marks=pytest.mark.slow if slow else ())


@pytest.mark.parametrize("case", map(_marked, infidelity.CASES))
def test_case(case):
    infidelity.CASES[case]()


def test_through_the_ops():
    assert hessx.backends.choose("cpu") == "triton"
    arguments = problem(2, 4, 20, 3)
    perturbations, attributions = arguments[:2]
    expected = kernels.perturbation_gradient(*arguments)
    for actual, value in zip(hessx.ops.perturbation_gradient(*arguments), expected, strict=True):
        assert torch.equal(actual, value)
    attributions.requires_grad_()
    hessx.ops.perturbation_dots(perturbations, attributions).sum().backward()
    sums = perturbations.double().sum(1, keepdim=True).expand(2, 3, 20)
    torch.testing.assert_close(attributions.grad, sums.float())
