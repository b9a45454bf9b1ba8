"""Second moments of squares as matrices: Kronecker sums, and circulants near them.

Along an axis of p pixels, ``W_s`` has a row of s ones for each place of a window of s pixels, and
``A_s = W_s^T W_s`` counts the windows that two pixels share.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def shared_windows(p: int, sides: Sequence[int], device: torch.device) -> Tensor:
    """Return ``A_s (S, p, p)`` of all sides, float64 and exact."""
    pixel = torch.arange(p, device=device)
    side = torch.tensor(sides, device=device)[:, None, None]
    earlier = torch.minimum(pixel, pixel[:, None])
    later = torch.maximum(pixel, pixel[:, None])
    # A window that begins at a has both if later - s < a <= earlier, and lies inside the axis.
    first = (later - side + 1).clamp_min(0)
    last = torch.minimum(earlier, p - side)
    return (last - first + 1).clamp_min(0).double()


def kronecker_gram(p1: int, p2: int, sides: Sequence[int], device: torch.device) -> Tensor:
    """Return ``sum_s A_s (x) A_s (p1 p2, p1 p2)``, float64 and exact."""
    rows = shared_windows(p1, sides, device).flatten(1)
    columns = shared_windows(p2, sides, device).flatten(1)
    pairs = (rows.mT @ columns).view(p1, p1, p2, p2)
    return pairs.transpose(1, 2).reshape(p1 * p2, p1 * p2)


def circulant_eigenvalues(p1: int, p2: int, sides: Sequence[int], device: torch.device) -> Tensor:
    """Return the eigenvalues of the circulant that is nearest to ``sum_s A_s (x) A_s``.

    The circulant has the mean of each wrapped diagonal. Its eigenvalue at the frequencies (a, b) is
    ``sum_s |W_s f_a|^2 |W_s f_b|^2`` with f the Fourier vectors, so that none lies outside the
    eigenvalues of the sum itself: it is positive definite where that is.

    Returns:
        Tensor (p1, p2 // 2 + 1), float64, in the order of ``torch.fft.rfft2``.

    Source: T. Chan (1988), "An optimal circulant preconditioner for Toeplitz systems".
    """
    rows = _windowed(p1, sides, device)
    return rows.mT @ _windowed(p2, sides, device)[:, : p2 // 2 + 1]


def _windowed(p: int, sides: Sequence[int], device: torch.device) -> Tensor:
    """``|W_s f|^2 (S, p)``: p - s + 1 windows, all of the same modulus."""
    pixel = torch.arange(p, device=device)
    side = torch.tensor(sides, device=device)[:, None]
    window = torch.fft.fft((pixel < side).double())
    return window.abs().square() * (p - side + 1) / p
