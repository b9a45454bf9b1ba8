"""The coordinates that answer perturbations best, from the answers of a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hessx.explain.perturbed import Draws, block_size, draws_of_call, draws_of_law
from hessx.perturb import BoundPerturbation
from hessx.perturb.squares import BoundSquares
from hessx.query import BlackBoxQuery
from hessx.run import Run
from hessx.score.perturb_call import PerturbCall
from hessx.solve.least_squares.moments import DifferenceMoments, DrawMoments
from hessx.solve.least_squares.second_moment import (
    DENSE_UP_TO,
    DrawnMoment,
    MatrixMoment,
    SecondMoment,
    SquaresMoment,
)
from hessx.solve.least_squares.squares import SquareMoments
from hessx.solve.least_squares.system import Solution, System


@dataclass(frozen=True)
class Fit:
    """Optimal coordinates of B inputs and T targets.

    Attributes:
        solution: Of ``(B, T, k)``.
        square: ``E[d^2]``, ``(B, T)``: the infidelity of 0.
    """

    solution: Solution
    square: Tensor

    @property
    def residual(self) -> Tensor:
        """``(B, T)``, infidelity relative to that of 0; 0 where nothing is to be explained."""
        return self.solution.infidelity / torch.where(self.square > 0, self.square, 1.0)

    @classmethod
    def joined(cls, parts: list[Fit]) -> Fit:
        """Return those of several groups of inputs."""
        solutions = [part.solution for part in parts]
        solution = Solution(
            torch.cat([s.w for s in solutions]),
            torch.cat([s.infidelity for s in solutions]),
            torch.cat([s.condition for s in solutions]),
            torch.cat([s.ridge for s in solutions]),
        )
        return cls(solution, torch.cat([part.square for part in parts]))


def fit_law(
    query: BlackBoxQuery, law: BoundPerturbation, n: int | None, ridge: float | None, run: Run
) -> Fit:
    """Fit the first n draws of a law, or, with None, all perturbations that it lists.

    Args:
        query: The model.
        law: Of the perturbations, bound to the inputs of the query.
        n: How many.
        ridge: None to decide by the condition.
        run: The call's common arguments.
    """
    n_rows, n_targets = query.value.shape
    k, total = law.n_coordinates, law.size if n is None else n
    assert total is not None
    device = law.inputs.device
    dense = k <= DENSE_UP_TO
    # The second moment, a shifted copy and its factor; a block in two precisions. A row has sums,
    # a solution and their intermediates, and the differences of a block, or of all squares.
    shared = (3 * 8 * k * k if dense else 0) + 12 * block_size(k) * k
    numbers = (4 if dense else 12) * k + (block_size(k) if n is not None else total)
    at_once = run.rows_in_memory(
        8 * n_targets * numbers, device, f"{k} coordinates", shared_bytes=shared
    )
    fit = _ListedSquaresFit(law) if n is None and isinstance(law, BoundSquares) else _LawFit(law, n)
    with run.progress(n_rows * (total + law.completes), "optimal explanation", "call") as bar:
        every = torch.arange(n_rows, device=device)
        return Fit.joined([fit(query, rows, ridge, bar) for rows in every.split(at_once)])


def fit_calls(
    query: BlackBoxQuery, call: PerturbCall, n: int, ridge: float | None, run: Run
) -> Fit:
    """Fit the n perturbations that a function draws for each input: each has a moment of its own.

    Args:
        query: The model.
        call: The function.
        n: How many.
        ridge: None to decide by the condition.
        run: The call's common arguments.
    """
    inputs = call.inputs[0]
    n_rows, n_targets = query.value.shape
    d = inputs[0].numel()
    kept = 3 * 8 * d * d if d <= DENSE_UP_TO else n * inputs[0].nbytes
    run.rows_in_memory(
        kept + 8 * n_targets * (12 * d + n), inputs.device, f"{n} perturbations of {d} numbers"
    )
    with run.progress(n_rows * n, "optimal explanation", "call") as bar:
        every = torch.arange(n_rows, device=inputs.device)
        return Fit.joined(
            [_fit_call(query, call, row, n, ridge, run, bar) for row in every.split(1)]
        )


def _fit_call(
    query: BlackBoxQuery,
    call: PerturbCall,
    row: Tensor,
    n: int,
    ridge: float | None,
    run: Run,
    bar: Any,
) -> Fit:
    """Fit the perturbations of one input ``row (1,)``."""
    d = call.inputs[0][0].numel()
    dense = d <= DENSE_UP_TO
    moments = DrawMoments(d, row.device, diagonal=not dense)
    sums = DifferenceMoments(d, query.value.shape[1], row.device)
    # A function cannot be asked for the same draws again.
    kept: list[tuple[Tensor, None]] = []
    for draws in draws_of_call(call, row, n, run.seed):
        moments.add(draws.u, None)
        sums.add(draws.u, draws.differences(query, row, bar).flatten(1), None)
        if not dense:
            kept.append((draws.u, None))
    moment = MatrixMoment(moments.second) if dense else DrawnMoment(lambda: kept, moments, n)
    system = System(sums.cross[None], sums.square[None], sums.mean[None])
    return Fit(moment.solve(system, ridge), system.square)


class _LawFit:
    """Fits of a law; the second moment is made once, for all inputs."""

    def __init__(self, law: BoundPerturbation, n: int | None):
        self._law = law
        self._n = n
        self._moment: SecondMoment | None = None
        self._moments = DrawMoments(
            law.n_coordinates,
            law.inputs.device,
            centred=law.shift(torch.arange(1, device=law.inputs.device)) is not None,
            binary=law.binary,
            diagonal=law.n_coordinates > DENSE_UP_TO,
        )

    def __call__(self, query: BlackBoxQuery, rows: Tensor, ridge: float | None, bar: Any) -> Fit:
        law, shape = self._law, (len(rows), query.value.shape[1])
        sums = DifferenceMoments(law.n_coordinates, shape[0] * shape[1], rows.device)
        for draws in draws_of_law(law, self._n):
            if self._moment is None:
                self._moments.add(draws.u, draws.weights)
            change = draws.differences(query, rows, bar).flatten(1)
            sums.add(self._moments.about_centre(draws.u), change, draws.weights)
        if self._moment is None:
            self._moment = self._made()
        cross, offset, shift = sums.cross, None, law.shift(rows)
        if shift is not None:
            cross = cross - torch.outer(sums.mean, self._moments.deviation)
            offset = shift.double() + self._moments.mean
        system = System(
            cross.unflatten(0, shape),
            sums.square.unflatten(0, shape),
            sums.mean.unflatten(0, shape),
            offset,
            _total(query, law, rows, bar),
            law.reachable(rows),
        )
        return Fit(self._moment.solve(system, ridge), system.square)

    def _made(self) -> SecondMoment:
        law, n, moments = self._law, self._n, self._moments
        if law.n_coordinates <= DENSE_UP_TO:
            return MatrixMoment(moments.second)
        if isinstance(law, BoundSquares):
            assert law.size is not None
            assert n is not None
            counts = torch.bincount(law.numbers(0, n), minlength=law.size).double()
            return SquaresMoment(SquareMoments(*law.grid, law.sides), counts)
        size = law.size if n is None else n
        assert size is not None
        return DrawnMoment(lambda: ((d.u, d.weights) for d in draws_of_law(law, n)), moments, size)


class _ListedSquaresFit:
    """Fits of all squares, whose second moment is known."""

    def __init__(self, law: BoundSquares):
        self._law = law
        self._squares = SquareMoments(*law.grid, law.sides)

    def __call__(self, query: BlackBoxQuery, rows: Tensor, ridge: float | None, bar: Any) -> Fit:
        blocks = [draws.differences(query, rows, bar) for draws in draws_of_law(self._law, None)]
        differences = torch.cat(blocks).permute(1, 2, 0).contiguous()
        shape = differences.shape[:2]
        system = System(
            self._squares.moment(differences.flatten(0, 1)).unflatten(0, shape),
            differences.square().mean(-1),
            differences.mean(-1),
            reachable=self._law.reachable(rows),
        )
        return Fit(SquaresMoment(self._squares).solve(system, ridge), system.square)


def _total(query: BlackBoxQuery, law: BoundPerturbation, rows: Tensor, bar: Any) -> Tensor | None:
    """Return ``f(x) - f(baseline)``, ``(R, T)``, where coordinates have to add up to it."""
    if not law.completes:
        return None
    everything = Draws(torch.ones_like(law.draw(0, 1)), None, law)
    return everything.differences(query, rows, bar)[0]
