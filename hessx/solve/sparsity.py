"""Choose lambda1 by the number of pixels of its solution: order statistics, brackets, a search."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

# Of lambda1, relative: where the bracket of the smallest admissible one stops.
_PRECISION = 1e-3
_MAX_ROUNDS = 30
# Section 4.1 of the paper begins there; it names no end of the halving.
_SEARCH_START = 1e-5
_SEARCH_TRIALS = 60
# Multiples of a first guess that bracket what the Hessian term can move it to.
_FIRST = (0.0, 0.3, 0.6, 0.85, 1.0, 1.15, 1.5, 3.0)


@dataclass(frozen=True)
class Support:
    """How many pixels a solution may have.

    Attributes:
        fewest, most: Bounds, inclusive.
    """

    fewest: int
    most: int

    @classmethod
    def of_sparsity(cls, low: float, high: float, n_pixels: int) -> Support:
        """Return the support of a sparsity ratio, zero pixels / pixels, in ``[low, high)``."""
        # The last bits of 1 - low must not decide about a pixel.
        most = math.floor((1 - low) * n_pixels + 1e-9)
        fewest = math.floor((1 - high) * n_pixels + 1e-9) + 1
        return cls(min(fewest, n_pixels), max(most, 1))


def pixel_magnitudes(x: Tensor, n_channels: int) -> Tensor:
    """Return the largest ``|x|`` among a pixel's channels: ``(..., d)`` to ``(..., n_pixels)``.

    A pixel of ``S(x, lambda1)`` is zero exactly where it is ``<= lambda1``.
    """
    return x.abs().unflatten(-1, (n_channels, -1)).amax(-2)


def smallest_for_point(magnitudes: Tensor, support: Support) -> Tensor:
    """Return the smallest lambda1 that leaves at most ``support.most`` of fixed magnitudes.

    ``(..., n_pixels)`` to ``(...)``: an order statistic, 0 where there are no more than that. Where
    ties make it leave fewer than ``support.fewest``, the next smaller magnitude.
    """
    n_pixels = magnitudes.shape[-1]
    if support.most >= n_pixels:
        return magnitudes.new_zeros(magnitudes.shape[:-1])
    smallest = magnitudes.kthvalue(n_pixels - support.most, dim=-1, keepdim=True).values
    below = torch.where(magnitudes < smallest, magnitudes, 0).amax(-1, keepdim=True)
    enough = (magnitudes > smallest).sum(-1, keepdim=True) >= support.fewest
    return torch.where(enough, smallest, below)[..., 0]


def smallest_admissible(
    count: Callable[[Tensor], Tensor], guess: Tensor, largest: Tensor, support: Support
) -> Tensor:
    """Return the smallest lambda1 whose solution has an admissible number of pixels.

    The number falls with lambda1 but for small steps back, so a bracket with eight points inside
    is narrowed to a relative width of 1e-3, and its upper end returned. Where the number jumps
    past the admissible ones, the lower end is: too many pixels rather than none.

    Args:
        count: From ``(B, M)`` lambdas to ``(B, M)``, the pixels of each solution.
        guess: ``(B,)``.
        largest: ``(B,)``, where the solution becomes zero.
        support: What is admissible.
    """
    low, high = torch.zeros_like(guess), largest
    at_high = torch.zeros_like(guess)
    points = guess[:, None] * guess.new_tensor(_FIRST)
    inside = torch.arange(1, len(_FIRST) + 1, device=guess.device).to(guess) / (len(_FIRST) + 1)
    for _ in range(_MAX_ROUNDS):
        # A row that is done keeps its bracket, whatever the others still need.
        due = high - low > _PRECISION * high
        if not due.any():
            break
        points = points.clamp(max=largest[:, None])
        pixels = count(points).to(guess)
        admissible = torch.where(pixels <= support.most, points, torch.inf)
        upper, at = admissible.min(-1)
        tighter = due & (upper < high)
        high = torch.where(tighter, upper, high)
        at_high = torch.where(tighter, pixels.gather(-1, at[:, None])[:, 0], at_high)
        lower = torch.where(points < high[:, None], points, 0).amax(-1)
        low = torch.where(due, torch.maximum(low, lower), low)
        points = low[:, None] + (high - low)[:, None] * inside
    return torch.where((at_high < support.fewest) & (low > 0), low, high)


def paper_search(
    evaluate: Callable[[Tensor], tuple[Tensor, Tensor]],
    sparsity: tuple[float, float],
    largest: Tensor,
) -> Tensor:
    """Choose lambda1 as section 4.1 of the paper states it.

    From 1e-5 up by factors of 10 until the solution is zero; among solutions of a sparsity ratio
    in ``[low, high)`` the one of highest objective; if there is none, half of the first lambda1
    that gave zero, again and again. Where halving steps over the range, which the paper does not
    mention, the two values around it are bisected.

    Args:
        evaluate: From ``(B, 1)`` lambdas to the sparsity ratio and objective of each, ``(B, 1)``.
        sparsity: ``(low, high)``.
        largest: ``(B, 1)`` float64, where solutions become zero: halvings above it are not tried.

    Returns:
        ``(B, 1)`` float64; 0 for rows whose solution is always zero.

    Raises:
        ValueError: If 60 further trials find no admissible solution.
    """
    low, high = sparsity
    chosen = torch.where(largest > 0, torch.nan, 0.0).double()
    best = torch.full_like(chosen, -torch.inf)

    def look(lambda1: Tensor, rows_due: Tensor) -> Tensor:
        """Keep what is admissible among the rows that are due; return the sparsity ratios."""
        nonlocal chosen, best
        ratio, objective = evaluate(lambda1)
        better = rows_due & (ratio >= low) & (ratio < high) & (objective > best)
        chosen = torch.where(better, lambda1, chosen)
        best = torch.where(better, objective, best)
        return ratio

    lambda1 = torch.full_like(chosen, _SEARCH_START)
    due = torch.ones_like(chosen, dtype=torch.bool)
    while True:
        due = due & (look(lambda1, due) < 1)
        if not due.any():
            break
        lambda1 = torch.where(due, 10 * lambda1, lambda1)
    halvings = (lambda1 / largest).log2().floor().clamp(min=0)
    sparse_at, dense_at = lambda1 * 2**-halvings, torch.zeros_like(lambda1)
    for _ in range(_SEARCH_TRIALS):
        due = chosen.isnan()
        if not due.any():
            break
        between = torch.where(dense_at > 0, (sparse_at * dense_at).sqrt(), sparse_at / 2)
        lambda1 = torch.where(due, between, lambda1)
        too_sparse = look(lambda1, due) >= high
        sparse_at = torch.where(too_sparse, lambda1, sparse_at)
        dense_at = torch.where(too_sparse, dense_at, lambda1)
    if chosen.isnan().any():
        row = int(chosen.isnan().nonzero()[0, 0])
        raise ValueError(
            f'lambda1="search" found no solution of a sparsity in [{low}, {high}) for input row '
            f"{row}: give lambda1, or another sparsity"
        )
    return chosen
