"""Total variation: pictures of least total variation within a distance of an estimate."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from hessx.ops.flow.rules import check_tv_flow


def tv_flow(
    estimate: torch.Tensor, radius: torch.Tensor | Sequence[float] | float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Minimise the total variation of pictures whose differences stay close to an estimate's.

    ``min |D g|_1 subject to |D (g - estimate)|_inf <= radius``, exactly, for each picture and each
    of its radii. D takes the differences between horizontal and vertical neighbours. The solution
    is determined up to a constant; the one of mean zero is returned.

    D g is a flow on the faces of the grid, so that this is a minimum-cost flow, solved by a network
    simplex in integers: in fixed point, with the radius rounded inward by two units of
    2^-45 |D estimate|_inf at 28 x 28 pixels (2^-42 at 224 x 224). The solution never exceeds the
    radius, not by a bit, but for the two ends below, which are taken in float64.

    Many pictures can be optimal. Of these the one with the least ``sum_e u_e |(D g)_e|`` is
    returned, u_e a hash of the number of the edge. It depends neither on the rest of the batch nor
    on the number of threads, nor, unless hashes tie, on the other radii: they have 35 bits at
    28 x 28 pixels, 23 at 224 x 224 and 21 at the most pixels, so that this is next to certain for
    small grids and likely for large ones; a tie costs no optimality. (Without the compiled kernels,
    any optimum: HiGHS solves the program then.)

    - radius >= |D estimate|_inf, as float64 gives it: the solution is 0.
    - radius 0, or below three units of the fixed point: the solution is estimate - mean, whose
      differences are off by its rounding, some 1e-16 of its largest number, and may exceed the
      radius by that.

    Tensors of a GPU are solved on the CPU and the results moved back. There is no gradient.

    Args:
        estimate: Pictures (N, p1, p2), float64, finite; 2^17 pixels at most. Any grid, also of one
            row or column.
        radius: Radii (N, M) of each picture, float64, >= 0, in any order; or a sequence of M
            numbers, or one number, for all pictures. At 28 x 28 pixels several radii cost less
            than as many calls, the less the closer they are; on large or long thin grids some
            distances between radii cost more than that.

    Returns:
        solution (N, M, p1, p2), float64; potential (N, M, p1 - 1, p2 - 1), int32: the optimal dual,
        psi on the faces, 0 outside; pivots (N, M), int64, the steps of the simplex. The flow
        ``phi = curl^T psi`` has ``D^T phi = 0`` and certifies the solution: with c = D estimate,
        low = c - radius and high = c + radius, no picture has less total variation than the sum
        over the edges of ``min(|low| + phi low, |high| + phi high)``, and 0 as well where
        low <= 0 <= high.

    Raises:
        TypeError: If estimate is not a tensor, radius neither a tensor nor numbers, or a tensor is
            not float64.
        ValueError: If a shape or a device does not fit, or a number is not finite or a radius is
            negative.
        RuntimeError: If the solver fails.

    Source: the program of LEG-TV with the covariance of its grid; its dual is the network flow of
    Costantini (1998), "A novel phase unwrapping method based on network programming".

    Example:
        >>> import hessx, torch
        >>> estimate = torch.tensor([[[0.0, 1.0, 5.0]]], dtype=torch.float64)
        >>> solution, _, _ = hessx.ops.tv_flow(estimate, [1.0, 2.0])
        >>> solution.diff().squeeze().round(decimals=9).tolist()
        [[0.0, 3.0], [0.0, 2.0]]
    """
    if not isinstance(estimate, torch.Tensor):
        raise TypeError(f"estimate must be a tensor, got {type(estimate).__name__}")
    radii = _radii(radius, estimate)
    check_tv_flow(estimate, radii)
    solution, potential, pivots = torch.ops.hessx.tv_flow.default(
        estimate.detach().cpu(), radii.detach().cpu()
    )
    return solution.to(estimate.device), potential.to(estimate.device), pivots.to(estimate.device)


def _radii(radius: torch.Tensor | Sequence[float] | float, estimate: torch.Tensor) -> torch.Tensor:
    if isinstance(radius, torch.Tensor):
        if radius.device != estimate.device:
            raise ValueError(
                f"radius must be on the device of estimate, {estimate.device}, got {radius.device}"
            )
        return radius
    numbers = list(radius) if isinstance(radius, Sequence) else [radius]
    for number in numbers:
        if isinstance(number, bool) or not isinstance(number, (int, float)):
            raise TypeError(
                "radius must be a tensor, a number or a sequence of numbers, "
                f"got {type(number).__name__}"
            )
    return torch.tensor(numbers, dtype=torch.float64).expand(len(estimate), -1)
