"""The softmax product in plain torch, in float64: the ground truth."""

from __future__ import annotations

import torch

from hessx.ops.softmax.rules import softmax_product_fake


def softmax_product(probabilities: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
    """(diag p - p p^T) u; see `hessx.ops.softmax_product`."""
    out = softmax_product_fake(probabilities, vectors)
    if out.numel() == 0:
        return out
    p, u = probabilities.double()[:, None], vectors.double()
    origin = p.argmax(2, keepdim=True).expand(-1, u.shape[1], 1)
    v = u - u.gather(2, origin)
    return out.copy_(p * (v - (p * v).sum(2, keepdim=True)))
