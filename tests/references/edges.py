"""Steps on the edges of grids to be made, and their formulas pixel by pixel and edge by edge."""

from __future__ import annotations

import torch

GRIDS = ((1, 1), (1, 2), (2, 1), (1, 9), (7, 1), (2, 2), (3, 2), (6, 5), (4, 17), (5, 34), (9, 66))


def pixels_of_edges(p1: int, p2: int) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Where each edge of a grid begins and ends, in the order of an edge vector."""
    right = [((i, j), (i, j + 1)) for i in range(p1) for j in range(p2 - 1)]
    down = [((i, j), (i + 1, j)) for i in range(p1 - 1) for j in range(p2)]
    return right + down


def difference_matrix(p1: int, p2: int) -> torch.Tensor:
    """D (m, p1 p2), row by row: 1 where an edge ends, -1 where it begins."""
    edges = pixels_of_edges(p1, p2)
    matrix = torch.zeros(len(edges), p1, p2, dtype=torch.float64)
    for row, (begin, end) in zip(matrix, edges, strict=True):
        row[begin], row[end] = -1, 1
    return matrix.flatten(1)


def problem(
    rows: int, p1: int, p2: int, dtype: torch.dtype = torch.float64
) -> dict[str, torch.Tensor]:
    """Arguments of edge_update of which about a third each is clipped, zero and neither."""
    generator = torch.Generator().manual_seed(0)
    m = 2 * p1 * p2 - p1 - p2

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)

    def uniform(low: float, high: float) -> torch.Tensor:
        drawn = torch.rand(rows, generator=generator, dtype=torch.float64)
        return (low + (high - low) * drawn).to(dtype)

    return {
        "z": 2 * normal(rows, m),
        "anchor": normal(rows, m),
        "centre": normal(rows, m) / 2,
        "potential": normal(rows, p1, p2),
        "radius": uniform(0.6, 1.4),
        "threshold": uniform(0.3, 0.9),
        "weight": uniform(0.1, 0.9),
    }


def prox(z, centre, radius, threshold) -> torch.Tensor:
    """The minimiser of threshold |a| + (a - z)^2 / 2 in the box, in the type of the arguments."""
    radius, threshold = radius[:, None], threshold[:, None]
    zero = torch.zeros_like(z)
    shrunk = torch.where(
        z > threshold, z - threshold, torch.where(z < -threshold, z + threshold, zero)
    )
    return torch.minimum(torch.maximum(shrunk, centre - radius), centre + radius)


def assert_divergence(found: torch.Tensor, p1: int, p2: int, arguments: dict) -> None:
    """Compare with D^T (2 a - z) in float64: seven roundings of numbers below 16."""
    z, centre, radius, threshold = (arguments[x] for x in ("z", "centre", "radius", "threshold"))
    a = prox(z, centre, radius, threshold).double()
    expected = (2 * a - z.double()) @ difference_matrix(p1, p2)
    assert found.shape == (len(z), p1, p2)
    assert found.dtype == z.dtype
    eps = torch.finfo(z.dtype).eps
    torch.testing.assert_close(found.flatten(1).double(), expected, rtol=0, atol=64 * eps)


def assert_update(found: tuple[torch.Tensor, torch.Tensor], arguments: dict) -> None:
    """Compare with the formulas in float64.

    Tz - z is rounded twice, of numbers below 16, and next thrice more. The squares of the residual
    are those of rounded numbers, added up in float64.
    """
    z, anchor, centre, potential, radius, threshold, weight = arguments.values()
    eps = torch.finfo(z.dtype).eps
    a = prox(z, centre, radius, threshold).double()
    difference = potential.double().flatten(1) @ difference_matrix(*potential.shape[1:]).T
    step = difference - a
    w = weight.double()[:, None]
    next_point, residual = found
    assert (next_point.dtype, residual.dtype) == (z.dtype, torch.float64)
    expected = w * (z.double() + 2 * step) + (1 - w) * anchor.double()
    torch.testing.assert_close(next_point.double(), expected, rtol=0, atol=64 * eps)
    squares = step.square().sum(1)
    error = 16 * eps * step.abs().sum(1) + 1e-14 * squares
    assert ((residual - squares).abs() <= error).all()
