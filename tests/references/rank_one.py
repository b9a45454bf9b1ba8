"""The rank-one Hessian of a confident classifier: Theorem 4 and appendix F.1 of the CASO paper.

A linear model with class gradients ``W (d, c)`` and ``p = [1 - (c - 1) eps, eps, ..., eps]`` has
``H = W A W^T`` with ``A = diag(p) - p p^T``, and ``g = W (p - y)`` for the first class.
"""

from __future__ import annotations

import torch
from torch import Tensor


def confident_probabilities(c: int, eps: float) -> Tensor:
    """Return ``[1 - (c - 1) eps, eps, ..., eps]``, ``(c,)`` in float64."""
    p = torch.full((c,), eps, dtype=torch.float64)
    p[0] = 1 - (c - 1) * eps
    return p


def softmax_covariance(p: Tensor) -> Tensor:
    """Return ``A = diag(p) - p p^T`` of ``p (..., c)``."""
    return torch.diag_embed(p) - p[..., :, None] * p[..., None, :]


def gaussian_gram(d: int, c: int, seed: int) -> Tensor:
    """Return ``W^T W`` in float64 for a Gaussian ``W (d, c)``; its corners are those of fewer c."""
    generator = torch.Generator().manual_seed(seed)
    W = torch.randn(d, c, generator=generator, dtype=torch.float64)
    return W.T @ W


def rank_one_error(gram: Tensor, eps: Tensor) -> Tensor:
    """Return ``|H - g g^T / (eps (c - 1))|_F / |H|_F`` for each ``eps (n,)``: ``(n,)``.

    Nothing of size d x d is formed: ``|W M W^T|_F^2 = tr(M G M G)`` for the Gram matrix G.

    Args:
        gram: ``G = W^T W``, ``(c, c)``, float64.
        eps: ``(n,)``, each below ``1 / (c - 1)``.
    """
    c = len(gram)
    p = torch.stack([confident_probabilities(c, e) for e in eps.tolist()])
    A = softmax_covariance(p)
    u = p.clone()
    # p - y, without the rounding of 1 - p.
    u[:, 0] = -(c - 1) * eps
    approximation = u[:, :, None] * u[:, None, :] / (eps * (c - 1))[:, None, None]
    return _norm(A - approximation, gram) / _norm(A, gram)


def _norm(M: Tensor, gram: Tensor) -> Tensor:
    product = M @ gram
    return (product * product.mT).sum((1, 2)).sqrt()
