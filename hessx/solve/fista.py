"""The sparse quadratic program by accelerated proximal steps on products with H.

maximise over D:  g^T D + D^T H D / 2 - lambda1 |D|_1 - lambda2 |D|_2^2
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from hessx import ops
from hessx.solve.certificate import relative_gap
from hessx.solve.products import dot

# "a learning rate of 0.1 ... and decay factor of 0.5" (section 4).
_LEARNING_RATE = 0.1
_DECAY = 0.5
# A step of 1 / (2 lambda2) meets the condition of the line search with equality in directions that
# H does not see: rounding must not decide there.
_SLACK = 1e-5


# Tensors that a step writes its point and the extrapolated one to.
Buffers = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Iterate:
    """Where the iterations stopped, for M programs of each of B rows.

    Attributes:
        delta: ``(B, M, d)``.
        objective: ``(B, M)`` float64.
        gap: ``(B, M)`` float64, an upper bound of the relative gap of the objective.
    """

    delta: Tensor
    objective: Tensor
    gap: Tensor


@dataclass(frozen=True)
class Program:
    """M programs for each of B rows.

    Attributes:
        gradient: ``(B, d)``.
        product: From ``(B, M, d)`` to ``(B, M, d)``.
        lambda1: ``(B, M)`` float64, >= 0.
        lambda2: ``(B, 1)`` float64, above half the largest eigenvalue.
        top, bottom: ``(B, 1)`` float64, bounds of the eigenvalues of H.
    """

    gradient: Tensor
    product: Callable[[Tensor], Tensor]
    lambda1: Tensor
    lambda2: Tensor
    top: Tensor
    bottom: Tensor

    def start(self) -> tuple[_Point, _Point, Buffers]:
        """Return two points at zero, and memory for two more: steps take turns in it."""
        shape = (*self.lambda1.shape, self.gradient.shape[1])
        sums = self.gradient.new_zeros(*self.lambda1.shape, 5, dtype=torch.float64)
        image = self.gradient.new_zeros(shape)
        x, y = (_Point(self.gradient.new_zeros(shape), image, sums) for _ in range(2))
        return x, y, (torch.empty_like(image), torch.empty_like(image))

    def step(
        self, point: _Point, previous: _Point, step: Tensor, momentum: Tensor, out: Buffers
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Take one proximal step from a point; see `hessx.ops.fista_step`."""
        return ops.fista_step(
            self.gradient,
            point.image,
            point.vector,
            previous.vector,
            step.to(self.gradient),
            momentum.to(self.gradient),
            self.lambda1.to(self.gradient),
            self.lambda2.to(self.gradient).expand_as(self.lambda1),
            out=out,
        )

    def quality(self, step: Tensor, new: _Point, old: _Point) -> tuple[Tensor, Tensor]:
        """Return the objective of a step's result, and the bound of its relative gap.

        With the subgradient of the l1 norm that the step chose, a supergradient at the result is
        ``(H - 2 lambda2)(new - old) + (new - old) / step``.
        """
        sums, scale = new.sums, 2 * self.lambda2
        curvature = dot(new.vector, new.image)
        objective = sums[..., 0] + curvature / 2 - self.lambda1 * sums[..., 1]
        objective = objective - self.lambda2 * sums[..., 2]
        weight = (1 / step - scale)[..., None].to(new.vector)
        residual = new.image - old.image + weight * (new.vector - old.vector)
        return objective, relative_gap(residual, scale - self.top, objective)


@dataclass(frozen=True)
class _Point:
    """A vector, its image under H and, for the result of a step, its sums."""

    vector: Tensor
    image: Tensor
    sums: Tensor


def fista_backtracking(program: Program, n_iter: int) -> Iterate:
    """Iterate as section 4 of the paper states it, each program with its own step size.

    FISTA (Beck and Teboulle, 2009) from zero with step size 0.1, halved until
    ``G(new) >= G(y) + G'(y)(new - y) - |new - y|^2 / (2 step)`` for the smooth part G; products
    with H are linear, so a trial costs one.
    """
    x, y, spare = program.start()
    step = torch.full_like(program.lambda1, _LEARNING_RATE)
    age = 1.0
    objective, gap = torch.zeros_like(step), torch.full_like(step, torch.inf)
    for _ in range(n_iter):
        older = (1 + math.sqrt(1 + 4 * age**2)) / 2
        momentum = torch.full_like(step, (age - 1) / older)
        while True:
            vector, ahead, sums = program.step(y, x, step, momentum, spare)
            new = _Point(vector, program.product(vector), sums)
            moved = new.vector - y.vector
            square = dot(moved, moved)
            curvature = dot(moved, new.image - y.image)
            short = curvature - 2 * program.lambda2 * square < -(1 + _SLACK) / step * square
            if not short.any():
                break
            step = torch.where(short, _DECAY * step, step)
        objective, gap = program.quality(step, new, y)
        spare = x.vector, y.vector
        y = _Point(ahead, _extrapolated_image(new, x, momentum), sums)
        x, age = new, older
    return Iterate(x.vector, objective, gap)


def fista_constant(program: Program, n_iter: int, tolerance: float) -> Iterate:
    """Iterate with the constants that are known here, until the gap is small.

    Step ``1 / Lip`` and momentum ``(1 - sqrt(q)) / (1 + sqrt(q))``, ``q = mu / Lip``, for the
    Lipschitz constant ``Lip = 2 lambda2 - bottom`` and the concavity ``mu = 2 lambda2 - top``
    (Nesterov, "Lectures on Convex Optimization", section 2.2). A program that has reached the
    tolerance stays as it is.
    """
    x, y, spare = program.start()
    lipschitz = 2 * program.lambda2 - program.bottom.clamp(max=0)
    root = ((2 * program.lambda2 - program.top) / lipschitz).sqrt()
    step = (1 / lipschitz).expand_as(program.lambda1)
    momentum = ((1 - root) / (1 + root)).expand_as(program.lambda1)
    delta, objective = torch.zeros_like(x.vector), torch.zeros_like(step)
    gap = torch.full_like(step, torch.inf)
    for _ in range(n_iter):
        due = gap > tolerance
        if not due.any():
            break
        vector, ahead, sums = program.step(y, x, step, momentum, spare)
        new = _Point(vector, program.product(vector), sums)
        reached, bound = program.quality(step, new, y)
        delta = torch.where(due[..., None], new.vector, delta)
        objective, gap = torch.where(due, reached, objective), torch.where(due, bound, gap)
        spare = x.vector, y.vector
        y = _Point(ahead, _extrapolated_image(new, x, momentum), sums)
        x = new
    return Iterate(delta, objective, gap)


def _extrapolated_image(new: _Point, old: _Point, momentum: Tensor) -> Tensor:
    return torch.lerp(old.image, new.image, 1 + momentum[..., None].to(new.image))
