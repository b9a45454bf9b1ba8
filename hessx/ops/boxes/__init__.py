"""Sums over squares at all positions inside pictures, and the adjoint of these.

A picture has p1 rows of p2 pixels. Of side s there are (p1 - s + 1)(p2 - s + 1) squares; those of
several sides come one side after the other, in the order given, and those of one side by their
top-left corners, row by row.

Sums of neighbours are formed first along rows, then along columns, in float64, in a fixed order
and by additions alone. Where prefix sums (a summed-area table) would subtract what lies outside a
square, and with it the rounding errors, the NaN and the infinities of the whole picture, here::

    |error| <= 2 (s - 1) 2^-53 sum of |x| over the square

before the result is rounded to the type of the argument. Results are the same bits for any number
of threads, any level and any batch.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from hessx.ops.boxes import rules

__all__ = ["box_sums", "box_sums_adjoint"]


def box_sums(x: torch.Tensor, sides: Sequence[int]) -> torch.Tensor:
    """Add up pictures over every square of given sides.

    ``out(s, i, j) = sum of x(i + a, j + b) over 0 <= a, b < s``.

    Args:
        x: Pictures (N, p1, p2), float32 or float64; p1, p2 >= 1.
        sides: Sides s of the squares, each in [1, min(p1, p2)]; at least one.

    Returns:
        Tensor (N, n_boxes), n_boxes = sum over s of (p1 - s + 1)(p2 - s + 1): sides as given, then
        top-left corners (i, j) row by row.

    Raises:
        TypeError: If x is not a tensor of float32 or float64, or sides are not integers.
        ValueError: If x does not have three axes, p1 or p2 is 0, there are no sides, or one is
            below 1 or above p1 or p2.

    Source: "On the (In)fidelity and Sensitivity of Explanations" (2019), squares of Appendix B.1.

    Example:
        >>> import hessx, torch
        >>> hessx.ops.box_sums(torch.tensor([[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]]), [2])
        tensor([[12., 16.]])
    """
    rules.check_box_sums(x, sides)
    return torch.ops.hessx.box_sums.default(x, list(sides))


def box_sums_adjoint(w: torch.Tensor, sides: Sequence[int], p1: int, p2: int) -> torch.Tensor:
    """Apply the adjoint of the box sums: each pixel's sum over the squares that cover it.

    Args:
        w: Numbers on the squares (N, n_boxes), in the order of `box_sums`; float32 or float64.
        sides: Sides s of the squares, each in [1, min(p1, p2)]; at least one.
        p1: Rows of pixels, >= 1.
        p2: Columns of pixels, >= 1.

    Returns:
        Tensor (N, p1, p2). In float64, before it is rounded to the type of w, the error is at most
        (2 (largest s - 1) + number of sides) 2^-53 times the sum of |w| over those squares.

    Raises:
        TypeError: If w is not a tensor of float32 or float64, or p1, p2 or sides are not integers.
        ValueError: If p1 or p2 is below 1, there are no sides, one is below 1 or above p1 or p2, or
            the shape of w does not fit them.

    Source: "On the (In)fidelity and Sensitivity of Explanations" (2019), squares of Appendix B.1.

    Example:
        >>> import hessx, torch
        >>> hessx.ops.box_sums_adjoint(torch.tensor([[1.0, 10.0]]), [2], 2, 3)
        tensor([[[ 1., 11., 10.],
                 [ 1., 11., 10.]]])
    """
    rules.check_box_sums_adjoint(w, sides, p1, p2)
    return torch.ops.hessx.box_sums_adjoint.default(w, list(sides), p1, p2)
