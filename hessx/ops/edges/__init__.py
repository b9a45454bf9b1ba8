"""A step of the Douglas-Rachford method for total variation, on the edges of grids."""

from __future__ import annotations

import torch

from hessx.ops.edges.rules import check_edge_divergence, check_edge_prox, check_edge_update


def edge_prox(
    z: torch.Tensor, centre: torch.Tensor, radius: torch.Tensor, threshold: torch.Tensor
) -> torch.Tensor:
    """Shrink numbers towards zero and clip them: ``clip(S(z, t), centre - r, centre + r)``.

    The proximal map of ``t |a|_1`` over the box ``|a - centre| <= r``, S the soft threshold; for
    a convex function of one number and an interval, clipping after shrinking is exact. NaN of any
    argument reaches what it touches; where r < 0 the box is empty and the result is NaN.
    Differentiable in all arguments; at its kinks the derivative of one side is taken.

    Args:
        z: Rows (N, m), float32 or float64.
        centre: Centres of the boxes (N, m), of the same dtype, as are all that follow.
        radius: Half of the width of the boxes of each row (N,), >= 0.
        threshold: The threshold t of each row (N,), >= 0.

    Returns:
        Tensor (N, m).

    Raises:
        TypeError: If an argument is not a tensor of float32 or float64, or the dtypes differ.
        ValueError: If the shapes or the devices do not fit.

    Source: Combettes and Pesquet (2011), "Proximal splitting methods in signal processing",
    Table 1, on Eq. 4 of "Statistically consistent saliency estimation" (under review at ICLR 2020,
    LEG-TV).

    Example:
        >>> import hessx, torch
        >>> z, one = torch.tensor([[-3.0, 0.5, 4.0]]), torch.tensor([1.0])
        >>> hessx.ops.edge_prox(z, torch.ones(1, 3), one, one)
        tensor([[0., 0., 2.]])
    """
    check_edge_prox(z, centre, radius, threshold)
    return torch.ops.hessx.edge_prox.default(z, centre, radius, threshold)


def edge_divergence(
    z: torch.Tensor,
    centre: torch.Tensor,
    radius: torch.Tensor,
    threshold: torch.Tensor,
    p1: int,
    p2: int,
) -> torch.Tensor:
    """Take the reflected point to the pixels of its grid: ``D^T (2 a - z)``, ``a = edge_prox``.

    D^T brings to each pixel the edges that end in it less those that begin in it. An edge vector
    has the edges from (i, j) to (i, j + 1) first, row by row, then those from (i, j) to (i + 1, j):
    m = 2 p1 p2 - p1 - p2. One pass over memory. NaN reaches the pixels of its edge. No gradient.

    Args:
        z: Rows (N, m), float32 or float64.
        centre: Centres of the boxes (N, m), of the same dtype, as are all that follow.
        radius: Half of the width of the boxes of each row (N,), >= 0.
        threshold: The threshold of each row (N,), >= 0.
        p1: Rows of the grid, >= 1.
        p2: Columns of the grid, >= 1.

    Returns:
        Tensor (N, p1, p2).

    Raises:
        TypeError: If an argument is not a tensor of float32 or float64, the dtypes differ, or a
            size is not an integer.
        ValueError: If the shapes or the devices do not fit, or a size is below 1.

    Source: Eckstein and Bertsekas (1992), "On the Douglas-Rachford splitting method and the
    proximal point algorithm for maximal monotone operators".

    Example:
        >>> import hessx, torch
        >>> z, zero = torch.tensor([[1.0, 2.0]]), torch.zeros(1)
        >>> hessx.ops.edge_divergence(z, torch.zeros(1, 2), zero + 9, zero, 1, 3)
        tensor([[[-1., -1.,  2.]]])
    """
    check_edge_divergence(z, centre, radius, threshold, p1, p2)
    out = z.new_empty(z.shape[0], p1, p2)
    torch.ops.hessx.edge_divergence.default(z, centre, radius, threshold, out)
    return out


def edge_update(
    z: torch.Tensor,
    anchor: torch.Tensor,
    centre: torch.Tensor,
    potential: torch.Tensor,
    radius: torch.Tensor,
    threshold: torch.Tensor,
    weight: torch.Tensor,
    *,
    out: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Finish a step of the reflected Halpern iteration of Douglas-Rachford, in one pass.

    With ``a = edge_prox(z, centre, radius, threshold)`` and D the differences along the edges of
    the grid (see `edge_divergence`)::

        Tz = z - a + D potential
        next = weight (2 Tz - z) + (1 - weight) anchor
        residual = |Tz - z|_2^2

    Where D potential is the projection of 2 a - z onto the range of D, T is the Douglas-Rachford
    operator of the box, the l1 norm and that range. The squares are added up in float64, in an
    order that does not depend on the number of threads or the batch: results are equal to the bit.
    NaN reaches the edges that it touches and the residual of its row, and no other. No gradient.

    Args:
        z: Rows (N, m), float32 or float64, m = 2 p1 p2 - p1 - p2.
        anchor: Where the iteration began (N, m), of the same dtype, as are all that follow.
        centre: Centres of the boxes (N, m).
        potential: Numbers of the pixels (N, p1, p2).
        radius: Half of the width of the boxes of each row (N,), >= 0.
        threshold: The threshold of each row (N,), >= 0.
        weight: Weight of the reflected point in each row (N,), (k + 1) / (k + 2) in step k.
        out: A contiguous tensor for next, to use again over many steps. It may be ``z`` or
            ``anchor`` itself, but not overlap the arguments otherwise.

    Returns:
        next (N, m), of the dtype of the arguments, and residual (N,) in float64.

    Raises:
        TypeError: If an argument is not a tensor of float32 or float64, or the dtypes differ.
        ValueError: If the shapes or the devices do not fit.

    Source: Lu and Yang (2024), "Restarted Halpern PDHG for linear programming", section 6
    (reflection), on Douglas-Rachford; Halpern (1967), "Fixed points of nonexpanding maps".

    Example:
        >>> import hessx, torch
        >>> z, zero, one = torch.tensor([[1.0, 2.0]]), torch.zeros(1, 2), torch.ones(1)
        >>> g = torch.tensor([[[0.0, 1.0, 3.0]]])
        >>> hessx.ops.edge_update(z, zero, zero, g, one, 0 * one, one)
        (tensor([[1., 4.]]), tensor([1.], dtype=torch.float64))
    """
    inputs = (z, anchor, centre, potential, radius, threshold, weight)
    if out is None:
        check_edge_update(*inputs)
        out = z.new_empty(z.shape)
    else:
        check_edge_update(*inputs, out=out)
    residual = z.new_empty(z.shape[:1], dtype=torch.float64)
    torch.ops.hessx.edge_update.default(*inputs, out, residual)
    return out, residual
