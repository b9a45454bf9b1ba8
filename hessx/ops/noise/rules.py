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


def check_draws(n: int, m: int, seed: int, first_sample: int, stream: int) -> None:
    """Check the numbers that name draws."""
    _check_range("n", n, 2**63)
    _check_range("m", m, 2**34)
    _check_range("seed", seed, 2**63)
    _check_range("first_sample", first_sample, 2**63 - n)
    _check_range("stream", stream, 2**32)


def _check_range(name: str, value: int, end: int) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, torch.SymInt)):
        raise TypeError(f"{name} must be an integer, got {type(value).__name__}")
    if not 0 <= value < end:
        raise ValueError(f"{name} must be in [0, {end}), got {value}")
