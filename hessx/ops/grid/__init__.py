"""Linear operators on the pixels, edges and faces of grids, each differentiable through others.

A grid has p1 rows of p2 pixels, ``m = 2 p1 p2 - p1 - p2`` edges and (p1 - 1)(p2 - 1) faces; p1 and
p2 may be 1. Edges are p1 rows of p2 - 1 horizontal ones, row by row, from each pixel to the one on
its right, and after them p1 - 1 rows of p2 vertical ones, from each pixel to the one below::

    h(i, j) = g(i, j + 1) - g(i, j)        v(i, j) = g(i + 1, j) - g(i, j)

All of them add and subtract in the dtype of their argument, in a fixed order (the reference in
float64, rounded once): every kernel gives the same bits, whatever the device, the threads or the
batch. NaN and infinity reach what they are a term of, and nothing else.
"""

from __future__ import annotations

import torch

from hessx.ops.grid import rules
from hessx.ops.grid.spectral import grid_spectral

__all__ = [
    "grid_curl",
    "grid_curl_adjoint",
    "grid_difference",
    "grid_difference_adjoint",
    "grid_laplacian",
    "grid_spectral",
]


def grid_difference(grid: torch.Tensor) -> torch.Tensor:
    """Take the differences D g along the edges of grids.

    Args:
        grid: Numbers g on the pixels (N, p1, p2), float32 or float64; p1, p2 >= 1.

    Returns:
        Tensor (N, m), m = 2 p1 p2 - p1 - p2: all ``h(i, j)``, then all ``v(i, j)``, row by row.

    Raises:
        TypeError: If grid is not a tensor of float32 or float64.
        ValueError: If it does not have three axes, or p1 or p2 is 0.

    Source: D of "Statistically consistent saliency estimation" (LEG-TV, 2019), Definition 2.

    Example:
        >>> import hessx, torch
        >>> hessx.ops.grid_difference(torch.tensor([[[1.0, 3.0], [7.0, 5.0]]]))
        tensor([[ 2., -2.,  6.,  2.]])
    """
    rules.check_grid(grid)
    return torch.ops.hessx.grid_difference.default(grid)


def grid_difference_adjoint(edges: torch.Tensor, p1: int, p2: int) -> torch.Tensor:
    """Apply the adjoint D^T of the differences: what edges bring to each pixel.

    ``h(i, j - 1) - h(i, j) + v(i - 1, j) - v(i, j)``, edges that are not there counting 0: the
    divergence with its sign turned.

    Args:
        edges: Numbers on the edges (N, m), m = 2 p1 p2 - p1 - p2, float32 or float64.
        p1: Rows of pixels, >= 1.
        p2: Columns of pixels, >= 1.

    Returns:
        Tensor (N, p1, p2).

    Raises:
        TypeError: If edges is not a tensor of float32 or float64, or p1 or p2 is not an integer.
        ValueError: If p1 or p2 is below 1, or the shape of edges does not fit them.

    Source: D of "Statistically consistent saliency estimation" (LEG-TV, 2019), Definition 2.

    Example:
        >>> import hessx, torch
        >>> hessx.ops.grid_difference_adjoint(torch.tensor([[2.0, -2.0, 6.0, 2.0]]), 2, 2)
        tensor([[[-8.,  0.],
                 [ 8.,  0.]]])
    """
    rules.check_edges(edges, p1, p2)
    return torch.ops.hessx.grid_difference_adjoint.default(edges, p1, p2)


def grid_laplacian(grid: torch.Tensor) -> torch.Tensor:
    """Apply the Laplacian D^T D: each pixel's number less those of its neighbours, added up.

    Exactly ``grid_difference_adjoint(grid_difference(g), p1, p2)``, in one pass.

    Args:
        grid: Numbers g on the pixels (N, p1, p2), float32 or float64; p1, p2 >= 1.

    Returns:
        Tensor (N, p1, p2).

    Raises:
        TypeError: If grid is not a tensor of float32 or float64.
        ValueError: If it does not have three axes, or p1 or p2 is 0.

    Source: D of "Statistically consistent saliency estimation" (LEG-TV, 2019), Definition 2.

    Example:
        >>> import hessx, torch
        >>> hessx.ops.grid_laplacian(torch.tensor([[[1.0, 3.0], [7.0, 5.0]]]))
        tensor([[[-8.,  0.],
                 [ 8.,  0.]]])
    """
    rules.check_grid(grid)
    return torch.ops.hessx.grid_laplacian.default(grid)


def grid_curl(edges: torch.Tensor, p1: int, p2: int) -> torch.Tensor:
    """Add up the edges around each face, clockwise: C a.

    ``h(i, j) + v(i, j + 1) - h(i + 1, j) - v(i, j)``. Edges are the differences of a grid if and
    only if all of these are 0.

    Args:
        edges: Numbers a on the edges (N, m), m = 2 p1 p2 - p1 - p2, float32 or float64.
        p1: Rows of pixels, >= 1.
        p2: Columns of pixels, >= 1.

    Returns:
        Tensor (N, p1 - 1, p2 - 1).

    Raises:
        TypeError: If edges is not a tensor of float32 or float64, or p1 or p2 is not an integer.
        ValueError: If p1 or p2 is below 1, or the shape of edges does not fit them.

    Source: Costantini (1998), "A novel phase unwrapping method based on network programming".

    Example:
        >>> import hessx, torch
        >>> hessx.ops.grid_curl(torch.tensor([[2.0, -2.0, 6.0, 3.0]]), 2, 2)
        tensor([[[1.]]])
    """
    rules.check_edges(edges, p1, p2)
    return torch.ops.hessx.grid_curl.default(edges, p1, p2)


def grid_curl_adjoint(potential: torch.Tensor) -> torch.Tensor:
    """Apply the adjoint C^T of the curl: the circulation of a potential on the faces.

    ``h(i, j) = psi(i, j) - psi(i - 1, j)`` and ``v(i, j) = psi(i, j - 1) - psi(i, j)``, faces that
    are not there counting 0. Nothing flows into a pixel: D^T C^T = 0.

    Args:
        potential: Numbers psi on the faces (N, p1 - 1, p2 - 1), float32 or float64; either size
            may be 0, for a grid of one row or one column.

    Returns:
        Tensor (N, m), m = 2 p1 p2 - p1 - p2, in the order of `grid_difference`.

    Raises:
        TypeError: If potential is not a tensor of float32 or float64.
        ValueError: If it does not have three axes.

    Source: Costantini (1998), "A novel phase unwrapping method based on network programming".

    Example:
        >>> import hessx, torch
        >>> hessx.ops.grid_curl_adjoint(torch.ones(1, 1, 1))
        tensor([[ 1., -1., -1.,  1.]])
    """
    rules.check_potential(potential)
    return torch.ops.hessx.grid_curl_adjoint.default(potential)
