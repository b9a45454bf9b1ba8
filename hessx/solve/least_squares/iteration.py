"""Least-squares explanations of many coordinates, whose second moment is never formed."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from hessx.solve.least_squares.conjugate_gradients import Product, conjugate_gradients
from hessx.solve.least_squares.system import Solution, System

# Of the normal equations; differences of float32 outputs have fewer digits.
_TOLERANCE = 1e-9
_MAX_ITERATIONS = 1000


def iterate(
    system: System, product: Product, inverse: Product, ridge: float, condition: float
) -> Solution:
    """Solve by conjugate gradients, from 0: towards the smallest of several solutions.

    Args:
        system: The right-hand sides.
        product: The second moment applied to rows, ``(c, k)`` to ``(c, k)``.
        inverse: A symmetric positive definite matrix near its inverse, applied in the same way.
        ridge: What to add to it.
        condition: What is known of its condition.

    Returns:
        The solution; a warning is given where it is not reached.
    """
    constraint = _Constraint(system)

    def normal(v: Tensor) -> Tensor:
        image = product(v).add_(v, alpha=ridge)
        return constraint.add_offsets(image, v)

    start = constraint.start
    rhs = constraint.rhs - normal(start)
    found = conjugate_gradients(
        lambda v: constraint.project(normal(v)),
        constraint.project(rhs),
        preconditioner=lambda r: constraint.project(inverse(r)),
        tolerance=_TOLERANCE,
        max_iterations=_MAX_ITERATIONS,
    )
    if not (found.residual <= 10 * _TOLERANCE).all():
        warnings.warn(
            f"conjugate gradients stopped after {found.iterations} iterations at a relative "
            f"residual of {found.residual.max().item():.1e}: a ridge would help",
            RuntimeWarning,
            stacklevel=2,
        )
    flat = start + found.solution
    w = flat.view_as(system.cross)
    n_rows = len(w)
    return Solution(
        w,
        system.infidelity(w, product(flat).view_as(w)),
        torch.full((n_rows,), condition, dtype=torch.float64, device=w.device),
        torch.full((n_rows,), ridge, dtype=torch.float64, device=w.device),
    )


class _Constraint:
    """The space that the coordinates move in, and what each input adds to the second moment.

    Args:
        system: As for `iterate`.

    Attributes:
        start: ``(c, k)``: the smallest coordinates with the totals that are asked for.
        rhs: ``(c, k)`` of the normal equations.
    """

    def __init__(self, system: System):
        n_rows, n_targets, k = system.cross.shape
        cross, offset, reachable = system.cross, system.offset, system.reachable
        if offset is not None:
            cross = cross + system.mean[..., None] * offset[:, None]
        self.rhs = cross.flatten(0, 1)
        self._n_targets = n_targets
        self._offset = offset
        self._free = None if reachable is None else self._of_targets(reachable.double())
        self._ones: Tensor | None = None
        self.start = torch.zeros_like(self.rhs)
        if system.total is not None:
            ones = self.rhs.new_ones(n_rows * n_targets, k) if self._free is None else self._free
            self._ones = ones / ones.sum(1, keepdim=True).clamp(min=1).sqrt()
            counts = ones.sum(1, keepdim=True).clamp(min=1)
            self.start = ones * system.total.reshape(-1, 1) / counts

    def project(self, v: Tensor) -> Tensor:
        """Return the part of ``v (c, k)`` that the coordinates can move along."""
        if self._free is not None:
            v = v * self._free
        if self._ones is not None:
            v = v - (v * self._ones).sum(1, keepdim=True) * self._ones
        return v

    def add_offsets(self, image: Tensor, v: Tensor) -> Tensor:
        """Return ``image + m m^T v`` with each input's m."""
        if self._offset is None:
            return image
        m = self._of_targets(self._offset)
        return image + (m * v).sum(1, keepdim=True) * m

    def _of_targets(self, x: Tensor) -> Tensor:
        return x.repeat_interleave(self._n_targets, dim=0)
