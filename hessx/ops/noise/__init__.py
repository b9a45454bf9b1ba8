"""Counter-based noise: every number is a pure function of (seed, stream, sample, feature).

Philox 4x32-10 with key (seed low, seed high) and counter (feature // 4, stream, sample low,
sample high), low and high being 32-bit halves; feature j takes word j % 4. Blocks of samples,
columns, threads and devices therefore never change a draw.
"""

from __future__ import annotations

import torch

from hessx.ops.noise.rules import DTYPES, check_draws


def uniform(
    n: int,
    m: int,
    *,
    seed: int,
    first_sample: int = 0,
    stream: int = 0,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | None = None,
) -> torch.Tensor:
    """Draw numbers uniform in [0, 1).

    With x the 32-bit word of (sample, feature): ``(x >> 8) 2^-24`` in float32, ``x 2^-32`` in
    float64, the float32 draw rounded to nearest in bfloat16 and float16, where what would round
    to 1 becomes the largest number below 1.

    Args:
        n: Number of samples, >= 0.
        m: Number of features, >= 0.
        seed: Key of the generator, 0 <= seed < 2**63.
        first_sample: Index of the first row, >= 0; rows are samples first_sample, ...,
            first_sample + n - 1.
        stream: Independent stream under the same seed, 0 <= stream < 2**32.
        dtype: float32, float64, bfloat16 or float16.
        device: Device of the result; torch's default when not given.

    Returns:
        Tensor (n, m).

    Raises:
        TypeError: If the dtype is not one of the four, or an index is not an integer.
        ValueError: If an argument is out of its range.

    Source: Salmon, Moraes, Dror and Shaw (2011), "Parallel random numbers: as easy as 1, 2, 3".

    Example:
        >>> import hessx, torch
        >>> both = hessx.ops.uniform(4, 3, seed=1)
        >>> torch.equal(both[2:], hessx.ops.uniform(2, 3, seed=1, first_sample=2))
        True
    """
    out = _allocate(n, m, seed, first_sample, stream, dtype, device)
    torch.ops.hessx.uniform.default(out, seed, first_sample, stream)
    return out


def normal(
    n: int,
    m: int,
    *,
    seed: int,
    first_sample: int = 0,
    stream: int = 0,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | None = None,
) -> torch.Tensor:
    """Draw standard normal numbers.

    Box-Muller on the words (x0, x1) and (x2, x3) of a counter: ``u1 = x0 2^-32 + 2^-33``,
    ``r = sqrt(-2 log u1)``, ``theta = 2 pi x1 2^-32``; the two features are ``r cos theta`` and
    ``r sin theta``. In float64 the same integers give the same draw with more digits; float32
    rounds u1 to 24 bits first, which moves a draw by about 3e-8 / r, 2.5e-4 at the very most;
    bfloat16 and float16 round the float32 draw. |draw| <= 6.77.

    Args:
        n: Number of samples, >= 0.
        m: Number of features, >= 0.
        seed: Key of the generator, 0 <= seed < 2**63.
        first_sample: Index of the first row, >= 0; rows are samples first_sample, ...,
            first_sample + n - 1.
        stream: Independent stream under the same seed, 0 <= stream < 2**32.
        dtype: float32, float64, bfloat16 or float16.
        device: Device of the result; torch's default when not given.

    Returns:
        Tensor (n, m).

    Raises:
        TypeError: If the dtype is not one of the four, or an index is not an integer.
        ValueError: If an argument is out of its range.

    Source: Box and Muller (1958), "A note on the generation of random normal deviates".

    Example:
        >>> import hessx
        >>> hessx.ops.normal(1000, 4, seed=7).shape
        torch.Size([1000, 4])
    """
    out = _allocate(n, m, seed, first_sample, stream, dtype, device)
    torch.ops.hessx.normal.default(out, seed, first_sample, stream)
    return out


def _allocate(
    n: int,
    m: int,
    seed: int,
    first_sample: int,
    stream: int,
    dtype: torch.dtype,
    device: torch.device | str | None,
) -> torch.Tensor:
    check_draws(n, m, seed, first_sample, stream)
    if dtype not in DTYPES:
        raise TypeError(f"dtype must be one of {DTYPES}, got {dtype}")
    return torch.empty(n, m, dtype=dtype, device=device)
