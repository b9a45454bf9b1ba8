"""Cross-entropy queries: gradients and Hessian-vector products against autograd's."""

from __future__ import annotations

import torch
from torch import nn

from hessx.query import LossQuery
from hessx.run import Run


def make(*layers: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(*layers).double().eval()


def data(n, *shape, seed=0):
    return torch.randn(
        n, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
    )


def hessian(model, x, y):
    def loss(x):
        return torch.nn.functional.cross_entropy(model(x[None]), torch.tensor([y]))

    return torch.autograd.functional.hessian(loss, x).reshape(x.numel(), x.numel())


def assert_close(got, expected, rtol):
    error = (got - expected).norm() / expected.norm()
    assert error <= rtol, error


def test_products_and_gradients():
    model = make(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 5))
    x = data(3, 6)
    query = LossQuery(model, x, [1, 0, 4], Run())
    at = query.linearize(x, torch.arange(3))
    v = data(3, 2, 6, seed=1)
    H = torch.stack([hessian(model, x[i], y) for i, y in enumerate([1, 0, 4])])
    J = torch.stack([torch.func.jacrev(model)(x[i]) for i in range(3)])
    assert_close(at.product(v), v @ H, 1e-12)
    assert_close(at.jvp(v), v @ J.mT, 1e-12)
    u = data(3, 2, 5, seed=2)
    assert_close(at.vjp(u), u @ J, 1e-12)
    p = model(x).softmax(1)
    assert_close(at.probabilities, p, 1e-14)
    assert_close(at.gradient, ((p - torch.eye(5)[[1, 0, 4]])[:, None] @ J)[:, 0], 1e-12)
    F = at.factor()
    assert_close(F.mT @ F, H, 1e-12)
    assert query.n_products == 6
