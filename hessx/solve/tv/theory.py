"""The bound L under which the true LEG is feasible with high probability."""

from __future__ import annotations

import math

from hessx.ops.grid.rules import edge_count


def theory_bound(p1: int, p2: int, n: int, eps: float = 0.05) -> float:
    """Return the L of Theorem 1: ``2 |D^+|_1 sqrt(2 log(2 m / eps) / n)``.

    For a model with values in [-1, 1], whose differences ``y`` lie in [-2, 2], and perturbations
    scaled to ``|z| <= 1``, each of the m numbers ``y D^{+T} z`` lies within ``2 |D^+|_1`` of 0.
    Hoeffding's inequality and the union over the m numbers give this L, at which
    ``|D^{+T}(mean(y z) - Sigma gamma)|_inf <= L`` with probability ``1 - eps``. (Printed with the
    number of pixels in the place of m, and with another constant.)

    In practice this L is far above the one from which on the solution is 0: at 28 x 28 and
    n = 3000 it is about 2.4, against .01 there. It is the worst case over all models.

    Args:
        p1: Rows of the grid, >= 1.
        p2: Columns of the grid, >= 1.
        n: Number of samples, >= 1.
        eps: Probability of failure, between 0 and 1.

    Returns:
        L; 0 for a grid of one pixel.

    Raises:
        ValueError: If an argument is out of range.

    Source: Theorem 1 and Lemma 2 of "Statistically Consistent Saliency Estimation" (ICLR 2020
    submission).

    Example:
        >>> from hessx.solve.tv import theory_bound
        >>> round(theory_bound(28, 28, n=3000), 1)
        2.4
    """
    for name, value in (("p1", p1), ("p2", p2), ("n", n)):
        if value < 1:
            raise ValueError(f"{name} must be >= 1, got {value}")
    if not 0 < eps < 1:
        raise ValueError(f"eps must be between 0 and 1, got {eps}")
    m = edge_count(p1, p2)
    if m == 0:
        return 0.0
    return 2 * pseudo_inverse_norm(p1, p2) * math.sqrt(2 * math.log(2 * m / eps) / n)


def pseudo_inverse_norm(p1: int, p2: int) -> float:
    """Return ``|D^+|_1``, the largest sum of absolute values of a column of D^+.

    ``2 floor(p/2) ceil(p/2) / p`` for the longer side p of the grid: the value of a line of p
    pixels. A column ``(D^T D)^+ D^T e``, for an edge e between neighbours of a row, is a difference
    along the rows of the Green's function H(e, .) of the edges (zero beyond the ends of a row,
    reflected at the other border), so that its sum is the variation of H along the rows. H is the
    integral over t of products of heat kernels of a row, which are unimodal, and of a column, which
    sum to 1. Hence the sum is at most twice the integral of the largest value of a row's heat
    kernel, which lies on its diagonal in the middle of the row; and it is there no less than what
    the sums over the columns of the grid give, which is the same.
    """
    p = max(p1, p2)
    return 2 * (p // 2) * ((p + 1) // 2) / p
