"""Steps on the edges of grids by Triton's interpreter."""

from __future__ import annotations

import pytest
import torch

import hessx
from tests.gpu.checks import edges
from tests.references.edges import problem

# Types and shapes whose way through the kernels others take as well.
_SLOW = (
    "2x1",
    "7x1",
    "3x2",
    "4x17-float32",
    "5x34",
    "9x66-float64",
    "large",
    "3x150",
    "nan-weight",
)


def _marked(case: str):
    slow = any(part in case for part in _SLOW)
    return pytest.param(case, marks=pytest.mark.slow if slow else ())


@pytest.mark.parametrize("case", map(_marked, edges.CASES))
def test_case(case):
    edges.CASES[case]()


def test_through_the_ops():
    assert hessx.backends.choose("cpu") == "triton"
    arguments = problem(2, 3, 4)
    box = [arguments[name] for name in edges.BOX]
    results = (
        hessx.ops.edge_prox(*box),
        hessx.ops.edge_divergence(*box, 3, 4),
        *hessx.ops.edge_update(**arguments),
    )
    for found, exact in zip(results, edges.run(arguments), strict=True):
        assert torch.equal(found, exact)
    z = torch.tensor([[-3.0, 0.5, 2.0]], requires_grad=True)
    one = torch.ones(1)
    hessx.ops.edge_prox(z, torch.zeros(1, 3), one + 0.5, one).sum().backward()
    assert z.grad.tolist() == [[0.0, 0.0, 1.0]]
