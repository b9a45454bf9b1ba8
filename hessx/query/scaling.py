"""Powers of two that bring vectors near 1 before they pass through a model's own precision."""

from __future__ import annotations

import torch
from torch import Tensor


def scaled(vectors: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return rows ``(..., k)`` in ``dtype``, their largest entries in [1, 2), and the scales.

    Multiplying by the scales ``(..., 1)``, float64, gives the rows back: a power of two loses no
    digit. Rows of zeros keep scale 1.
    """
    largest = vectors.abs().amax(-1, keepdim=True)
    exponent = torch.frexp(largest).exponent - (largest > 0).int()
    # In two steps: 2^-exponent of a denormal number overflows.
    half = exponent // 2
    shrunk = torch.ldexp(torch.ldexp(vectors, -half), half - exponent)
    return shrunk.to(dtype), torch.ldexp(torch.ones_like(largest, dtype=torch.float64), exponent)
