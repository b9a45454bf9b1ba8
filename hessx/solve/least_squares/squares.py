"""The second moment of all squares of given sides inside a picture, and systems with it."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from hessx import ops
from hessx.solve.least_squares.conjugate_gradients import Product, conjugate_gradients
from hessx.solve.least_squares.square_factor import CONDITION_BOUND, square_factor
from hessx.solve.least_squares.square_matrices import circulant_eigenvalues, kronecker_gram

# Pixels up to which the matrix is formed and factored; see docs/numerics.md.
DENSE_UP_TO = 2304
_TOLERANCE = 1e-10
_MAX_ITERATIONS = 1000


@dataclass(frozen=True)
class SquareSolution:
    """Solution of ``(M + ridge I) x = b``.

    Attributes:
        solution: ``x (T, p)``, float64.
        ridge: What was added to the second moment.
        condition: Estimate of the condition number of ``M + ridge I``: by the factor, or by the
            circulant near it, whose condition is not larger.
        residual: ``|b - (M + ridge I) x| / |b|`` of each system ``(T,)``; 0 where b is 0.
        iterations: Of conjugate gradients; 0 where a factor was used.
    """

    solution: Tensor
    ridge: float
    condition: float
    residual: Tensor
    iterations: int


class SquareMoments:
    """``M = E z z^T`` for z the indicator of a square, each of the N squares as likely as another.

    With ``A_s = W_s^T W_s``, W_s (p - s + 1, p) the windows of s pixels along an axis,
    ``M = (1 / N) sum_s A_s (x) A_s``. It depends on the size and the sides alone. The explanation
    that is best for all squares solves ``M x = E z d``, d the differences of the model's answers.

    Args:
        p1: Rows of pixels, >= 1.
        p2: Columns of pixels, >= 1.
        sides: Sides s of the squares, increasing, each in [1, min(p1, p2)]; at least one.

    Attributes:
        p1: As given.
        p2: As given.
        sides: As given, a tuple.
        count: ``N = sum_s (p1 - s + 1)(p2 - s + 1)``.

    Raises:
        TypeError: If a size or a side is not an integer.
        ValueError: If a size is below 1, there are no sides, one is out of range, or they do not
            increase.

    Source: "On the (In)fidelity and Sensitivity of Explanations" (2019), Proposition 2.1 and the
    squares of Appendix B.1.

    Example:
        >>> import torch
        >>> from hessx.solve.least_squares.squares import SquareMoments
        >>> squares = SquareMoments(2, 2, [1, 2])
        >>> squares.gram() * squares.count
        tensor([[2., 1., 1., 1.],
                [1., 2., 1., 1.],
                [1., 1., 2., 1.],
                [1., 1., 1., 2.]], dtype=torch.float64)
    """

    def __init__(self, p1: int, p2: int, sides: Sequence[int]):
        for name, size in (("p1", p1), ("p2", p2)):
            if isinstance(size, bool) or not isinstance(size, int):
                raise TypeError(f"{name} must be an integer, got {type(size).__name__}")
            if size < 1:
                raise ValueError(f"{name} must be >= 1, got {size}")
        _check_sides(sides, min(p1, p2))
        self.p1, self.p2, self.sides = p1, p2, tuple(sides)
        self.count = sum((p1 - side + 1) * (p2 - side + 1) for side in sides)

    def moment(self, differences: Tensor) -> Tensor:
        """Return ``E z d``: differences on the squares ``(T, N)`` to ``(T, p)``, float64.

        Squares are in the order of :func:`hessx.ops.box_sums`.
        """
        covered = ops.box_sums_adjoint(differences.double(), self.sides, self.p1, self.p2)
        return covered.flatten(1) / self.count

    def dots(self, v: Tensor) -> Tensor:
        """Return ``z^T v`` of all squares: ``(T, p)`` to ``(T, N)``, float64."""
        return ops.box_sums(v.double().reshape(-1, self.p1, self.p2), self.sides)

    def apply(self, v: Tensor) -> Tensor:
        """Return ``M v``: ``(T, p)`` to ``(T, p)``, float64."""
        return self.moment(self.dots(v))

    def gram(self, device: torch.device | str | None = None) -> Tensor:
        """Return M as a matrix ``(p, p)``, float64."""
        where = torch.get_default_device() if device is None else torch.device(device)
        return kronecker_gram(self.p1, self.p2, self.sides, where) / self.count

    def circulant_inverse(self, ridge: float, device: torch.device) -> tuple[Product, float]:
        """Return the inverse of the circulant near ``M + ridge I``, and its condition number.

        It applies to rows ``(T, p)``.
        """
        size = (self.p1, self.p2)
        eigenvalues = circulant_eigenvalues(*size, self.sides, device) / self.count + ridge
        # A frequency that no square sees leaves rounding errors in the place of 0.
        eigenvalues.clamp_min_(eigenvalues.max() * torch.finfo(torch.float64).eps)

        def inverse(r: Tensor) -> Tensor:
            transformed = torch.fft.rfft2(r.view(-1, *size)) / eigenvalues
            return torch.fft.irfft2(transformed, s=size).flatten(1)

        return inverse, (eigenvalues.max() / eigenvalues.min()).item()

    def solve(
        self, rhs: Tensor, *, ridge: float | str = "auto", method: str = "auto"
    ) -> SquareSolution:
        """Solve ``(M + ridge I) x = b``.

        By Cholesky, of a factor that is kept for the next call, up to ``DENSE_UP_TO`` pixels; by
        conjugate gradients with a circulant preconditioner above.

        Args:
            rhs: ``b (T, p)``.
            ridge: What to add, >= 0. ``"auto"``: nothing where the condition is at most
                ``CONDITION_BOUND`` = 1e12 without it, which a side of 1 bounds by
                ``sum_s s^4``; otherwise the least that brings it there. Conjugate gradients do
                not learn the condition: sides without 1 always take it then.
            method: ``"cholesky"``, ``"conjugate gradients"`` or ``"auto"``.

        Returns:
            The solution, and how it was found. A warning is given where conjugate gradients do not
            reach a residual of 1e-10 in 1000 iterations.

        Raises:
            TypeError: If ridge is neither a number nor ``"auto"``.
            ValueError: If rhs is not (T, p) or not finite, ridge is negative or not finite, method
                is none of the three, or M has no factor and ridge = 0 was asked for.
        """
        if rhs.ndim != 2 or rhs.shape[1] != self.p1 * self.p2:
            raise ValueError(
                f"rhs must have shape (T, {self.p1 * self.p2}), got {tuple(rhs.shape)}"
            )
        if not rhs.isfinite().all():
            raise ValueError("rhs must be finite")
        fixed = fixed_ridge(ridge)
        if method not in ("auto", "cholesky", "conjugate gradients"):
            raise ValueError(
                f"method must be 'auto', 'cholesky' or 'conjugate gradients', got {method!r}"
            )
        dense = method == "cholesky" or (method == "auto" and rhs.shape[1] <= DENSE_UP_TO)
        return (self._factored if dense else self._iterated)(rhs.double(), fixed)

    def _factored(self, rhs: Tensor, ridge: float | None) -> SquareSolution:
        factor = square_factor(self.p1, self.p2, self.sides, ridge, rhs.device)
        x = factor.solve(rhs)
        residual = (rhs - self.apply(x) - factor.ridge * x).norm(dim=1) / rhs.norm(dim=1)
        residual = torch.where(rhs.norm(dim=1) == 0, 0.0, residual)
        return SquareSolution(x, factor.ridge, factor.condition, residual, 0)

    def _iterated(self, rhs: Tensor, ridge: float | None) -> SquareSolution:
        if ridge is None:
            ridge = 0.0 if self.sides[0] == 1 else self._row_sum(rhs.device) / CONDITION_BOUND
        preconditioner, condition = self.circulant_inverse(ridge, rhs.device)
        found = conjugate_gradients(
            lambda v: self.apply(v).add_(v, alpha=ridge),
            rhs,
            preconditioner=preconditioner,
            tolerance=_TOLERANCE,
            max_iterations=_MAX_ITERATIONS,
        )
        if not (found.residual <= 10 * _TOLERANCE).all():
            warnings.warn(
                f"conjugate gradients stopped after {found.iterations} iterations at a relative "
                f"residual of {found.residual.max().item():.1e}; a larger ridge would help",
                RuntimeWarning,
                stacklevel=3,
            )
        return SquareSolution(found.solution, ridge, condition, found.residual, found.iterations)

    def _row_sum(self, device: torch.device) -> float:
        """The largest row sum, which bounds the largest eigenvalue: no entry is negative."""
        ones = torch.ones(1, self.p1 * self.p2, dtype=torch.float64, device=device)
        return self.apply(ones).max().item()


def _check_sides(sides: Sequence[int], largest: int) -> None:
    if len(sides) == 0:
        raise ValueError("sides must name at least one side, got none")
    for side in sides:
        if isinstance(side, bool) or not isinstance(side, int):
            raise TypeError(f"sides must be integers, got {type(side).__name__}")
        if not 1 <= side <= largest:
            raise ValueError(f"sides must lie in [1, min(p1, p2)] = [1, {largest}], got {side}")
    if any(after <= before for before, after in pairwise(sides)):
        raise ValueError(f"sides must increase, got {list(sides)}")


def fixed_ridge(ridge: float | str) -> float | None:
    """The ridge that was asked for, None for "auto"."""
    if ridge == "auto":
        return None
    if isinstance(ridge, (bool, str)) or not isinstance(ridge, (int, float)):
        raise TypeError(f"ridge must be a number or 'auto', got {ridge!r}")
    if not 0 <= ridge < math.inf:
        raise ValueError(f"ridge must be >= 0 and finite, got {ridge}")
    return float(ridge)
