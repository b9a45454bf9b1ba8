"""Squares in pictures of every shape that matters, listed one by one."""

from __future__ import annotations

from functools import cache

import torch

# A pixel, a row, a column, a square that is the picture, sides in any order, a ladder of every kind
# of step (2 = 10, 3 = 11, 4 = 100, 5 = 101, 6 = 110, 7 = 111, 13 = 1101).
PROBLEMS = (
    (1, 1, (1,)),
    (1, 7, (1,)),
    (6, 1, (1,)),
    (3, 3, (3,)),
    (4, 6, (3, 1, 4)),
    (5, 9, (2, 5)),
    (9, 7, (1, 2, 3, 4, 5, 6, 7)),
    (13, 20, (13, 8, 13)),
)


@cache
def box_matrix(p1: int, p2: int, sides: tuple[int, ...]) -> torch.Tensor:
    """The indicator of each square as a row (n_boxes, p1 p2), float64."""
    rows = []
    for side in sides:
        for i in range(p1 - side + 1):
            for j in range(p2 - side + 1):
                square = torch.zeros(p1, p2, dtype=torch.float64)
                square[i : i + side, j : j + side] = 1
                rows.append(square.flatten())
    return torch.stack(rows)


def pictures(n: int, p1: int, p2: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """Numbers of mixed size, the same everywhere: from 1e-6 to 1e6."""
    generator = torch.Generator().manual_seed(0)
    size, sign = torch.rand(2, n, p1, p2, generator=generator, dtype=torch.float64)
    return (10 ** (12 * size - 6) * torch.where(sign < 0.5, -1, 1)).to(dtype)


def on_squares(
    n: int, p1: int, p2: int, sides: tuple[int, ...], dtype: torch.dtype = torch.float64
) -> torch.Tensor:
    """Such numbers on the squares."""
    return pictures(n, 1, len(box_matrix(p1, p2, sides)), dtype)[:, 0]


def assert_within_bound(
    result: torch.Tensor, x: torch.Tensor, matrix: torch.Tensor, additions: int
) -> None:
    """Compare with x matrix^T: an error of so many roundings of float64, and one of the result's.

    Relative to the terms of each sum, not to the largest of all. The product of the truth has
    roundings as well, of which there are fewer than terms.
    """
    assert result.dtype == x.dtype
    flat = x.double().flatten(1)
    expected, terms = flat @ matrix.T, flat.abs() @ matrix.abs().T
    roundings = additions * 2.0**-53 + matrix.sum(1) * 2.0**-53
    if result.dtype == torch.float32:
        roundings = roundings + 2.0**-24
    error = (result.double().flatten(1) - expected).abs()
    assert (error <= roundings * terms).all()


def assert_box_sums(result: torch.Tensor, x: torch.Tensor, sides: tuple[int, ...]) -> None:
    """Compare sums over squares with the list of them."""
    matrix = box_matrix(*x.shape[1:], sides)
    assert result.shape == (len(x), len(matrix))
    assert_within_bound(result, x, matrix, 2 * (max(sides) - 1))


def assert_box_sums_adjoint(
    result: torch.Tensor, w: torch.Tensor, sides: tuple[int, ...], p1: int, p2: int
) -> None:
    """Compare sums over the squares that cover a pixel with the list of them."""
    assert result.shape == (len(w), p1, p2)
    matrix = box_matrix(p1, p2, sides).T
    assert_within_bound(result, w, matrix, 2 * (max(sides) - 1) + len(sides))
