"""Softmax products to be made, and how exact they must be."""

from __future__ import annotations

import torch


def arguments(
    batch: int, m: int, classes: int, dtype: torch.dtype = torch.float64
) -> tuple[torch.Tensor, torch.Tensor]:
    """Probabilities and vectors, the same in every process."""
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(batch, classes, generator=generator, dtype=torch.float64)
    u = torch.randn(batch, m, classes, generator=generator, dtype=torch.float64)
    return logits.softmax(1).to(dtype), u.to(dtype)


def assert_close(result: torch.Tensor, p: torch.Tensor, u: torch.Tensor) -> None:
    """Compare with the matrix itself, in float64.

    Float64 adds up c terms of rounding errors, float32 rounds once at the end; that p adds up to
    1 only to rounding moves either by an error of that size, too.
    """
    assert result.dtype == p.dtype
    assert result.shape == u.shape
    eps = torch.finfo(p.dtype).eps
    p, u = p.double(), u.double()
    expected = p[:, None] * (u - (p[:, None] * u).sum(2, keepdim=True))
    bound = p[:, None] * (u.abs() + u.abs().amax(2, keepdim=True))
    assert ((result.double() - expected).abs() <= 4 * eps * bound).all()
