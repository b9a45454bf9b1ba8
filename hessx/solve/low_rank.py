"""CASO in low rank: Newton's method on a model of the Hessian, with a certificate from products."""

from __future__ import annotations

import torch
from torch import Tensor

from hessx import ops
from hessx.solve.certificate import relative_gap
from hessx.solve.krylov import KrylovSpace
from hessx.solve.products import dot
from hessx.solve.prox_newton import LowRankSolution, maximiser, prox_newton, shifted_gradient
from hessx.solve.sparse import Scaled, Select, Solved, count_exceeding

# Solutions are appended to the space at most so often.
_ROUNDS = 6


class LowRank:
    """CASO with ``H = basis^T basis``, exactly or with a certificate from products.

    Args:
        gradient: ``(b, d)``.
        basis: ``(b, r, d)``.
        lambda2: ``(b, 1)``.
        top: ``(b, 1)``, an upper bound of the eigenvalues of H.
        n_channels: Channels of a pixel.
        tol: Relative gap to reach.
    """

    def __init__(
        self,
        gradient: Tensor,
        basis: Tensor,
        lambda2: Tensor,
        top: Tensor,
        n_channels: int,
        tol: float,
    ):
        self.gradient, self.n_channels = gradient, n_channels
        self.basis, self.lambda2, self.top, self.tol = basis, lambda2, top, tol
        self._scaled = Scaled.of(gradient)
        self._gram = ops.gram(basis)

    def pixels(self, lambda1: Tensor) -> Tensor:
        """Return the number of non-zero pixels."""
        return self._counted(self._solution(lambda1), lambda1)

    def evaluate(self, lambda1: Tensor) -> tuple[Tensor, Tensor]:
        """Return the number of non-zero pixels and the objective."""
        found = self._solution(lambda1)
        quadratic = (found.z + found.defect).square().sum(-1)
        objective = found.objective(quadratic, self._unit(lambda1), self.lambda2)
        return self._counted(found, lambda1), objective * self._scaled.scale.square()

    def solve(self, lambda1: Tensor) -> Solved:
        """Return the solutions for H = basis^T basis."""
        found = self._solution(lambda1)
        residual = found.defect.to(self.basis) @ self.basis
        quadratic = (found.z + found.defect).square().sum(-1)
        return self._scaled_back(self._delta(found, lambda1), lambda1, found, quadratic, residual)

    def solve_in(self, space: KrylovSpace, lambda1: Tensor) -> tuple[Solved, Tensor]:
        """Return the solutions for the H of a space, and vectors along them.

        ``H D - basis^T z`` is a supergradient of the objective at D, so with its length rho strong
        concavity bounds the gap by ``rho^2 / (2 (2 lambda2 - L))``.
        """
        found = self._solution(lambda1)
        delta = self._delta(found, lambda1)
        images = space.product(delta)
        residual = images - found.z.to(delta) @ self.basis
        solved = self._scaled_back(delta, lambda1, found, dot(delta, images), residual)
        return solved, delta

    def rows(self, index: Tensor, basis: Tensor) -> LowRank:
        """Return the solver of some rows, with another basis."""
        return LowRank(
            self.gradient[index],
            basis,
            self.lambda2[index],
            self.top[index],
            self.n_channels,
            self.tol,
        )

    def _solution(self, lambda1: Tensor) -> LowRankSolution:
        """Return the solutions in the unknowns of the basis, for gradients scaled to 1."""
        unit = self._unit(lambda1)
        gradient, tolerance = self._scaled.unit, self.tol / 10
        return prox_newton(self.basis, self._gram, gradient, unit, self.lambda2, tolerance)

    def _delta(self, found: LowRankSolution, lambda1: Tensor) -> Tensor:
        unit = self._unit(lambda1)
        return maximiser(self.basis, self._scaled.unit, found.z, unit, self.lambda2)

    def _scaled_back(
        self,
        delta: Tensor,
        lambda1: Tensor,
        found: LowRankSolution,
        quadratic: Tensor,
        residual: Tensor,
    ) -> Solved:
        objective = found.objective(quadratic, self._unit(lambda1), self.lambda2)
        scale = self._scaled.scale
        return Solved(
            delta * scale[..., None].to(delta),
            lambda1,
            objective * scale.square(),
            relative_gap(residual, 2 * self.lambda2 - self.top, objective),
        )

    def _counted(self, found: LowRankSolution, lambda1: Tensor) -> Tensor:
        point = shifted_gradient(self.basis, self._scaled.unit, found.z)
        return count_exceeding(point, self._unit(lambda1), self.n_channels)

    def _unit(self, lambda1: Tensor) -> Tensor:
        return lambda1 / self._scaled.scale


def solve_certified(model: LowRank, space: KrylovSpace, select: Select) -> Solved:
    """Solve with a Krylov space's low-rank model; append solutions until the gap is small.

    A solution whose certificate misses the tolerance shows a direction in which the model lacks
    something, so it goes into the space. Rows stop one by one: when all their solutions reach the
    tolerance, or when a round made none of them better, which rounding can bring about. Each
    program keeps the solution of its smallest gap.
    """
    rows = torch.arange(len(model.gradient), device=model.gradient.device)
    solved, vectors = model.solve_in(space, select(model, rows))
    best = solved
    for _ in range(_ROUNDS):
        missed = best.gap[rows] > model.tol
        left = missed.any(-1)
        if not left.any():
            break
        rows, space = rows[left], space.rows(left)
        space.append(vectors[left] * missed[left][..., None])
        model = model.rows(left, space.nystrom())
        before = best.gap[rows]
        solved, vectors = model.solve_in(space, select(model, rows))
        best = best.improved(rows, solved)
        going = (best.gap[rows] < before).any(-1)
        if not going.all():
            rows, space, vectors = rows[going], space.rows(going), vectors[going]
            model = model.rows(going, model.basis[going])
    return best
