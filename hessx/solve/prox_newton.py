"""The sparse quadratic program in low rank, solved by Newton steps in as many unknowns as its rank.

    maximise over D:  g^T D + |basis D|^2 / 2 - lambda1 |D|_1 - lambda2 |D|_2^2

With ``z = basis D`` the maximiser is ``D = S(g + basis^T z, lambda1) / (2 lambda2)``, S the soft
threshold, so z is a root of ``F(z) = z - basis D(z)``. ``-F`` is the gradient of

    psi(z) = |S(g + basis^T z, lambda1)|^2 / (4 lambda2) - |z|^2 / 2,

which is strongly concave where ``2 lambda2 > |basis|^2``, with generalised Hessian
``basis_A basis_A^T / (2 lambda2) - I`` over the active set A. One pass over the basis gives psi,
its gradient and that matrix (`hessx.ops.prox_pass`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from hessx import ops

_MAX_STEPS = 50
_HALVINGS = 12
# A slack this small, relative to psi, may be rounding.
_ROUNDING = 1e-6
# Of the gain that the gradient promises, as usual for Armijo's rule with Newton directions.
_SUFFICIENT = 1e-4


@dataclass(frozen=True)
class LowRankSolution:
    """Solutions of M programs for each of B rows.

    Attributes:
        z: ``(B, M, r)``, ``basis D`` up to :attr:`defect`.
        defect: ``(B, M, r)``, ``basis D - z``.
        linear, l1, square: ``(B, M)`` float64: ``g^T D``, ``|D|_1``, ``|D|_2^2``.
    """

    z: Tensor
    defect: Tensor
    linear: Tensor
    l1: Tensor
    square: Tensor

    def objective(self, quadratic: Tensor, lambda1: Tensor, lambda2: Tensor) -> Tensor:
        """Return the objective ``(B, M)``, given ``D^T H D``."""
        return self.linear + quadratic / 2 - lambda1 * self.l1 - lambda2 * self.square


@dataclass(frozen=True)
class _State:
    """psi and what belongs to it at some z."""

    z: Tensor
    defect: Tensor
    sums: Tensor
    psi: Tensor
    gram: Tensor


def prox_newton(
    basis: Tensor,
    gram: Tensor,
    gradient: Tensor,
    lambda1: Tensor,
    lambda2: Tensor,
    tolerance: float,
) -> LowRankSolution:
    """Solve the program for each row and lambda1.

    Args:
        basis: ``(B, r, d)``; zero rows are allowed.
        gram: ``(B, r, r)``, ``basis basis^T``.
        gradient: ``(B, d)``.
        lambda1: ``(B, M)``, >= 0.
        lambda2: ``(B, 1)``, above half the largest eigenvalue of ``basis basis^T``.
        tolerance: Relative gap of the objective at which an element stops, unless rounding stops
            it before.

    Returns:
        The solutions; an element does not depend on the others.
    """
    top = torch.linalg.matrix_norm(gram, ord=2) if gram.shape[-1] else gram.new_zeros(len(gram))
    concavity = (2 * lambda2 - top[:, None]).clamp(min=0)
    state = _evaluate(
        basis, gradient, lambda1, lambda2, basis.new_zeros(*lambda1.shape, basis.shape[1])
    )
    active = torch.ones_like(lambda1, dtype=torch.bool)
    identity = torch.eye(basis.shape[1], dtype=torch.float64, device=basis.device)
    before = torch.full_like(lambda1, torch.inf)
    for _ in range(_MAX_STEPS):
        # The objective at D(z) is within |basis^T defect|^2 / (2 (2 lambda2 - L)) of the best.
        slack = torch.einsum("bmi,bij,bmj->bm", state.defect, gram, state.defect)
        active = active & (slack > 2 * concavity * tolerance * state.psi)
        # Near the solution a step squares the defect, until rounding makes it stand still.
        stuck = (slack > before / 4) & (slack < _ROUNDING * concavity * state.psi)
        active, before = active & ~stuck, slack
        if not active.any():
            break
        newton = identity - state.gram / (2 * lambda2[..., None, None])
        step = torch.linalg.solve(newton, state.defect)
        state, moved = _armijo(basis, gradient, lambda1, lambda2, state, step, active)
        active = active & moved
    scale = 2 * lambda2
    return LowRankSolution(
        state.z,
        state.defect,
        state.sums[..., 2] / scale,
        state.sums[..., 1] / scale,
        state.sums[..., 0] / scale.square(),
    )


def maximiser(
    basis: Tensor, gradient: Tensor, z: Tensor, lambda1: Tensor, lambda2: Tensor
) -> Tensor:
    """Return ``D (B, M, d) = S(g + basis^T z, lambda1) / (2 lambda2)``."""
    point = shifted_gradient(basis, gradient, z)
    shrunk = ops.soft_threshold(point.flatten(0, 1), lambda1.to(point).flatten())
    return shrunk.view_as(point) / (2 * lambda2[..., None]).to(point)


def shifted_gradient(basis: Tensor, gradient: Tensor, z: Tensor) -> Tensor:
    """Return ``g + basis^T z``, ``(B, M, d)``: the gradient that the solution thresholds."""
    return torch.baddbmm(gradient[:, None], z.to(basis), basis)


def _evaluate(
    basis: Tensor, gradient: Tensor, lambda1: Tensor, lambda2: Tensor, z: Tensor
) -> _State:
    w, sums, gram = ops.prox_pass(basis, gradient, z.to(basis), lambda1.to(basis), with_gram=True)
    z = z.to(basis).double()
    psi = sums[..., 0] / (4 * lambda2) - z.square().sum(-1) / 2
    return _State(z, w / (2 * lambda2[..., None]) - z, sums, psi, gram)


def _armijo(
    basis: Tensor,
    gradient: Tensor,
    lambda1: Tensor,
    lambda2: Tensor,
    state: _State,
    step: Tensor,
    active: Tensor,
) -> tuple[_State, Tensor]:
    """Go along Newton steps, halved where psi does not rise; say which elements moved."""
    slope = (state.defect * step).sum(-1)
    size = torch.ones_like(slope)
    waiting = active & (slope > 0)
    moved = torch.zeros_like(active)
    for _ in range(_HALVINGS):
        if not waiting.any():
            break
        z = torch.where(waiting[..., None], state.z + size[..., None] * step, state.z)
        trial = _evaluate(basis, gradient, lambda1, lambda2, z)
        rose = waiting & (trial.psi >= state.psi + _SUFFICIENT * size * slope)
        state = _merged(rose, trial, state)
        moved = moved | rose
        waiting = waiting & ~rose
        size = torch.where(waiting, size / 2, size)
    return state, moved


def _merged(choose: Tensor, new: _State, old: _State) -> _State:
    def pick(name: str) -> Tensor:
        a, b = getattr(new, name), getattr(old, name)
        return torch.where(choose[(...,) + (None,) * (a.dim() - 2)], a, b)

    return replace(old, **{name: pick(name) for name in ("z", "defect", "sums", "psi", "gram")})
