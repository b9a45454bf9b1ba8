"""LEG-TV with the covariance ``GridTV``: a program in the differences of the grid alone."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hessx import ops
from hessx.backends import backend, choose
from hessx.ops.flow.rules import MAX_PIXELS
from hessx.ops.grid.rules import edge_count
from hessx.solve.tv.certificate import difference, dual_value, relative_gap
from hessx.solve.tv.checks import check_estimate, check_levels
from hessx.solve.tv.first_order import first_order
from hessx.solve.tv.solution import TVSolution

SOLVERS = ("auto", "network-simplex", "highs", "first-order")

# Numbers on edges for which the exact solvers' certificates are made at once: 32 MiB an array.
_EDGES_AT_ONCE = 2**22


def solve_tv(
    estimate: Tensor,
    radius: Tensor,
    *,
    solver: str = "auto",
    tol: float = 1e-6,
    max_iterations: int = 20_000,
) -> TVSolution:
    """Solve ``min |D g|_1`` subject to ``|D (g - estimate)|_inf <= radius``.

    LEG-TV with ``Sigma = s2 (D^T D + 1 1^T / p)``: as ``D^{+T} Sigma = s2 D``, the program of the
    paper is this one with the plain LEG as estimate and ``radius = L / s2``. Constants are free:
    the solution of mean 0 is returned. ``radius = 0`` gives the estimate less its mean, and
    ``radius >= |D estimate|_inf`` gives 0.

    The exact solvers work on the dual: a minimum-cost flow between the faces of the grid with
    costs of 1. The optimum is not unique, so compare objectives, and keep to one solver where
    pictures are compared.

    Args:
        estimate: ``(N, p1, p2)``, finite; float32 or float64, any device. The exact solvers work
            on the CPU in float64.
        radius: ``(N, M)``, finite, >= 0: M programs for each estimate.
        solver: ``"network-simplex"`` (C++; exact), ``"highs"`` (exact), ``"first-order"`` (on the
            estimate's device, until ``tol``), or ``"auto"``: the first-order method for tensors
            that are not on the CPU and for pictures of more than 2^17 pixels, else the network
            simplex, or HiGHS where the library was built without C++ or the backend
            ``"reference"`` is forced.
        tol: Relative gap, > 0, at which the first-order method stops.
        max_iterations: Most steps of the first-order method, >= 1. The gap reached is in the
            result.

    Returns:
        The solutions, on the estimate's device.

    Raises:
        TypeError: If estimate or radius is no tensor of float32 or float64.
        ValueError: If the shapes do not fit, a number is not finite, a radius is negative, tol or
            max_iterations is out of range, the solver does not exist, or an exact one is given
            more than 2^17 pixels.
        RuntimeError: If the network simplex is asked for and the library was built without C++.

    Source: Definition 2 of "Statistically Consistent Saliency Estimation" (ICLR 2020 submission),
    with the covariance of its section 4.2.

    Example:
        >>> import torch
        >>> from hessx.solve.tv import solve_tv
        >>> solved = solve_tv(torch.tensor([[[0.0, 1.0, 5.0]]]), torch.tensor([[0.0, 1.0, 4.0]]))
        >>> solved.objective.round(decimals=6)
        tensor([[5., 3., 0.]], dtype=torch.float64)
        >>> solved.solution[0, 1].round(decimals=6)
        tensor([[-1., -1.,  2.]], dtype=torch.float64)
    """
    check_estimate("estimate", estimate)
    check_levels("radius", radius, estimate)
    if solver not in SOLVERS:
        raise ValueError(f"solver must be one of {SOLVERS}, got {solver!r}")
    if not 0 < tol < math.inf:
        raise ValueError(f"tol must be > 0 and finite, got {tol}")
    if max_iterations < 1:
        raise ValueError(f"max_iterations must be >= 1, got {max_iterations}")
    estimate, radius = estimate.detach(), radius.detach().to(estimate.device, torch.float64)
    if solver == "auto":
        solver = _automatic(estimate)
    if solver == "first-order":
        return first_order(estimate, radius, tol, max_iterations)
    with backend("native" if solver == "network-simplex" else "reference"):
        return _exact(estimate, radius, solver)


def _automatic(estimate: Tensor) -> str:
    if estimate.device.type != "cpu" or estimate[0].numel() > MAX_PIXELS:
        return "first-order"
    native = choose("cpu", ("native", "reference")) == "native"
    return "network-simplex" if native else "highs"


def _exact(estimate: Tensor, radius: Tensor, solver: str) -> TVSolution:
    device, on_cpu = estimate.device, estimate.to("cpu", torch.float64)
    radius = radius.cpu()
    solution, potential, pivots = ops.tv_flow(on_cpu, radius)
    objective, gap, flow = _certified(on_cpu, radius, solution, potential)
    return TVSolution(
        solution.to(device),
        objective.to(device),
        gap.to(device),
        flow.to(device),
        pivots.to(device),
        solver,
    )


def _certified(
    estimate: Tensor, radius: Tensor, solution: Tensor, potential: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return objectives, gaps and flows, some programs at a time."""
    n, values = radius.shape
    m = edge_count(*estimate.shape[1:])
    picture, centre = torch.arange(n).repeat_interleave(values), difference(estimate)
    objective, gap = torch.empty_like(radius).flatten(), torch.empty_like(radius).flatten()
    flow = solution.new_empty(n * values, m)
    rows = max(1, _EDGES_AT_ONCE // max(1, m))
    for start in range(0, n * values, rows):
        part = slice(start, start + rows)
        flow[part] = ops.grid_curl_adjoint(potential.flatten(0, 1)[part].double())
        objective[part] = difference(solution.flatten(0, 1)[part]).abs().sum(-1)
        dual = dual_value(flow[part], centre[picture[part]], radius.flatten()[part])
        gap[part] = relative_gap(objective[part], dual)
    return tuple(x.unflatten(0, (n, values)) for x in (objective, gap, flow))
