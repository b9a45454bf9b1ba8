"""The total-variation program by Douglas-Rachford steps on its edges: any device, any batch.

``T z = z - a + D (D^T D)^+ D^T (2 a - z)`` with ``a = clip(S(z, 1 / rho), c - R, c + R)``: where
``T z = z``, ``a = D g`` for the solution g, and ``rho (a - z)`` is its dual flow. T is applied in
the reflected Halpern iteration with restarts and balanced weights (Lu and Yang, "Restarted Halpern
PDHG for linear programming", 2024). Each row of a batch restarts, and stops, on its own.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from hessx import ops
from hessx.solve.tv.certificate import (
    circulation,
    difference,
    dual_value,
    feasible,
    largest,
    relative_gap,
    without_mean,
)
from hessx.solve.tv.solution import TVSolution

# Steps between two certificates, each of which costs about two.
_CERTIFICATE_EVERY = 20
# A row restarts when the residual fell to the first factor of what it was at the last restart, or
# to the second and grows again, or when the run is longer than the third of all steps so far: the
# constants of the paper above.
_SUFFICIENT, _NECESSARY, _LONG = 0.2, 0.8, 0.36
# rho, where it starts and its range: in units of 1 / mean|c|, and at least in units of 1 / R, as
# flows are some units large and no a moves farther than 2 R. Measured at 28 x 28 and 56 x 56 for L
# of .05 to .3 of L_max: with a rho that never changes, steps are 1.3 to 3 times as many, and some
# rows do not reach a gap of 1e-6 at all.
_START, _LEAST, _MOST = (30.0, 1.0), (5.0, 0.1), (4000.0, 100.0)
# The most that a restart may multiply rho by, where a has not moved or moved alone.
_LEAP = 10.0


def first_order(estimate: Tensor, radius: Tensor, tol: float, max_iterations: int) -> TVSolution:
    """Solve to a relative gap of ``tol``, in float64: float32 stalls at gaps of 1e-5 to 1e-4.

    Args:
        estimate: ``(N, p1, p2)``, finite.
        radius: ``(N, M)`` float64, finite, >= 0.
        tol: Relative gap.
        max_iterations: Most steps.
    """
    size = *radius.shape, *estimate.shape[1:]
    estimate = estimate.double()[:, None].expand(size).flatten(0, 1)
    centre, radius = difference(estimate), radius.flatten()
    estimate = without_mean(estimate)
    # In units of a power of 2, so that the way there and back is exact.
    scale = torch.ldexp(torch.ones_like(radius), torch.frexp(largest(centre)).exponent)
    estimate, centre = estimate / scale[:, None, None], centre / scale[:, None]
    best = _Best(estimate, centre, radius / scale)
    rows = _Rows.started(estimate, centre, radius / scale).kept(best.unsolved(tol))
    for step in range(1, max_iterations + 1):
        if not len(rows.index):
            break
        potential = rows.potential()
        if step % _CERTIFICATE_EVERY == 0 or step == max_iterations:
            best.improve(rows, potential, step)
            due = best.unsolved(tol)[rows.index]
            if not due.all():
                rows, potential = rows.kept(due), potential[due]
        rows.step(potential, step)
    solution = (without_mean(best.solution) * scale[:, None, None]).reshape(size)
    return TVSolution(
        solution,
        (best.objective * scale).reshape(size[:2]),
        best.gap().reshape(size[:2]),
        best.flow.unflatten(0, size[:2]),
        best.iterations.reshape(size[:2]),
        "first-order",
    )


@dataclass
class _Rows:
    """The iteration of the programs that are not solved yet, a row each, all float64.

    Attributes:
        index: ``(B,)``, their places among all programs.
        estimate: ``(B, p1, p2)``.
        centre: ``(B, m)``, ``D estimate``.
        radius: ``(B,)``.
        z: ``(B, m)``.
        anchor: ``(B, m)``, the z of the last restart.
        threshold: ``(B,)``, ``1 / rho``.
        age: ``(B,)``, steps since the last restart.
        first: ``(B,)``, ``|T z - z|`` in the first step since then.
        last: ``(B,)``, ``|T z - z|`` in the last step.
    """

    index: Tensor
    estimate: Tensor
    centre: Tensor
    radius: Tensor
    z: Tensor
    anchor: Tensor
    threshold: Tensor
    age: Tensor
    first: Tensor
    last: Tensor

    @classmethod
    def started(cls, estimate: Tensor, centre: Tensor, radius: Tensor) -> _Rows:
        """Start all programs from the numbers next to 0 in their boxes."""
        index = torch.arange(len(centre), device=centre.device)
        zero, infinite = torch.zeros_like(radius), torch.full_like(radius, torch.inf)
        z = ops.edge_prox(torch.zeros_like(centre), centre, radius, zero)
        threshold = 1 / _weight(_START, centre, radius)
        return cls(
            index, estimate, centre, radius, z, z.clone(), threshold, zero, infinite, infinite
        )

    def kept(self, mask: Tensor) -> _Rows:
        """Return the rows of a mask."""
        return _Rows(*(getattr(self, field.name)[mask] for field in fields(self)))

    def potential(self) -> Tensor:
        """Return ``(D^T D)^+ D^T (2 a - z)``."""
        p1, p2 = self.estimate.shape[1:]
        divergence = ops.edge_divergence(self.z, self.centre, self.radius, self.threshold, p1, p2)
        return ops.grid_spectral(divergence, -1.0, 0.0)

    def flow(self) -> Tensor:
        """Return ``rho (a - z)``, a circulation at the solution."""
        a = ops.edge_prox(self.z, self.centre, self.radius, self.threshold)
        return (a - self.z) / self.threshold[:, None]

    def step(self, potential: Tensor, step: int) -> None:
        """Take a step of the iteration, the step-th of all, and restart rows where that is due."""
        weight = (self.age + 1) / (self.age + 2)
        self.z, square = ops.edge_update(
            self.z,
            self.anchor,
            self.centre,
            potential,
            self.radius,
            self.threshold,
            weight,
            out=self.z,
        )
        residual = square.sqrt()
        self.first = torch.where(self.age == 0, residual, self.first)
        decayed = residual <= _SUFFICIENT * self.first
        grows = (residual <= _NECESSARY * self.first) & (residual > self.last)
        due = (self.age > 0) & (decayed | grows | (self.age >= _LONG * step))
        self.last = torch.where(due, torch.inf, residual)
        self.age = torch.where(due, 0, self.age + 1)
        if len(index := due.nonzero().squeeze(1)):
            self._restart(index)

    def _restart(self, index: Tensor) -> None:
        """Make z the anchor, with another rho: then the first step, of weight 1/2, goes to T z.

        The ratio of how far the flow and a went since the last restart is the rho that balances
        them; the geometric mean of it and the last rho is taken. z changes so that a and the flow
        stay.
        """
        centre, radius, threshold = self.centre[index], self.radius[index], self.threshold[index]
        z, anchor = self.z[index], self.anchor[index]
        a, before = (ops.edge_prox(x, centre, radius, threshold) for x in (z, anchor))
        ratio = ((z - a) - (anchor - before)).norm(dim=1) / (a - before).norm(dim=1)
        leap = ratio.sqrt().nan_to_num(1.0, _LEAP).clamp(1 / _LEAP, _LEAP)
        low, high = (_weight(units, centre, radius) for units in (_LEAST, _MOST))
        new = (threshold / leap).clamp(1 / high, 1 / low)
        z = a + (new / threshold)[:, None] * (z - a)
        self.z[index], self.anchor[index], self.threshold[index] = z, z, new


class _Best:
    """The best feasible point and the best flow that each program has seen."""

    def __init__(self, estimate: Tensor, centre: Tensor, radius: Tensor):
        zero = (radius >= largest(centre))[:, None]
        self.solution = torch.where(zero[..., None], 0, estimate)
        self.objective = torch.where(zero, 0, centre).abs().sum(1)
        self.flow = torch.zeros_like(centre)
        self.dual = dual_value(self.flow, centre, radius)
        self.iterations = torch.zeros_like(radius, dtype=torch.int64)
        # Close to the radius from which on the optimum is 0, rounding keeps its relative gap up.
        self.rounding = 8 * torch.finfo(centre.dtype).eps * centre.abs().sum(1)

    def gap(self) -> Tensor:
        """Return ``(B,)``, the relative gap of each program."""
        return relative_gap(self.objective, self.dual)

    def unsolved(self, tol: float) -> Tensor:
        """Return ``(B,)``, which programs have a larger gap than tol that is no rounding."""
        return (self.gap() > tol) & (self.objective - self.dual > self.rounding)

    def improve(self, rows: _Rows, potential: Tensor, step: int) -> None:
        """Take what is better in a step of some programs."""
        point = feasible(potential, rows.estimate, rows.radius)
        objective = difference(point).abs().sum(1)
        better = objective < self.objective[rows.index]
        index = rows.index[better]
        self.solution[index], self.objective[index] = point[better], objective[better]
        flow = circulation(rows.flow(), *point.shape[1:])
        dual = dual_value(flow, rows.centre, rows.radius)
        better = dual > self.dual[rows.index]
        index = rows.index[better]
        self.flow[index], self.dual[index] = flow[better], dual[better]
        self.iterations[rows.index] = step


def _weight(units: tuple[float, float], centre: Tensor, radius: Tensor) -> Tensor:
    return torch.maximum(units[0] / centre.abs().mean(1), units[1] / radius)
