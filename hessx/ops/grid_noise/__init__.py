"""Counter-based noise on grids, of a covariance that follows their edges."""

from __future__ import annotations

import torch

from hessx.ops.grid_noise.rules import check_pictures


def grid_normal(
    n: int,
    p1: int,
    p2: int,
    *,
    seed: int,
    first_sample: int = 0,
    stream: int = 0,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | None = None,
) -> torch.Tensor:
    """Draw pictures whose covariance is ``D^T D + 1 1^T / p``, D the differences of a grid.

    ``z = D^T e + w / sqrt(p)``, p = p1 p2, e one standard normal number for each of the
    m = 2 p1 p2 - p1 - p2 edges and w one more. They are the features of
    ``normal(n, m + 1, seed=seed, first_sample=first_sample, stream=stream, dtype=dtype)``: first
    the edges from (i, j) to (i, j + 1), row by row, then those from (i, j) to (i + 1, j), last w.
    They are not stored: memory beside the result is O(p) a thread. bfloat16 and float16 round the
    float32 result.

    Args:
        n: Number of samples, >= 0.
        p1: Rows of a picture, >= 1.
        p2: Columns of a picture, >= 1.
        seed: Key of the generator, 0 <= seed < 2**63.
        first_sample: Index of the first picture, >= 0; they are samples first_sample, ...,
            first_sample + n - 1.
        stream: Independent stream under the same seed, 0 <= stream < 2**32.
        dtype: float32, float64, bfloat16 or float16.
        device: Device of the result; torch's default when not given.

    Returns:
        Tensor (n, p1, p2).

    Raises:
        TypeError: If the dtype is not one of the four, or an index is not an integer.
        ValueError: If an argument is out of its range, or the grid has 2**34 edges or more.

    Source: "Statistically consistent saliency estimation" (under review at ICLR 2020, LEG-TV),
    the perturbation scheme of section 4.2 for sigma = 1, drawn without a factorisation.

    Example:
        >>> import hessx, torch
        >>> both = hessx.ops.grid_normal(4, 3, 5, seed=1)
        >>> torch.equal(both[2:], hessx.ops.grid_normal(2, 3, 5, seed=1, first_sample=2))
        True
    """
    check_pictures(n, p1, p2, seed, first_sample, stream, dtype)
    out = torch.empty(n, p1, p2, dtype=dtype, device=device)
    torch.ops.hessx.grid_normal.default(out, seed, first_sample, stream)
    return out
