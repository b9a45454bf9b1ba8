"""What every implementation of the grid ops shares: dtypes, shapes, gradients.

The ops are linear, and each other's adjoints: their gradients need shapes, but no values.
"""

from __future__ import annotations

from typing import Any

import torch

DTYPES = (torch.float32, torch.float64)


def edge_count(p1: int, p2: int) -> int:
    """Count the edges of a grid: (p1, p2 - 1) horizontal ones and (p1 - 1, p2) vertical ones."""
    return 2 * p1 * p2 - p1 - p2


def check_size(p1: int, p2: int) -> None:
    """Check the rows and columns of a grid."""
    for name, size in (("p1", p1), ("p2", p2)):
        if isinstance(size, bool) or not isinstance(size, (int, torch.SymInt)):
            raise TypeError(f"{name} must be an integer, got {type(size).__name__}")
        if size < 1:
            raise ValueError(f"{name} must be >= 1, got {size}")


def check_real(name: str, x: torch.Tensor) -> None:
    """Check the type of numbers on grids."""
    if not isinstance(x, torch.Tensor):
        raise TypeError(f"{name} must be a tensor, got {type(x).__name__}")
    if x.dtype not in DTYPES:
        raise TypeError(f"{name} must have a dtype of {DTYPES}, got {x.dtype}")


def check_grid(grid: torch.Tensor) -> None:
    """Check numbers on the pixels of grids."""
    check_real("grid", grid)
    if grid.ndim != 3:
        raise ValueError(f"grid must have shape (N, p1, p2), got {tuple(grid.shape)}")
    if grid.shape[1] < 1 or grid.shape[2] < 1:
        raise ValueError(f"grid must have p1 >= 1 and p2 >= 1, got {tuple(grid.shape)}")


def check_edges(edges: torch.Tensor, p1: int, p2: int) -> None:
    """Check numbers on the edges of grids, and the size of these."""
    check_real("edges", edges)
    check_size(p1, p2)
    if edges.ndim != 2 or edges.shape[1] != edge_count(p1, p2):
        raise ValueError(
            f"edges must have shape (N, m) with m = 2 p1 p2 - p1 - p2 = {edge_count(p1, p2)} for "
            f"p1 = {p1} and p2 = {p2}, got {tuple(edges.shape)}"
        )


def check_potential(potential: torch.Tensor) -> None:
    """Check numbers on the faces of grids."""
    check_real("potential", potential)
    if potential.ndim != 3:
        raise ValueError(
            f"potential must have shape (N, p1 - 1, p2 - 1), got {tuple(potential.shape)}"
        )


def grid_difference_fake(grid: torch.Tensor) -> torch.Tensor:
    """Give an empty output of grid_difference."""
    check_grid(grid)
    n, p1, p2 = grid.shape
    return grid.new_empty(n, edge_count(p1, p2))


def grid_difference_adjoint_fake(edges: torch.Tensor, p1: int, p2: int) -> torch.Tensor:
    """Give an empty output of grid_difference_adjoint."""
    check_edges(edges, p1, p2)
    return edges.new_empty(edges.shape[0], p1, p2)


def grid_laplacian_fake(grid: torch.Tensor) -> torch.Tensor:
    """Give an empty output of grid_laplacian."""
    check_grid(grid)
    return grid.new_empty(grid.shape)


def grid_curl_fake(edges: torch.Tensor, p1: int, p2: int) -> torch.Tensor:
    """Give an empty output of grid_curl."""
    check_edges(edges, p1, p2)
    return edges.new_empty(edges.shape[0], p1 - 1, p2 - 1)


def grid_curl_adjoint_fake(potential: torch.Tensor) -> torch.Tensor:
    """Give an empty output of grid_curl_adjoint."""
    check_potential(potential)
    n, rows, columns = potential.shape
    return potential.new_empty(n, edge_count(rows + 1, columns + 1))


def save_nothing(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    """Keep nothing: the shape of the gradient says it all."""


def save_size(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    """Keep the size of the grid, the last two axes of the first argument."""
    _, ctx.rows, ctx.columns = inputs[0].shape


def grid_difference_backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
    """Gradient of grid_difference: its adjoint."""
    return torch.ops.hessx.grid_difference_adjoint(grad, ctx.rows, ctx.columns)


def grid_difference_adjoint_backward(
    ctx: Any, grad: torch.Tensor
) -> tuple[torch.Tensor, None, None]:
    """Gradient of grid_difference_adjoint: the difference."""
    return torch.ops.hessx.grid_difference(grad), None, None


def grid_laplacian_backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
    """Gradient of grid_laplacian, which is symmetric."""
    return torch.ops.hessx.grid_laplacian(grad)


def grid_curl_backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None, None]:
    """Gradient of grid_curl: its adjoint."""
    return torch.ops.hessx.grid_curl_adjoint(grad), None, None


def grid_curl_adjoint_backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
    """Gradient of grid_curl_adjoint: the curl."""
    return torch.ops.hessx.grid_curl(grad, ctx.rows + 1, ctx.columns + 1)
