"""How CASO and CAFO are solved for some rows of the batch: bounds, low-rank models, solvers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from hessx import ops
from hessx.explain.curvature import Curvature, random_start
from hessx.explain.settings import Settings
from hessx.query import LossQuery
from hessx.run import check_choice, check_int, check_positive
from hessx.solve.fista import Iterate, Program, fista_backtracking, fista_constant
from hessx.solve.krylov import KrylovSpace
from hessx.solve.low_rank import LowRank, solve_certified
from hessx.solve.sparse import FirstOrder, Fista, Solved, Trial
from hessx.solve.spectrum import gram_bound, gram_spectrum, top_space

SOLVERS = ("newton", "fista", "fista-constant")

# The most vectors of a first Krylov space.
MOST_VECTORS = 32
# Of the bound of the largest eigenvalue, relative: lambda2 takes half of it.
_BOUND_RTOL = 1e-2
# "for 10 iterations" (section 4).
_PAPER_ITERATIONS = 10
_CONSTANT_ITERATIONS = 500


@dataclass(frozen=True)
class Part:
    """Finished rows of the batch.

    Attributes:
        gradient: ``(b, d)``.
        solved: Their solutions.
        lambda2: ``(b, 1)``.
        bound: ``(b,)``, the upper bound of the largest eigenvalue, nan where none was needed.
    """

    gradient: Tensor
    solved: Solved
    lambda2: Tensor
    bound: Tensor


@dataclass(frozen=True)
class Engine(ABC):
    """A way to solve the program.

    Attributes:
        exact: Whether products are with the whole Hessian.
        method: ``"cafo"`` or ``"caso"``.
    """

    exact: bool = False
    method: ClassVar[str] = "caso"

    @abstractmethod
    def __call__(self, curvature: Curvature, settings: Settings, seed: int) -> Part:
        """Solve for some rows of the batch."""

    def asks_products(self, settings: Settings) -> bool:
        """Say whether more than the gradient is needed."""
        return True

    def hessian(self, query: LossQuery) -> str:
        """Name the Hessian that the solutions belong to."""
        return query.hessian


@dataclass(frozen=True)
class FirstOrderEngine(Engine):
    """CAFO, in closed form."""

    method: ClassVar[str] = "cafo"

    def __call__(self, curvature: Curvature, settings: Settings, seed: int) -> Part:
        """Solve for some rows of the batch; the Hessian is asked only for what lambda2 needs."""
        rows = curvature.rows
        if settings.lambda2 is None:
            bound = _Spectrum.of(curvature, settings, seed).bound
            lambda2 = settings.weight2(bound, rows)
        else:
            lambda2 = settings.lambda2[rows]
            bound = torch.full_like(lambda2[:, 0], torch.nan)
        solver = FirstOrder(curvature.gradient, lambda2, settings.n_channels)
        solved = solver.solve(settings.select(solver, rows))
        return Part(curvature.gradient, solved, lambda2, bound)

    def asks_products(self, settings: Settings) -> bool:
        """Only for the bound that sets lambda2."""
        return settings.lambda2 is None

    def hessian(self, query: LossQuery) -> str:
        """Return ``"none"``."""
        return "none"


@dataclass(frozen=True)
class NewtonEngine(Engine):
    """CASO in low rank, with a certificate."""

    tol: float = 1e-4

    def __call__(self, curvature: Curvature, settings: Settings, seed: int) -> Part:
        """Solve for some rows of the batch."""
        rows = curvature.rows
        if curvature.indefinite:
            raise ValueError(
                'solver="newton" needs a positive semidefinite Hessian: with exact=True and a '
                'model that is not piecewise linear take solver="fista" or "fista-constant"'
            )
        spectrum = _Spectrum.of(curvature, settings, seed)
        lambda2 = settings.weight2(spectrum.bound, rows)
        model = LowRank(
            curvature.gradient,
            spectrum.basis,
            lambda2,
            spectrum.bound[:, None],
            settings.n_channels,
            self.tol,
        )

        def select(trial: Trial, some: Tensor) -> Tensor:
            return settings.select(trial, rows[some])

        if spectrum.space is None:
            every = torch.arange(len(rows), device=rows.device)
            solved = model.solve(select(model, every))
        else:
            solved = solve_certified(model, spectrum.space, select)
        return Part(curvature.gradient, solved, lambda2, spectrum.bound)


@dataclass(frozen=True)
class FistaEngine(Engine):
    """CASO by products alone."""

    iterate: Callable[[Program], Iterate] = field(kw_only=True)

    def __call__(self, curvature: Curvature, settings: Settings, seed: int) -> Part:
        """Solve for some rows of the batch."""
        rows = curvature.rows
        spectrum = _Spectrum.of(curvature, settings, seed)
        lambda2 = settings.weight2(spectrum.bound, rows)
        solver = Fista(
            curvature.gradient,
            curvature.product,
            lambda2,
            spectrum.bound[:, None],
            spectrum.bottom[:, None],
            settings.n_channels,
            self.iterate,
        )
        solved = solver.solve(settings.select(solver, rows))
        return Part(curvature.gradient, solved, lambda2, spectrum.bound)


def second_order_engine(solver: str, n_iter: int | None, tol: float, exact: bool) -> Engine:
    """Return the solver of CASO that was asked for.

    Raises:
        TypeError: If an argument is of a wrong type.
        ValueError: If one is out of range, or does not go with the solver.
    """
    check_choice("solver", solver, SOLVERS)
    check_positive("tol", tol)
    if not isinstance(exact, bool):
        raise TypeError(f"exact must be a bool, got {exact!r}")
    if n_iter is not None:
        check_int("n_iter", n_iter, 1)
    if solver == "newton":
        if n_iter is not None:
            raise ValueError('n_iter must be None for solver="newton", which stops at tol')
        return NewtonEngine(exact, tol)
    if solver == "fista":
        iterate = partial(fista_backtracking, n_iter=n_iter or _PAPER_ITERATIONS)
        return FistaEngine(exact, iterate=iterate)
    most = n_iter or _CONSTANT_ITERATIONS
    return FistaEngine(exact, iterate=partial(fista_constant, n_iter=most, tolerance=tol))


@dataclass(frozen=True)
class _Spectrum:
    """Bounds of the eigenvalues of H, and what low-rank models of it come from.

    Attributes:
        bound: ``(b,)``, above.
        bottom: ``(b,)``, below; 0 where H is positive semidefinite.
        factor: ``(b, c, d)`` with ``factor^T factor = H``, or None.
        space: Where there is no factor.
    """

    bound: Tensor
    bottom: Tensor
    factor: Tensor | None
    space: KrylovSpace | None

    @property
    def basis(self) -> Tensor:
        """``(b, r, d)`` with ``basis^T basis <= H``, equal where there is a factor."""
        if self.space is None:
            assert self.factor is not None
            return self.factor
        return self.space.nystrom()

    @classmethod
    def of(cls, curvature: Curvature, settings: Settings, seed: int) -> _Spectrum:
        """Take all class gradients where they are few, else a Krylov space."""
        factor = curvature.factor()
        if factor is not None:
            values, _ = gram_spectrum(ops.gram(factor))
            bound = gram_bound(values, factor.dtype)
            return cls(bound, torch.zeros_like(bound), factor, None)
        rows = curvature.rows
        limit = None if settings.lambda2 is None else 2 * settings.lambda2[rows, 0]
        start = random_start(curvature.gradient, seed)
        fewest = curvature.first_space
        found = top_space(curvature.product, start, 1, _BOUND_RTOL, fewest, MOST_VECTORS, limit)
        bottom = torch.zeros_like(found.bound)
        if curvature.indefinite:
            # The lower end has not been waited for: no lower than the upper end is high.
            bottom = torch.minimum(found.bottom(), -found.bound.abs())
        return cls(found.bound.clamp(min=0), bottom, None, found.space)
