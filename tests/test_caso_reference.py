"""The references of CASO hold against autograd, the conditions of optimality and each other."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from tests.references.caso_paper import objective, paper_caso, reference_caso


def classifier(activation: nn.Module) -> nn.Sequential:
    """Weights of twice the usual size: a Hessian that weighs beside lambda2."""
    net = nn.Sequential(nn.Linear(12, 20), activation, nn.Linear(20, 5)).double()
    for parameter in net.parameters():
        parameter.data *= 2
    return net


def derivatives(net: nn.Module, x: Tensor, y: int) -> tuple[Tensor, Tensor]:
    def loss(x: Tensor) -> Tensor:
        return cross_entropy(net(x[None]), torch.tensor([y]))

    return torch.autograd.functional.jacobian(loss, x), torch.autograd.functional.hessian(loss, x)


def random_problem(d: int, rank: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    g, B = (
        torch.randn(size, generator=generator, dtype=torch.float64) for size in [(d,), (rank, d)]
    )
    return g, B.T @ B / d


@pytest.mark.parametrize("above", [1.01, 3.0])
@pytest.mark.parametrize("rank", [0, 1, 6, 40])
def test_the_reference_is_optimal(rank, above):
    """Where D is 0, |g + H D| <= lambda1; elsewhere the gradient is lambda1 sign(D)."""
    g, H = random_problem(30, rank, seed=rank)
    lambda2 = above * torch.linalg.eigvalsh(H)[-1].item() / 2 + (rank == 0)
    lambda1 = torch.tensor([0.0, 0.1, 0.5, 1.0, 1.5], dtype=g.dtype) * g.abs().max()
    D = reference_caso(g, H, lambda1, lambda2)
    slope = g + D @ H - 2 * lambda2 * D
    lambda1 = lambda1[:, None]
    # Rounding of the terms of slope, a few hundred times over at 1.01 L / 2.
    atol = 1e-12 * (1 + D.abs().amax())
    excess = torch.where(D == 0, slope.abs() - lambda1, (slope - lambda1 * D.sign()).abs())
    assert (excess <= atol).all()
    zeros = (D == 0).sum(1).tolist()
    assert zeros[0] == 0
    assert zeros[-1] == 30
    assert not D[3].any(), "lambda1 = |g|_inf must give zeros"


def test_each_lambda1_may_have_its_own_lambda2():
    g, H = random_problem(20, 5, seed=1)
    lambda1, lambda2 = torch.tensor([0.1, 0.4]), torch.tensor([2.0, 7.0], dtype=torch.float64)
    both = reference_caso(g, H, lambda1, lambda2)
    for row in range(2):
        alone = reference_caso(g, H, lambda1[row : row + 1], lambda2[row].item())
        torch.testing.assert_close(both[row : row + 1], alone, rtol=1e-12, atol=1e-14)


def test_a_lambda2_that_is_not_concave_has_no_reference():
    g, H = random_problem(20, 5, seed=1)
    with pytest.raises(ValueError, match="lambda2 must be >"):
        reference_caso(g, H, torch.tensor([0.1]), 0.49 * torch.linalg.eigvalsh(H)[-1].item())


def test_the_objective_by_hand():
    g, H = torch.tensor([1.0, 2.0]), torch.tensor([[2.0, 1.0], [1.0, 0.0]])
    D = torch.tensor([[1.0, -1.0], [0.0, 3.0]])
    found = objective(g, H, D, torch.tensor([0.5, 1.0]), 10)
    assert found.tolist() == [-1 + 0 - 1 - 20, 6 + 0 - 3 - 90]


@pytest.mark.parametrize("activation", [nn.ReLU(), nn.SiLU()], ids=["ReLU", "SiLU"])
@pytest.mark.parametrize("seed", range(3))
def test_the_papers_algorithm_comes_close_to_the_solution(activation, seed):
    torch.manual_seed(seed)
    net, x, y = classifier(activation), torch.randn(12, dtype=torch.float64), 1
    g, H = derivatives(net, x, y)
    lambda1s = [float(share * g.abs().max()) for share in (0.0, 0.2, 0.6)]
    found = paper_caso(net, x, y, lambda1s)
    eigenvalues = torch.linalg.eigvalsh(H)
    # A lower bound; 10 power iterations resolve it to the square of a few hundredths.
    assert found.top <= eigenvalues.abs().max() * (1 + 1e-12)
    assert found.top >= 0.95 * eigenvalues[-1]
    assert found.lambda2 == found.top / 2 + 10
    lambda1 = torch.tensor(lambda1s, dtype=torch.float64)
    best = reference_caso(g, H, lambda1, found.lambda2)
    best, reached = (objective(g, H, D, lambda1, found.lambda2) for D in (best, found.delta))
    assert (reached <= best * (1 + 1e-12)).all()
    assert (reached >= 0.999 * best).all()
    # One gradient, the power iterations, at least 20 products a lambda1 and two halvings or three:
    # from .1 to below 1 / (2 lambda2).
    assert 1 + 10 + 3 * 20 < found.n_calls <= 1 + 10 + 3 * 24


def test_a_loss_without_curvature():
    x = torch.randn(6, dtype=torch.float64)
    found = paper_caso(lambda x: torch.stack([x.sum(1), x.sum(1)], 1) * 0, x, 0, [0.0])
    assert found.top == 0
    assert not found.delta.any()
