"""What single samples contribute to an estimate, and the standard errors that follow."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

# Numbers of one intermediate of a standard error; a few exist at a time.
_CHUNK = 2**22


@dataclass(frozen=True, eq=False)
class Contributions:
    """What single samples contribute to a core that is a mean over ``n`` samples.

    Sample ``i`` contributes the symmetric matrix ``M_i = P_i + P_i^T`` with ``(P_i)_kl =
    weight_kl u_ik w_il``. Any linear function of the core is the mean of that function of the
    ``M_i``, so its standard error is their deviation over ``sqrt(n)``, correlations included.

    Attributes:
        u: ``(..., count, r)``, of the first ``count <= n`` samples; zero rows are no samples.
        w: ``(..., count, r)``.
        weight: ``(..., r, r)``.
        count: ``(...)``.
        n: ``(...)``.
    """

    u: Tensor
    w: Tensor
    weight: Tensor
    count: Tensor
    n: Tensor

    @classmethod
    def of(cls, u: Tensor, w: Tensor, weight: Tensor, n: int) -> Contributions:
        """Return the contributions of one batch of rows, all with the same number of samples."""
        full = torch.full(u.shape[:-2], u.shape[-2], device=u.device)
        return cls(u, w, weight.to(u), full, torch.full_like(full, n))

    @classmethod
    def joined(cls, parts: list[Contributions]) -> Contributions:
        """Return rows with any numbers of samples and sizes as one batch."""
        rank = max(part.u.shape[-1] for part in parts)
        most = max(part.u.shape[-2] for part in parts)

        return cls(
            torch.cat([padded(part.u, most, rank) for part in parts]),
            torch.cat([padded(part.w, most, rank) for part in parts]),
            torch.cat([padded(part.weight, rank, rank) for part in parts]),
            torch.cat([part.count for part in parts]),
            torch.cat([part.n for part in parts]),
        )

    def rows(self, index: Any) -> Contributions:
        """Return those of some rows of the batch."""
        return Contributions(*(getattr(self, field.name)[index] for field in fields(self)))

    def entry_variance(self, basis: Tensor) -> Tensor:
        """Return the variance of the entries of ``basis core basis^T``: ``(..., k, k)``."""
        k, r = basis.shape[-2:]
        step = max(1, _CHUNK // (basis.shape[:-2].numel() * k * max(k, r)))
        total = basis.new_zeros(*basis.shape[:-2], k, k, dtype=torch.float64)
        squares = torch.zeros_like(total)
        for first in range(0, self.u.shape[-2], step):
            u, w = self.u[..., first : first + step, :], self.w[..., first : first + step, :]
            left = basis[..., None, :, :] * u[..., :, None, :]
            right = basis[..., None, :, :] * w[..., :, None, :]
            one = left @ self.weight[..., None, :, :] @ right.mT
            both = (one + one.mT).double()
            total += both.sum(-3)
            squares += both.square().sum(-3)
        return self._variance_of_mean(total, squares)

    def form_variance(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the variance of ``x_i^T core y_i`` for rows ``x, y (..., P, r)``: ``(..., P)``."""
        parts = []
        step = max(1, _CHUNK // self.u.shape.numel())
        u, w, weight = (
            self.u[..., None, :, :],
            self.w[..., None, :, :],
            self.weight[..., None, :, :],
        )
        for first in range(0, x.shape[-2], step):
            left = x[..., first : first + step, None, :]
            right = y[..., first : first + step, None, :]
            value = (((u * left) @ weight) * (w * right)).sum(-1)
            value = (value + (((u * right) @ weight) * (w * left)).sum(-1)).double()
            parts.append(self._variance_of_mean(value.sum(-1), value.square().sum(-1)))
        return torch.cat(parts, -1)

    def _variance_of_mean(self, total: Tensor, squares: Tensor) -> Tensor:
        extra = (1,) * (total.dim() - self.count.dim())
        count = self.count.reshape(*self.count.shape, *extra)
        n = self.n.reshape(*self.n.shape, *extra)
        spread = (squares / count - (total / count).square()).clamp(min=0)
        return spread / (n - 1).clamp(min=1)


def padded(x: Tensor, rows: int, columns: int) -> Tensor:
    """Return ``x`` with zeros after its last two dimensions, up to these sizes."""
    return pad(x, (0, columns - x.shape[-1], 0, rows - x.shape[-2]))
