"""Grids of every shape that matters, and the operators as matrices, written edge by edge."""

from __future__ import annotations

from functools import cache

import torch

# A pixel, rows, columns, one face, lanes of vectors and what is left over.
GRIDS = ((1, 1), (1, 2), (2, 1), (1, 19), (19, 1), (2, 2), (3, 5), (7, 4), (6, 9), (28, 28))


def n_edges(p1: int, p2: int) -> int:
    """m, by counting."""
    return p1 * (p2 - 1) + (p1 - 1) * p2


def difference_matrix(p1: int, p2: int) -> torch.Tensor:
    """D (m, p1 p2) in float64."""
    pairs = [(i * p2 + j, i * p2 + j + 1) for i in range(p1) for j in range(p2 - 1)]
    pairs += [(i * p2 + j, (i + 1) * p2 + j) for i in range(p1 - 1) for j in range(p2)]
    matrix = torch.zeros(len(pairs), p1 * p2, dtype=torch.float64)
    for edge, (begin, end) in enumerate(pairs):
        matrix[edge, begin], matrix[edge, end] = -1, 1
    return matrix


def curl_matrix(p1: int, p2: int) -> torch.Tensor:
    """C ((p1 - 1)(p2 - 1), m) in float64."""
    rows, columns, horizontal = p1 - 1, p2 - 1, p1 * (p2 - 1)
    matrix = torch.zeros(rows * columns, n_edges(p1, p2), dtype=torch.float64)
    for face in range(rows * columns):
        i, j = divmod(face, columns)
        matrix[face, i * columns + j] = matrix[face, horizontal + i * p2 + j + 1] = 1
        matrix[face, (i + 1) * columns + j] = matrix[face, horizontal + i * p2 + j] = -1
    return matrix


@cache
def matrices(p1: int, p2: int) -> dict[str, torch.Tensor]:
    """What each op multiplies by."""
    d, c = difference_matrix(p1, p2), curl_matrix(p1, p2)
    return {
        "grid_difference": d,
        "grid_difference_adjoint": d.T,
        "grid_laplacian": d.T @ d,
        "grid_curl": c,
        "grid_curl_adjoint": c.T,
    }


def arguments(
    name: str, n: int, p1: int, p2: int, dtype: torch.dtype = torch.float64
) -> tuple[torch.Tensor | int, ...]:
    """Arguments of an op, the same everywhere."""
    generator = torch.Generator().manual_seed(0)

    def numbers(*shape: int) -> torch.Tensor:
        return torch.randn(n, *shape, generator=generator, dtype=torch.float64).to(dtype)

    if name in ("grid_difference", "grid_laplacian"):
        return (numbers(p1, p2),)
    if name == "grid_curl_adjoint":
        return (numbers(p1 - 1, p2 - 1),)
    return numbers(n_edges(p1, p2)), p1, p2


def assert_product(result: torch.Tensor, name: str, x: torch.Tensor, p1: int, p2: int) -> None:
    """Compare with the product of the op's matrix, in float64.

    At most three additions round each, and no partial sum is larger than the terms together; the
    Laplacian adds up differences, which round as well.
    """
    matrix = matrices(p1, p2)[name]
    shapes = {
        "grid_difference": (matrix.shape[0],),
        "grid_curl_adjoint": (matrix.shape[0],),
        "grid_curl": (p1 - 1, p2 - 1),
    }
    assert result.shape == (x.shape[0], *shapes.get(name, (p1, p2)))
    assert result.dtype == x.dtype
    flat = x.double().flatten(1)
    expected, terms = flat @ matrix.T, flat.abs() @ matrix.abs().T
    error = (result.double().flatten(1) - expected).abs()
    assert (error <= 2 * torch.finfo(x.dtype).eps * terms).all()
