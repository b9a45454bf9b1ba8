"""CASO and the input Hessian of an ImageNet classifier on photographs; ``make test-all``."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import hessx
from hessx.demo.classifier import efficientnet_lite0
from hessx.demo.extra import package_folder
from hessx.demo.photograph import load_photograph
from hessx.query import LossQuery
from hessx.run import Run
from hessx.solve.krylov import KrylovSpace

pytestmark = pytest.mark.slow

PICTURES = ("chelsea.png", "coffee.png", "rocket.jpg")
SHARES = (0.05, 0.1, 0.2, 0.4)


@pytest.fixture(scope="module")
def classifier():
    return efficientnet_lite0()


@pytest.fixture(scope="module")
def inputs(classifier) -> Tensor:
    folder = package_folder("skimage") / "data"
    return torch.cat([classifier.inputs(load_photograph(folder / p).pixels) for p in PICTURES])


def test_the_largest_eigenvalue_is_that_of_a_large_space(classifier, inputs):
    found = hessx.input_hessian(classifier.model, inputs, rank=10)
    assert found.hessian == "exact"
    assert found.converged.all()
    with Run().own_arithmetic(inputs.device):
        query = LossQuery(classifier.model, inputs, None, Run())
        rows = torch.arange(len(inputs))
        product = query.linearize(inputs, rows).product
        space = KrylovSpace.started(product, torch.randn(len(inputs), 1, inputs[0].numel()))
        while space.size < 30:
            space.extend()
        values = space.ritz(10).values
    # rtol is of each eigenvalue; the space itself has the last ones to less than that.
    torch.testing.assert_close(found.eigenvalues.double(), values, rtol=2e-2, atol=0)
    torch.testing.assert_close(found.eigenvalues[:, 0].double(), values[:, 0], rtol=1e-3, atol=0)
    assert torch.all(found.top_bound >= values[:, 0])


def test_four_lambdas_reach_the_gap(classifier, inputs):
    largest = hessx.cafo(classifier.model, inputs, lambda1=0.0, lambda2=0.5).delta.abs()
    lambda1s = largest.flatten(1).amax(1)[:, None] * torch.tensor(SHARES)
    path = hessx.caso_path(classifier.model, inputs, lambda1s=lambda1s)
    assert torch.all(path.gap <= 1e-4)
    exact = hessx.caso_path(
        classifier.model, inputs, lambda1s=lambda1s, lambda2=path.lambda2, tol=1e-6
    )
    # An upper bound: the objective of a tighter solution lies within it.
    rounding = 1e-5
    assert torch.all(exact.objective <= path.objective * (1 + path.gap + rounding))


def test_auto_and_k(classifier, inputs):
    auto = hessx.caso(classifier.model, inputs)
    assert torch.all((auto.sparsity >= 0.75) & (auto.sparsity < 0.751))
    assert torch.all(auto.loss_change > 0)
    few = hessx.caso(classifier.model, inputs, k=500)
    pixels = (few.delta != 0).any(1).flatten(1).sum(1)
    assert torch.all((pixels <= 500) & (pixels > 480))
