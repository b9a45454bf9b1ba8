"""What every implementation of the box ops shares: dtypes, shapes, gradients.

The two are linear and each other's adjoints: their gradients need shapes, but no values.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from hessx.ops.grid.rules import check_real, check_size


def box_count(p1: int, p2: int, sides: Sequence[int]) -> int:
    """Count the squares of these sides inside a picture: (p1 - s + 1)(p2 - s + 1) of side s."""
    return sum((p1 - side + 1) * (p2 - side + 1) for side in sides)


def box_slices(p1: int, p2: int, sides: Sequence[int]) -> Iterator[tuple[int, int, int, int]]:
    """Yield each side, the number of its first square, and the rows and columns of its squares."""
    first = 0
    for side in sides:
        rows, columns = p1 - side + 1, p2 - side + 1
        yield side, first, rows, columns
        first += rows * columns


def check_box_sums(x: torch.Tensor, sides: Sequence[int]) -> None:
    """Check pictures and the sides of squares inside them."""
    check_real("x", x)
    if x.ndim != 3 or x.shape[1] < 1 or x.shape[2] < 1:
        raise ValueError(f"x must have shape (N, p1, p2), p1, p2 >= 1, got {tuple(x.shape)}")
    _check_sides(sides, x.shape[1], x.shape[2])


def check_box_sums_adjoint(w: torch.Tensor, sides: Sequence[int], p1: int, p2: int) -> None:
    """Check numbers on squares, their sides and the size of the picture."""
    check_real("w", w)
    check_size(p1, p2)
    _check_sides(sides, p1, p2)
    if w.ndim != 2 or w.shape[1] != box_count(p1, p2, sides):
        raise ValueError(
            f"w must have shape (N, n_boxes) with n_boxes = {box_count(p1, p2, sides)} for "
            f"p1 = {p1}, p2 = {p2} and sides {list(sides)}, got {tuple(w.shape)}"
        )


def _check_sides(sides: Sequence[int], p1: int, p2: int) -> None:
    if isinstance(sides, (str, bytes)) or not isinstance(sides, Sequence):
        raise TypeError(f"sides must be a list of integers, got {type(sides).__name__}")
    if len(sides) == 0:
        raise ValueError("sides must name at least one side, got none")
    for side in sides:
        if isinstance(side, bool) or not isinstance(side, int):
            raise TypeError(f"sides must be integers, got {type(side).__name__}")
        if side < 1 or side > p1 or side > p2:
            raise ValueError(f"sides must lie in [1, min(p1, p2)] = [1, {min(p1, p2)}], got {side}")


def box_sums_fake(x: torch.Tensor, sides: Sequence[int]) -> torch.Tensor:
    """Give an empty output of box_sums."""
    check_box_sums(x, sides)
    n, p1, p2 = x.shape
    return x.new_empty(n, box_count(p1, p2, sides))


def box_sums_adjoint_fake(w: torch.Tensor, sides: Sequence[int], p1: int, p2: int) -> torch.Tensor:
    """Give an empty output of box_sums_adjoint."""
    check_box_sums_adjoint(w, sides, p1, p2)
    return w.new_empty(w.shape[0], p1, p2)


def save_picture(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    """Keep the sides and the size of the pictures."""
    x, ctx.sides = inputs
    _, ctx.p1, ctx.p2 = x.shape


def save_sides(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    """Keep the sides."""
    ctx.sides = inputs[1]


def box_sums_backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None]:
    """Gradient of box_sums: its adjoint."""
    return torch.ops.hessx.box_sums_adjoint(grad, ctx.sides, ctx.p1, ctx.p2), None


def box_sums_adjoint_backward(
    ctx: Any, grad: torch.Tensor
) -> tuple[torch.Tensor, None, None, None]:
    """Gradient of box_sums_adjoint: the sums."""
    return torch.ops.hessx.box_sums(grad, ctx.sides), None, None, None
