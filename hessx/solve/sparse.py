"""CAFO in closed form and CASO by three solvers, on some rows of a batch, in the paper's units.

    maximise over D:  g^T D + D^T H D / 2 - lambda1 |D|_1 - lambda2 |D|_2^2

Each solver can be asked how many pixels its solution has for trial values of lambda1 (`pixels`,
`evaluate`), and for the solutions themselves with their certificates (`solve`). Gradients are
scaled to a largest entry of 1 inside, so that those of nearly certain predictions, however small,
keep their digits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from hessx import ops
from hessx.solve import fista
from hessx.solve.fista import Iterate, relative_gap
from hessx.solve.krylov import KrylovSpace, Product
from hessx.solve.prox_newton import LowRankSolution, prox_newton, shifted_gradient, solution
from hessx.solve.sparsity import pixel_magnitudes

# Certified solutions are appended to the basis at most so often.
_ROUNDS = 6


@dataclass(frozen=True)
class Solved:
    """Solutions of M programs for each of b rows.

    Attributes:
        delta: ``(b, M, d)``.
        lambda1, objective, gap: ``(b, M)`` float64.
    """

    delta: Tensor
    lambda1: Tensor
    objective: Tensor
    gap: Tensor

    def replaced(self, rows: Tensor, other: Solved) -> Solved:
        """Return these solutions with those of some rows replaced."""
        return Solved(
            self.delta.index_copy(0, rows, other.delta),
            self.lambda1.index_copy(0, rows, other.lambda1),
            self.objective.index_copy(0, rows, other.objective),
            self.gap.index_copy(0, rows, other.gap),
        )


class Trial(Protocol):
    """A solver that can be tried at any lambda1."""

    gradient: Tensor
    n_channels: int

    def pixels(self, lambda1: Tensor) -> Tensor:
        """Return the number of non-zero pixels of the solutions: ``(b, M)`` to ``(b, M)``."""
        ...

    def evaluate(self, lambda1: Tensor) -> tuple[Tensor, Tensor]:
        """Return the number of non-zero pixels and the objective of the solutions."""
        ...


# From a solver and the rows of the batch that it holds to lambda1 ``(b, M)``.
Select = Callable[[Trial, Tensor], Tensor]


@dataclass(frozen=True)
class Scaled:
    """Gradients with a largest entry of 1, and what they were multiplied with."""

    unit: Tensor
    scale: Tensor

    @classmethod
    def of(cls, gradient: Tensor) -> Scaled:
        """Scale each row; rows of zeros stay."""
        scale = gradient.abs().amax(-1, keepdim=True)
        scale = torch.where(scale > 0, scale, 1)
        return cls(gradient / scale, scale.double())


class FirstOrder:
    """CAFO: H is left out, and ``D = S(g, lambda1) / (2 lambda2)`` (Definition 2)."""

    def __init__(self, gradient: Tensor, lambda2: Tensor, n_channels: int):
        self.gradient, self.n_channels = gradient, n_channels
        self._lambda2 = lambda2

    def pixels(self, lambda1: Tensor) -> Tensor:
        """Return the number of non-zero pixels."""
        return _exceeding(self.gradient[:, None], lambda1, self.n_channels)

    def evaluate(self, lambda1: Tensor) -> tuple[Tensor, Tensor]:
        """Return the number of non-zero pixels and the objective."""
        return self.pixels(lambda1), self._objective(self._shrunk(lambda1), lambda1)

    def solve(self, lambda1: Tensor) -> Solved:
        """Return the solutions; they are exact."""
        shrunk = self._shrunk(lambda1)
        delta = shrunk / (2 * self._lambda2[..., None]).to(shrunk)
        return Solved(delta, lambda1, self._objective(shrunk, lambda1), torch.zeros_like(lambda1))

    def _shrunk(self, lambda1: Tensor) -> Tensor:
        shape = (*lambda1.shape, self.gradient.shape[1])
        point = self.gradient[:, None].expand(shape).reshape(-1, shape[-1])
        return ops.soft_threshold(point, lambda1.to(point).flatten()).view(shape)

    def _objective(self, shrunk: Tensor, lambda1: Tensor) -> Tensor:
        """Return ``|S(g, lambda1)|^2 / (4 lambda2)``."""
        return shrunk.double().square().sum(-1) / (4 * self._lambda2)


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

    def pixels(self, lambda1: Tensor) -> Tensor:
        """Return the number of non-zero pixels."""
        return self._counted(self.solution(lambda1), lambda1)

    def evaluate(self, lambda1: Tensor) -> tuple[Tensor, Tensor]:
        """Return the number of non-zero pixels and the objective."""
        found = self.solution(lambda1)
        quadratic = (found.z + found.defect).square().sum(-1)
        objective = found.objective(quadratic, self._unit(lambda1), self.lambda2)
        return self._counted(found, lambda1), objective * self._scaled.scale.square()

    def solve(self, lambda1: Tensor) -> Solved:
        """Return the solutions for H = basis^T basis."""
        found = self.solution(lambda1)
        residual = found.defect.to(self.basis) @ self.basis
        quadratic = (found.z + found.defect).square().sum(-1)
        return self._scaled_back(self._delta(found, lambda1), lambda1, found, quadratic, residual)

    def solve_in(self, space: KrylovSpace, lambda1: Tensor) -> tuple[Solved, Tensor, Tensor]:
        """Return the solutions for the H of a space, and vectors along them with their images.

        ``H D - basis^T z`` is a supergradient of the objective at D, so with its length rho strong
        concavity bounds the gap by ``rho^2 / (2 (2 lambda2 - L))``.
        """
        found = self.solution(lambda1)
        delta = self._delta(found, lambda1)
        images = space.product(delta)
        residual = images - found.z.to(delta) @ self.basis
        solved = self._scaled_back(delta, lambda1, found, _dot(delta, images), residual)
        return solved, delta, images

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

    def _delta(self, found: LowRankSolution, lambda1: Tensor) -> Tensor:
        unit = self._unit(lambda1)
        return solution(self.basis, self._scaled.unit, found.z, unit, self.lambda2)

    def _scaled_back(
        self,
        delta: Tensor,
        lambda1: Tensor,
        found: LowRankSolution,
        quadratic: Tensor,
        residual: Tensor,
    ) -> Solved:
        objective = found.objective(quadratic, self._unit(lambda1), self.lambda2)
        bound = _dot(residual, residual) / (2 * (2 * self.lambda2 - self.top))
        scale = self._scaled.scale
        return Solved(
            delta * scale[..., None].to(delta),
            lambda1,
            objective * scale.square(),
            relative_gap(bound, objective),
        )

    def solution(self, lambda1: Tensor) -> LowRankSolution:
        """Return the solutions in the unknowns of the basis, for gradients scaled to 1."""
        unit = self._scaled.unit
        return prox_newton(self.basis, unit, self._unit(lambda1), self.lambda2, self.tol / 10)

    def _counted(self, found: LowRankSolution, lambda1: Tensor) -> Tensor:
        point = shifted_gradient(self.basis, self._scaled.unit, found.z)
        return _exceeding(point, self._unit(lambda1), self.n_channels)

    def _unit(self, lambda1: Tensor) -> Tensor:
        return lambda1 / self._scaled.scale


def solve_certified(model: LowRank, space: KrylovSpace, select: Select) -> Solved:
    """Solve with a Krylov space's low-rank model; append solutions until the gap is small.

    A solution whose certificate misses the tolerance shows a direction in which the model lacks
    something, and its image is known already: both go into the space. Rows stop one by one.
    """
    rows = torch.arange(len(model.gradient), device=model.gradient.device)
    answer: Solved | None = None
    for last in (*[False] * _ROUNDS, True):
        lambda1 = select(model, rows)
        solved, delta, images = model.solve_in(space, lambda1)
        answer = solved if answer is None else answer.replaced(rows, solved)
        missed = solved.gap > model.tol
        left = missed.any(-1)
        if last or not left.any():
            break
        wanted = missed[left][..., None]
        rows, space = rows[left], space.rows(left)
        space.append(delta[left] * wanted, images[left] * wanted)
        model = model.rows(left, space.nystrom())
    assert answer is not None
    return answer


class Fista:
    """CASO by products with H alone, in as many iterations as are asked for.

    Args:
        gradient: ``(b, d)``.
        product: H of each row times vectors ``(b, M, d)``.
        lambda2: ``(b, 1)``.
        top, bottom: ``(b, 1)``, bounds of the eigenvalues of H.
        n_channels: Channels of a pixel.
        iterate: One of the two variants of `hessx.solve.fista`, with its number of iterations.
    """

    def __init__(
        self,
        gradient: Tensor,
        product: Product,
        lambda2: Tensor,
        top: Tensor,
        bottom: Tensor,
        n_channels: int,
        iterate: Callable[[fista.Program], Iterate],
    ):
        self.gradient, self.n_channels = gradient, n_channels
        self._product, self._iterate = product, iterate
        self._lambda2, self._top, self._bottom = lambda2, top, bottom
        self._scaled = Scaled.of(gradient)

    def pixels(self, lambda1: Tensor) -> Tensor:
        """Return the number of non-zero pixels."""
        return self.evaluate(lambda1)[0]

    def evaluate(self, lambda1: Tensor) -> tuple[Tensor, Tensor]:
        """Return the number of non-zero pixels and the objective."""
        solved = self.solve(lambda1)
        zero = torch.zeros_like(lambda1)
        return _exceeding(solved.delta, zero, self.n_channels), solved.objective

    def solve(self, lambda1: Tensor) -> Solved:
        """Return where the iterations stop."""
        scale = self._scaled.scale
        program = fista.Program(
            self._scaled.unit,
            self._product,
            lambda1 / scale,
            self._lambda2,
            self._top,
            self._bottom,
        )
        found = self._iterate(program)
        return Solved(
            found.delta * scale[..., None].to(found.delta),
            lambda1,
            found.objective * scale.square(),
            found.gap,
        )


def _exceeding(point: Tensor, lambda1: Tensor, n_channels: int) -> Tensor:
    """Count the pixels of ``S(point, lambda1)`` that are not zero."""
    above = pixel_magnitudes(point, n_channels) > lambda1[..., None].to(point)
    return above.sum(-1)


def _dot(x: Tensor, y: Tensor) -> Tensor:
    return (x * y).sum(-1, dtype=torch.float64)
