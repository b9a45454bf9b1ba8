"""The softmax and its cross-entropy in float64, with the digits of a confident prediction kept."""

from __future__ import annotations

import torch
from torch import Tensor


def cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Return ``-log p_y`` of ``logits (N, c)`` at ``target (N,)``, float64 ``(N,)``.

    It is computed as log(1 + sum over i != y of exp(z_i - z_y)), accurate also where p_y is
    nearly 1.
    """
    z = logits.double()
    others = (z - z.gather(1, target[:, None])).masked_fill(_one_hot(z, target), -torch.inf)
    odds = others.logsumexp(1)
    return torch.logaddexp(odds, torch.zeros_like(odds))


def softmax_residual(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return the probabilities ``p`` and ``p - e_y``, float64 ``(N, c)``, differentiable.

    The target's entry is minus the sum of the others: p_y - 1 would cancel where p_y is nearly 1.
    """
    p = logits.double().softmax(1)
    is_target = _one_hot(p, target)
    others = p.masked_fill(is_target, 0)
    return p, torch.where(is_target, -others.sum(1, keepdim=True), others)


def softmax_factor(probabilities: Tensor) -> Tensor:
    """Return ``S (N, c, c)`` with rows sqrt(p_i) (e_i - p), so S^T S = diag p - p p^T.

    The diagonal's 1 - p_i is the sum of the other probabilities, which does not cancel.
    """
    p = probabilities
    c = p.shape[1]
    diagonal = torch.eye(c, dtype=torch.bool, device=p.device)
    others = p[:, None].expand(-1, c, -1).masked_fill(diagonal, 0)
    return p.sqrt()[:, :, None] * torch.where(diagonal, others.sum(2, keepdim=True), -others)


def likely_factor(probabilities: Tensor, n_likely: int) -> Tensor:
    """Return ``S (N, n_likely + 1, c)`` with S^T S <= diag p - p p^T, of the likeliest classes.

    Their rows are those of :func:`softmax_factor`; the last one is that of all other classes taken
    as one: sqrt(p_R) (W_R - wbar) = -sum over the likely ones of p_i (W_i - wbar) / sqrt(p_R), by
    the law of total variance, p_R their probability and W_R their mean.
    """
    p = probabilities
    likely = p.topk(n_likely, 1).indices
    rows = softmax_factor(p).gather(1, likely[..., None].expand(-1, -1, p.shape[1]))
    weight = p.gather(1, likely)
    rest = p.scatter(1, likely, 0).sum(1)
    rest_row = -(weight.sqrt()[..., None] * rows).sum(1) * rest.rsqrt()[:, None]
    return torch.cat([rows, torch.where(rest[:, None] > 0, rest_row, 0)[:, None]], 1)


def _one_hot(z: Tensor, target: Tensor) -> Tensor:
    return torch.arange(z.shape[1], device=z.device) == target[:, None]
