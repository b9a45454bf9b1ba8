"""What every implementation of the noise ops accepts, and their shape function."""

from __future__ import annotations

import torch

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def fill_fake(out: torch.Tensor, seed: int, first_sample: int, stream: int) -> None:
    """Check the tensor that is filled in place."""
    if out.ndim != 2:
        raise ValueError(f"out must have shape (n, m), got {tuple(out.shape)}")
    if out.dtype not in DTYPES:
        raise TypeError(f"out must have a dtype of {DTYPES}, got {out.dtype}")
