"""The constraint ``|D^{+T} Sigma (estimate - g)|_inf <= L`` for any positive-definite Sigma."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from hessx import ops
from hessx.solve.tv.certificate import difference, difference_adjoint, largest
from hessx.solve.tv.checks import check_numbers

# Sigma 1 counts as constant when it is so to this part of it: far above its rounding.
_CONSTANT = 1e-12


@dataclass(frozen=True, eq=False)
class Constraint:
    """``A = D^{+T} Sigma = D (D^T D)^+ Sigma`` with ``Sigma = diag(variance) + factor factor^T``.

    Attributes:
        p1, p2: Sides of the grid.
        variance: ``(p,)`` float64, >= 0.
        factor: ``(p, q)`` float64.
    """

    p1: int
    p2: int
    variance: Tensor
    factor: Tensor

    @classmethod
    def of(cls, p1: int, p2: int, variance: Tensor | None, factor: Tensor | None) -> Constraint:
        """Check the covariance and bring it to float64 on the CPU; None stands for zeros."""
        p = p1 * p2
        if variance is None and factor is None:
            raise ValueError("variance or factor must be given")
        if variance is None:
            variance = torch.zeros(p, dtype=torch.float64)
        if factor is None:
            factor = torch.zeros(p, 0, dtype=torch.float64)
        for name, x, dims in (("variance", variance, 1), ("factor", factor, 2)):
            check_numbers(name, x)
            if x.dim() != dims or len(x) != p:
                shape = f"({p},)" if dims == 1 else f"({p}, q)"
                raise ValueError(f"{name} must be {shape}, got {tuple(x.shape)}")
        if (variance < 0).any():
            raise ValueError(f"variance must be >= 0, got {variance.min().item()}")
        made = cls(p1, p2, *(x.detach().to("cpu", torch.float64) for x in (variance, factor)))
        _ = made.inverse_of_ones
        return made

    @cached_property
    def inverse_of_ones(self) -> Tensor:
        """``Sigma^-1 1 (p,)``: A takes it to 0.

        Raises:
            ValueError: If Sigma is not positive-definite.
        """
        if not self.factor.shape[1]:
            if not (self.variance > 0).all():
                raise ValueError("variance must be > 0 where no factor is given, got 0")
            return 1 / self.variance
        root, info = torch.linalg.cholesky_ex(self.sigma)
        if info:
            raise ValueError("variance and factor must give a positive-definite covariance")
        return torch.cholesky_solve(torch.ones(len(root), 1, dtype=root.dtype), root).squeeze(1)

    @property
    def sigma(self) -> Tensor:
        """Sigma ``(p, p)``."""
        return torch.diag(self.variance) + self.factor @ self.factor.mT

    @cached_property
    def constants_are_free(self) -> bool:
        """Whether ``Sigma 1`` is constant, so that constants neither cost nor bind."""
        image = self.times(torch.ones(self.p1, self.p2, dtype=torch.float64))
        return bool((image - image.mean()).abs().max() <= _CONSTANT * image.abs().max())

    def times(self, g: Tensor) -> Tensor:
        """Return ``Sigma g``, pictures ``(..., p1, p2)``."""
        flat = g.flatten(-2)
        product = self.variance * flat + (flat @ self.factor) @ self.factor.mT
        return product.unflatten(-1, (self.p1, self.p2))

    def image(self, g: Tensor) -> Tensor:
        """Return ``A g``: ``(..., p1, p2)`` to ``(..., m)``."""
        return difference(ops.grid_spectral(self.times(g), -1.0, 0.0))

    def feasible(self, point: Tensor, estimate: Tensor, bound: Tensor) -> Tensor:
        """Move a point towards the estimate, or its class of equal images, until it is feasible.

        ``Sigma (estimate - g) = D^T D h + mu 1``, of which only h is bound, and shrunk.

        Args:
            point: ``(..., p1, p2)``.
            estimate: ``(..., p1, p2)``.
            bound: ``(...)``, >= 0.
        """
        free = self.inverse_of_ones.unflatten(0, (self.p1, self.p2))
        residue = self.times(estimate - point)
        base = estimate - residue.mean((-2, -1), keepdim=True) * free
        length = largest(self.image(estimate - point))
        t = torch.where(length > bound, bound / length, 1.0)[..., None, None]
        return torch.where(t < 1, base + t * (point - base), point)

    def dual_value(
        self, multiplier: Tensor, subgradient: Tensor, estimate: Tensor, bound: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Make a dual point feasible, and bound the objective of every feasible g by it.

        With ``A^T y = D^T z`` and ``|z|_inf <= 1``,
        ``|D g|_1 >= z^T D g = y^T A g >= y^T A estimate - bound |y|_1``. y is moved by a difference
        D r until ``1^T A^T y = 0``, z by a difference until the equation holds, and both are scaled
        until z has its bound.

        Args:
            multiplier: y ``(..., m)``.
            subgradient: z ``(..., m)``.
            estimate: ``(..., p1, p2)``.
            bound: ``(...)``.

        Returns:
            The bound ``(...)``, y and z.
        """
        y, z, size = multiplier, subgradient, (self.p1, self.p2)
        if not self.constants_are_free:
            ones = self.times(torch.ones(size, dtype=torch.float64))
            r = ones - ones.mean()
            potential = ops.grid_spectral(difference_adjoint(y, *size), -1.0, 0.0)
            excess = (potential * ones).sum((-2, -1)) / (r * ones).sum()
            y = y - excess[..., None] * difference(r)
        target = self.times(ops.grid_spectral(difference_adjoint(y, *size), -1.0, 0.0))
        defect = target - difference_adjoint(z, *size)
        z = z + difference(ops.grid_spectral(defect, -1.0, 0.0))
        scale = largest(z).clamp(min=1)[..., None]
        y, z = y / scale, z / scale
        value = (y * self.image(estimate)).sum(-1) - bound * y.abs().sum(-1)
        return value, y, z
