"""The sparse program's solvers against thousands of steps of FISTA in float64."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor

from hessx.solve.fista import fista_backtracking, fista_constant
from hessx.solve.krylov import KrylovSpace
from hessx.solve.low_rank import LowRank, solve_certified
from hessx.solve.sparse import FirstOrder, Fista
from tests.references.caso_paper import objective, reference_caso

B, R, D = 4, 7, 120


class Programs:
    """Programs whose Hessians have rank 7, and their exact solutions.

    Attributes:
        excess: 2 lambda2 / L - 1: how far the concavity is from lost.
    """

    def __init__(self, excess: float, dtype: torch.dtype):
        scales = 0.7 ** torch.arange(R, dtype=torch.float64)
        self.basis = torch.randn(B, R, D, dtype=torch.float64) * scales[:, None] * 0.3
        self.hessian = self.basis.mT @ self.basis
        self.gradient = torch.randn(B, D, dtype=torch.float64)
        self.gradient *= torch.tensor([1.0, 1e-6, 1e3, 1.0], dtype=torch.float64)[:, None]
        self.top = torch.linalg.eigvalsh(self.hessian)[:, -1:]
        self.lambda2 = self.top / 2 * (1 + excess)
        largest = self.gradient.abs().amax(-1, keepdim=True)
        self.lambda1 = largest * torch.tensor([0.0, 0.2, 0.6, 1.5], dtype=torch.float64)
        self.dtype = dtype
        self.exact = torch.stack(
            [
                reference_caso(g, h, l1, l2.item(), 20000)
                for g, h, l1, l2 in zip(
                    self.gradient, self.hessian, self.lambda1, self.lambda2, strict=True
                )
            ]
        )

    def objective(self, delta: Tensor) -> Tensor:
        return torch.stack(
            [
                objective(g, h, d, l1, l2.item())
                for g, h, d, l1, l2 in zip(
                    self.gradient, self.hessian, delta, self.lambda1, self.lambda2, strict=True
                )
            ]
        )

    def product(self, vectors: Tensor) -> Tensor:
        return vectors @ self.hessian.to(vectors)

    def low_rank(self, basis: Tensor, tol: float) -> LowRank:
        return LowRank(
            self.gradient.to(self.dtype),
            basis.to(self.dtype),
            self.lambda2,
            self.top * (1 + 1e-6),
            1,
            tol,
        )

    def check(self, solved, tol: float) -> None:
        """The gap is reached, and bounds the true one."""
        best, reached = self.objective(self.exact), self.objective(solved.delta)
        positive = best > 0
        true = torch.where(positive, (best - reached) / reached, 0)
        assert torch.all(solved.gap <= tol)
        # The rounding of the objective itself, of some times its largest term.
        rounding = 1e-5 if self.dtype == torch.float32 else 1e-12
        assert torch.all(true <= solved.gap + rounding)
        scale = self.gradient.abs().amax(-1, keepdim=True).square() / self.lambda2
        torch.testing.assert_close(
            solved.objective / scale, reached / scale, rtol=1e-5, atol=1e-6 * D
        )
        assert torch.all(solved.delta[:, -1] == 0)


@pytest.mark.parametrize("excess", [4.0, 0.5, 0.01])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
class TestSolvers:
    def test_newton_with_the_whole_basis(self, excess, dtype):
        programs = Programs(excess, dtype)
        model = programs.low_rank(programs.basis, 1e-4)
        programs.check(model.solve(programs.lambda1), 1e-4)

    def test_newton_with_a_certificate(self, excess, dtype):
        programs = Programs(excess, dtype)
        first = programs.gradient.to(dtype)[:, None]
        space = KrylovSpace.started(programs.product, first)
        space.extend()
        model = programs.low_rank(space.nystrom(), 1e-4)
        solved = solve_certified(model, space, lambda _, rows: programs.lambda1[rows])
        programs.check(solved, 1e-4)

    def test_fista_with_known_constants(self, excess, dtype):
        programs = Programs(excess, dtype)
        solver = Fista(
            programs.gradient.to(dtype),
            programs.product,
            programs.lambda2,
            programs.top * (1 + 1e-6),
            torch.zeros_like(programs.top),
            1,
            partial(fista_constant, n_iter=3000, tolerance=1e-4),
        )
        programs.check(solver.solve(programs.lambda1), 1e-4)

    def test_fista_with_backtracking(self, excess, dtype):
        programs = Programs(excess, dtype)
        solver = Fista(
            programs.gradient.to(dtype),
            programs.product,
            programs.lambda2,
            programs.top * (1 + 1e-6),
            torch.zeros_like(programs.top),
            1,
            partial(fista_backtracking, n_iter=400),
        )
        programs.check(solver.solve(programs.lambda1), 1e-3)


def test_without_a_penalty_the_solution_is_linear():
    programs = Programs(0.5, torch.float64)
    model = programs.low_rank(programs.basis, 1e-12)
    solved = model.solve(torch.zeros(B, 1, dtype=torch.float64))
    scale = 2 * programs.lambda2[..., None]
    # Woodbury: (2 lambda2 - B^T B)^-1 = (1 + B^T (2 lambda2 - B B^T)^-1 B) / (2 lambda2).
    inner = scale * torch.eye(R) - programs.basis @ programs.basis.mT
    weights = torch.linalg.solve(inner, programs.basis @ programs.gradient[..., None])
    exact = (programs.gradient[..., None] + programs.basis.mT @ weights) / scale
    torch.testing.assert_close(solved.delta[:, 0], exact[..., 0], rtol=1e-6, atol=0)


def test_an_element_does_not_depend_on_the_others():
    programs = Programs(0.2, torch.float64)
    whole = programs.low_rank(programs.basis, 1e-4).solve(programs.lambda1)
    for row in range(B):
        part = slice(row, row + 1)
        model = LowRank(
            programs.gradient[part],
            programs.basis[part],
            programs.lambda2[part],
            programs.top[part],
            1,
            1e-4,
        )
        for column in range(3):
            single = model.solve(programs.lambda1[part, column : column + 1])
            torch.testing.assert_close(single.delta[0, 0], whole.delta[row, column])


def test_an_indefinite_hessian_needs_its_lower_end():
    programs = Programs(0.5, torch.float64)
    programs.hessian = programs.hessian - 3 * torch.diag_embed(torch.rand(B, D))
    programs.exact = torch.stack(
        [
            reference_caso(g, h, l1, l2.item(), 20000)
            for g, h, l1, l2 in zip(
                programs.gradient, programs.hessian, programs.lambda1, programs.lambda2, strict=True
            )
        ]
    )
    bottom = torch.linalg.eigvalsh(programs.hessian)[:, :1]
    solver = Fista(
        programs.gradient,
        programs.product,
        programs.lambda2,
        programs.top,
        bottom,
        1,
        partial(fista_constant, n_iter=2000, tolerance=1e-6),
    )
    programs.check(solver.solve(programs.lambda1), 1e-6)


def test_cafo_is_the_soft_threshold():
    gradient = torch.randn(2, 10, dtype=torch.float64)
    lambda1 = torch.tensor([[0.0, 0.5], [0.1, 9.0]], dtype=torch.float64)
    lambda2 = torch.tensor([[2.0], [3.0]], dtype=torch.float64)
    solved = FirstOrder(gradient, lambda2, 1).solve(lambda1)
    shrunk = gradient[:, None].sign() * (gradient[:, None].abs() - lambda1[..., None]).clamp(min=0)
    torch.testing.assert_close(solved.delta, shrunk / (2 * lambda2[..., None]))
    zero = torch.zeros(10, 10, dtype=torch.float64)
    for row in range(2):
        value = objective(gradient[row], zero, solved.delta[row], lambda1[row], lambda2[row])
        torch.testing.assert_close(solved.objective[row], value)
