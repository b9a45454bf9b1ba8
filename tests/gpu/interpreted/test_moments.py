"""Moments by Triton's interpreter."""

from __future__ import annotations

import pytest
import torch

import hessx
from hessx.ops.moments import triton as kernels
from tests.gpu.checks import moments
from tests.gpu.checks.moments import numbers

# Types and sizes whose way through the kernels others take as well.
_SLOW = ("-float16", "float64-weighted", "size-15", "size-256", "size-257x17")


def _marked(case: str):
    slow = any(part in case for part in _SLOW)
    return pytest.param(case, marks=pytest.mark.slow if slow else ())


@pytest.mark.parametrize("case", map(_marked, moments.CASES))
def test_case(case):
    moments.CASES[case]()


@pytest.mark.slow
@pytest.mark.parametrize("workspace_bytes", [1, 8100])
def test_splitting_over_samples_changes_no_bit(monkeypatch, workspace_bytes):
    u, v = numbers(2, 520, 9), numbers(2, 520, 9, seed=1)
    weight = numbers(2, 520, seed=2)

    def results():
        return (
            *kernels.cross_moments(u, v, weight),
            *kernels.core_moments(u, v),
            *kernels.normal_moments(v[:1, :, :2], weight, 3, 1, 2, 3),
        )

    # One block a launch, then two.
    monkeypatch.setattr(kernels, "_WORKSPACE_BYTES", workspace_bytes)
    split = results()
    monkeypatch.setattr(kernels, "_ENOUGH_PROGRAMS", 0)
    assert all(torch.equal(a, b) for a, b in zip(split, results(), strict=True))


def test_through_the_ops():
    assert hessx.backends.choose("cpu") == "triton"
    u, v = numbers(30, 5), numbers(30, 4, seed=1)
    expected = kernels.cross_moments(u[None], v[None])
    for actual, value in zip(hessx.ops.cross_moments(u, v), expected, strict=True):
        assert torch.equal(actual, value[0])
    w = numbers(30, 5, seed=2).requires_grad_()
    hessx.ops.core_moments(u, w)[3].sum().backward()
    torch.testing.assert_close(w.grad, 2 * w.detach())
    drawn = hessx.ops.normal(30, 5, seed=3)
    for actual, value in zip(
        hessx.ops.normal_moments(v, 5, seed=3), hessx.ops.cross_moments(drawn, v), strict=True
    ):
        assert torch.equal(actual, value)
