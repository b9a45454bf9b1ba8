"""The prox pass in plain torch, sums in float64: the ground truth."""

from __future__ import annotations

import torch

from hessx.ops.prox.rules import check_gram, check_prox_pass


def prox_pass(
    basis: torch.Tensor,
    gradient: torch.Tensor,
    z: torch.Tensor,
    lambda1: torch.Tensor,
    with_gram: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Sums of the soft-thresholded point; see `hessx.ops.prox_pass`."""
    check_prox_pass(basis, gradient, z, lambda1)
    b, g, threshold = basis.double(), gradient.double()[:, None], lambda1.double()[..., None]
    u = g + z.double() @ b
    s = torch.where(u.abs() <= threshold, 0, u - threshold.copysign(u))
    active = s != 0
    sums = (s.square().sum(2), s.abs().sum(2), (g * s).sum(2), (~active).sum(2).double())
    w = s @ b.mT
    if not with_gram:
        return w, torch.stack(sums, 2), w.new_empty((*w.shape[:2], 0, 0))
    # One lambda at a time: d numbers for each of r rows are stored once, not for each lambda.
    gram = w.new_empty((*w.shape, w.shape[2]))
    for m in range(z.shape[1]):
        gram[:, m] = _symmetric_product(torch.where(active[:, m, None], b, 0), b)
    return w, torch.stack(sums, 2), gram


def gram(x: torch.Tensor) -> torch.Tensor:
    """Gram matrices of rows; see `hessx.ops.gram`."""
    check_gram(x)
    return _symmetric_product(x.double(), x.double())


def _symmetric_product(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    upper = (a @ b.mT).triu()
    return upper + upper.triu(1).mT
