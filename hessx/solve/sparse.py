"""Solvers of the sparse program on some rows of a batch: what they share, CAFO, and FISTA.

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
from hessx.solve.fista import Iterate
from hessx.solve.krylov import Product
from hessx.solve.products import dot
from hessx.solve.sparsity import pixel_magnitudes


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

    def improved(self, rows: Tensor, other: Solved) -> Solved:
        """Return these solutions with those of some rows replaced where their gap is smaller."""
        better = other.gap < self.gap[rows]

        def merged(name: str) -> Tensor:
            mine, theirs = getattr(self, name), getattr(other, name)
            choose = better[(...,) + (None,) * (mine.dim() - 2)]
            return mine.index_copy(0, rows, torch.where(choose, theirs, mine[rows]))

        return Solved(*(merged(name) for name in ("delta", "lambda1", "objective", "gap")))


class Trial(Protocol):
    """A solver that can be tried at any lambda1."""

    gradient: Tensor

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
        return count_exceeding(self.gradient[:, None], lambda1, self.n_channels)

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
        return dot(shrunk, shrunk) / (4 * self._lambda2)


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
        return count_exceeding(solved.delta, zero, self.n_channels), solved.objective

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


def count_exceeding(point: Tensor, lambda1: Tensor, n_channels: int) -> Tensor:
    """Count the pixels of ``S(point, lambda1)`` that are not zero."""
    above = pixel_magnitudes(point, n_channels) > lambda1[..., None].to(point)
    return above.sum(-1)
