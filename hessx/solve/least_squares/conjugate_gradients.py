"""Conjugate gradients for several right-hand sides, preconditioned."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Product = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Iterated:
    """What conjugate gradients found.

    Attributes:
        solution: ``x (T, p)``, float64.
        residual: ``|b - A x| / |b|`` of each system ``(T,)``, computed from ``x``; 0 where b is 0.
        iterations: Products with the matrix until the last system was done.
    """

    solution: Tensor
    residual: Tensor
    iterations: int


def conjugate_gradients(
    product: Product,
    rhs: Tensor,
    *,
    preconditioner: Product,
    tolerance: float,
    max_iterations: int,
) -> Iterated:
    """Solve ``A x = b`` for symmetric positive semi-definite A and several b in its range.

    Systems share the products and nothing else; one that is done keeps its solution.

    Args:
        product: ``A`` applied to rows, ``(T, p)`` to ``(T, p)``.
        rhs: ``b (T, p)``, float64.
        preconditioner: A symmetric positive definite matrix near A^-1, applied in the same way.
        tolerance: A system is done when ``|b - A x| <= tolerance |b|``, by the recurrence.
        max_iterations: When to stop all the same.

    Returns:
        Solutions and their residuals; the caller judges these.

    Source: Hestenes and Stiefel (1952), "Methods of conjugate gradients for solving linear
    systems".
    """
    enough = tolerance * rhs.norm(dim=1)
    x, r = torch.zeros_like(rhs), rhs.clone()
    z = preconditioner(r)
    direction, size = z.clone(), (r * z).sum(1)
    iterations = 0
    # Written so that a residual that is not a number counts as done: nothing can mend it.
    while (running := r.norm(dim=1) > enough).any() and iterations < max_iterations:
        image = product(direction)
        step = torch.where(running, size / (direction * image).sum(1), 0.0)[:, None]
        x += step * direction
        r -= step * image
        z = preconditioner(r)
        new_size = (r * z).sum(1)
        direction = z + torch.where(running, new_size / size, 0.0)[:, None] * direction
        size = new_size
        iterations += 1
    residual = (rhs - product(x)).norm(dim=1) / rhs.norm(dim=1)
    return Iterated(x, torch.where(rhs.norm(dim=1) == 0, 0.0, residual), iterations)
