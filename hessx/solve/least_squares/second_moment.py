"""Second moments of perturbations, as a matrix or by their products, and what solves with them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from hessx import ops
from hessx.solve.least_squares.iteration import iterate
from hessx.solve.least_squares.moments import DrawMoments
from hessx.solve.least_squares.squares import SquareMoments
from hessx.solve.least_squares.system import Solution, System, solve

# Coordinates up to which a second moment is formed.
DENSE_UP_TO = 4096


class SecondMoment(ABC):
    """``M = E u u^T``, or the covariance of u for systems with an offset."""

    @abstractmethod
    def solve(self, system: System, ridge: float | None) -> Solution:
        """Solve a system, with a ridge or, with None, one that its condition asks for."""


class MatrixMoment(SecondMoment):
    """One that is formed.

    Args:
        matrix: ``M (k, k)``, float64.
    """

    def __init__(self, matrix: Tensor):
        self._matrix = matrix

    def solve(self, system: System, ridge: float | None) -> Solution:
        """See :meth:`SecondMoment.solve`."""
        return solve(system, self._matrix, ridge)


class DrawnMoment(SecondMoment):
    """One of drawn perturbations that are gone through anew for every product.

    Args:
        draws: Gives the draws ``(count, k)`` and their weights block by block, each time it is
            called.
        moments: Of them, with the diagonal.
        n: How many there are.
    """

    def __init__(
        self,
        draws: Callable[[], Iterable[tuple[Tensor, Tensor | None]]],
        moments: DrawMoments,
        n: int,
    ):
        self._draws = draws
        self._moments = moments
        self._n = n

    def solve(self, system: System, ridge: float | None) -> Solution:
        """See :meth:`SecondMoment.solve`: by conjugate gradients, without a ridge of their own."""
        diagonal = self._moments.second
        undetermined = self._n < len(diagonal)
        if undetermined:
            # Of several solutions only plain conjugate gradients find the smallest.
            diagonal = torch.ones_like(diagonal)
        scale = (diagonal + (ridge or 0.0)).clamp(min=torch.finfo(diagonal.dtype).tiny)
        condition = torch.inf if undetermined else torch.nan
        return iterate(system, self.apply, lambda r: r / scale, ridge or 0.0, condition)

    def apply(self, v: Tensor) -> Tensor:
        """Return ``M v``: ``(c, k)`` to ``(c, k)``, float64."""
        total = torch.zeros_like(v)
        for u, weights in self._draws():
            about = self._moments.about_centre(u)[None]
            nothing = v.new_zeros(1, len(u), len(v))
            total += ops.perturbation_gradient(about, v[None], nothing, weights)[0][0]
        total /= self._moments.weight
        if self._moments.centred:
            rest = self._moments.deviation
            total -= torch.outer(v @ rest, rest)
        return total


class SquaresMoment(SecondMoment):
    """One of squares: all of them, or some with the numbers of times that each was drawn.

    Args:
        squares: The law.
        counts: ``(N,)``, float64, or None for all of them once.
    """

    def __init__(self, squares: SquareMoments, counts: Tensor | None = None):
        self._squares = squares
        self._counts = counts

    def solve(self, system: System, ridge: float | None) -> Solution:
        """See :meth:`SecondMoment.solve`."""
        n_rows, _, k = system.cross.shape
        device = system.cross.device
        everything = self._counts is None
        if everything and system.reachable is None:
            chosen = "auto" if ridge is None else ridge
            found = self._squares.solve(system.cross.flatten(0, 1), ridge=chosen)
            w = found.solution.view_as(system.cross)
            image = self.apply(found.solution).view_as(w)
            helped = ridge is None and found.ridge > 0
            known = w.new_tensor([torch.inf if helped else found.condition, found.ridge])
            return Solution(w, system.infidelity(w, image), *known[:, None].expand(2, n_rows))
        if everything and k <= DENSE_UP_TO:
            return solve(system, self._squares.gram(device), ridge)
        inverse, _ = self._squares.circulant_inverse(ridge or 0.0, device)
        return iterate(system, self.apply, inverse, ridge or 0.0, torch.nan)

    def apply(self, v: Tensor) -> Tensor:
        """Return ``M v``: ``(c, k)`` to ``(c, k)``, float64."""
        dots = self._squares.dots(v)
        if self._counts is not None:
            dots *= self._counts * (len(self._counts) / self._counts.sum())
        return self._squares.moment(dots)
