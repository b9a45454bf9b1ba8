"""The estimator of the SmoothHess paper with reflected pairs, written from its equations.

Eq. (8) with ``delta`` and ``-delta`` both queried: a dense ``d x d`` sum of outer products, one
point at a time. This is the baseline that the library is measured against.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def reflected_smooth_hess(
    f: Callable[[Tensor], Tensor],
    x0: Tensor,
    sigma: float,
    n_gradients: int,
    batch: int = 1000,
    seed: int = 0,
) -> tuple[Tensor, Tensor]:
    """Return ``(SmoothGrad (d,), SmoothHess (d, d))`` at ``x0 (d,)``.

    Args:
        f: From ``(N, d)`` to ``(N,)``.
        x0: ``(d,)``.
        sigma: Standard deviation of the isotropic noise.
        n_gradients: Even: half of them at ``x0 + delta``, half at ``x0 - delta``.
        batch: Gradients in one call, even.
        seed: Of torch's generator.
    """
    generator = torch.Generator().manual_seed(seed)
    d = len(x0)
    outer, total = torch.zeros(d, d), torch.zeros(d)
    done = 0
    while done < n_gradients:
        half = min(batch, n_gradients - done) // 2
        delta = sigma * torch.randn(half, d, generator=generator)
        delta = torch.cat([delta, -delta])
        x = (x0 + delta).requires_grad_()
        (g,) = torch.autograd.grad(f(x).sum(), x)
        outer += delta.T @ g / sigma**2
        total += g.sum(0)
        done += 2 * half
    outer /= n_gradients
    return total / n_gradients, (outer + outer.T) / 2
