"""C-Shapley on a grid: Shapley values from sets of neighbouring cells.

Chen, Song, Wainwright and Jordan, L-Shapley and C-Shapley (ICLR 2019): what a cell is worth is read
off connected sets of few cells. Here they are a cell, two side by side, and a square of four, which
is four evaluations a cell. The paper's weights 2 / ((u + 2) (u + 1) u) of a set of u cells are
those of a chain and add up to less than 1 on a grid. Instead, what a set is worth beyond its parts
(its Harsanyi dividend) is shared equally by its cells, as Shapley values do: exact wherever cells
interact within such sets only.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def c_shapley(value: Callable[[Tensor], Tensor], p1: int, p2: int) -> Tensor:
    """Return the estimate of the Shapley values of the cells, ``(p1, p2)`` float64.

    Args:
        value: From sets of cells ``(N, p1, p2)``, True inside, to their values ``(N,)``. Called
            once for the empty set and once for each shape of set.
        p1: Rows.
        p2: Columns.
    """
    empty = value(torch.zeros(1, p1, p2, dtype=torch.bool)).double()

    def worth(rows: int, columns: int) -> Tensor:
        """Return the values of all such rectangles less the empty set's, by their corner."""
        at = (max(p1 - rows + 1, 0), max(p2 - columns + 1, 0))
        if 0 in at:
            return torch.zeros(at, dtype=torch.float64)
        return (value(rectangles(p1, p2, rows, columns)).double() - empty).reshape(at)

    single = worth(1, 1)
    beside = worth(1, 2) - single[:, :-1] - single[:, 1:]
    above = worth(2, 1) - single[:-1] - single[1:]
    square = worth(2, 2) - single[:-1, :-1] - single[:-1, 1:] - single[1:, :-1] - single[1:, 1:]
    square -= beside[:-1] + beside[1:] + above[:, :-1] + above[:, 1:]
    shapley = single.clone()
    for dividend, rows, columns in ((beside, 1, 2), (above, 2, 1), (square, 2, 2)):
        for i in range(rows):
            for j in range(columns):
                cells = shapley[i : p1 - rows + 1 + i, j : p2 - columns + 1 + j]
                cells += dividend / (rows * columns)
    return shapley


def rectangles(p1: int, p2: int, rows: int, columns: int) -> Tensor:
    """Return all sets of ``rows`` by ``columns`` cells, in row-major order of their corners."""
    inside_rows = _intervals(p1, rows)
    inside_columns = _intervals(p2, columns)
    sets = inside_rows[:, None, :, None] & inside_columns[None, :, None, :]
    return sets.reshape(-1, p1, p2)


def _intervals(size: int, length: int) -> Tensor:
    first = torch.arange(size - length + 1)[:, None]
    place = torch.arange(size)
    return (place >= first) & (place < first + length)
