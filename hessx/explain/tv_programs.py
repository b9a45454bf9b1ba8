"""LEG-TV's linear program for the covariance that a LEG was estimated with."""

from __future__ import annotations

import math
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from hessx.covariance import Covariance, Factor, GridTV, check_sigma
from hessx.features import FeatureMap
from hessx.solve.tv import largest_bound, solve_tv, solve_tv_general
from hessx.solve.tv.certificate import difference, largest
from hessx.solve.tv.constraint import Constraint


class Solved(NamedTuple):
    """Solutions ``(G, C, M, p1, p2)``, objectives and gaps ``(G, C, M)``, all float64."""

    solution: Tensor
    objective: Tensor
    gap: Tensor
    solver: str


class TVProgram(Protocol):
    """``min |D g|_1`` subject to ``|D^{+T} Sigma (estimate - g)|_inf <= L``, for each channel.

    Attributes:
        constants_are_free: Whether the mean of g is left open.
    """

    constants_are_free: bool

    def largest(self, estimate: Tensor) -> Tensor:
        """Return the L from which on the solution is constant: ``(G, C, p1, p2)`` to ``(G, C)``."""

    def solve(self, estimate: Tensor, L: Tensor, solver: str) -> Solved:
        """Return the solutions for ``estimate (G, C, p1, p2)`` and ``L (G, C, M)``."""


def tv_program(
    features: FeatureMap, covariance: Covariance, sigma: float | Tensor, solver: str
) -> TVProgram:
    """Return the program of a LEG with these features and this covariance.

    Raises:
        ValueError: If the features lie on no grid, or the covariance is not positive definite,
            couples channels, or is none that the solver takes.
    """
    k, grid = features.n_features, features.grid
    if grid is None:
        raise ValueError(
            "LEG-TV needs features on a grid: inputs (B, H, W) or (B, C, H, W) as they are, or "
            f"hessx.Grid features; got {k} features without one"
        )
    number, scale = check_sigma(sigma, k)
    if not 0 < number**2 < math.inf:
        raise ValueError(f"sigma must have a variance that float64 holds, got {sigma}")
    root = covariance.root(k, scale, grid)
    if isinstance(covariance, GridTV):
        return _Flow(number**2)
    if solver not in ("auto", "highs"):
        raise ValueError(
            f'solver must be "auto" or "highs" for a covariance other than GridTV, got {solver!r}'
        )
    if root.rank < k:
        raise ValueError(
            f"LEG-TV needs a positive definite covariance, got one of rank {root.rank} for "
            f"{k} features"
        )
    if not isinstance(covariance, Factor):
        deviation = root.apply(torch.full((k,), number, dtype=torch.float64))
        variances = deviation.square().reshape(grid[0], -1)
        return _General(grid[1:], [{"variance": row} for row in variances])
    if grid[0] > 1:
        raise ValueError(
            f"LEG-TV treats channels one by one, and covariance Factor couples {grid[0]} of them: "
            "explain grey pictures, or a Grid with shared channels"
        )
    return _General(
        grid[1:], [{"factor": root.apply(number * torch.eye(k, dtype=torch.float64)).mT}]
    )


class _Flow:
    """``Sigma = sigma^2 (D^T D + 1 1^T / p)``, so that ``D^{+T} Sigma = sigma^2 D``."""

    constants_are_free = True

    def __init__(self, variance: float):
        self._variance = variance

    def largest(self, estimate: Tensor) -> Tensor:
        return self._variance * largest(difference(estimate))

    def solve(self, estimate: Tensor, L: Tensor, solver: str) -> Solved:
        # From L_max on the solution is constant, also where the division rounds down.
        steepest = largest(difference(estimate))[..., None]
        radius = L / self._variance
        radius = torch.where(self._variance * steepest <= L, radius.maximum(steepest), radius)
        found = solve_tv(estimate.flatten(0, 1), radius.flatten(0, 1), solver=solver)
        return Solved(
            found.solution.unflatten(0, L.shape[:2]),
            found.objective.reshape(L.shape),
            found.gap.reshape(L.shape),
            found.solver,
        )


class _General:
    """Any other covariance, as the ``variance`` or ``factor`` of each channel."""

    def __init__(self, grid: tuple[int, int], channels: list[dict[str, Tensor]]):
        self._channels = channels
        self.constants_are_free = all(
            Constraint.of(*grid, channel.get("variance"), channel.get("factor")).constants_are_free
            for channel in channels
        )

    def largest(self, estimate: Tensor) -> Tensor:
        found = [
            largest_bound(estimate[:, index], **channel)
            for index, channel in enumerate(self._channels)
        ]
        return torch.stack(found, 1)

    def solve(self, estimate: Tensor, L: Tensor, solver: str) -> Solved:
        found = [
            solve_tv_general(estimate[:, index], L[:, index], **channel)
            for index, channel in enumerate(self._channels)
        ]
        return Solved(
            torch.stack([one.solution for one in found], 1),
            torch.stack([one.objective for one in found], 1),
            torch.stack([one.gap for one in found], 1),
            "highs",
        )
