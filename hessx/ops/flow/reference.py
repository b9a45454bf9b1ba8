"""Pictures of least total variation by linear programming: the ground truth.

The program in its face form, which HiGHS solves several times faster than the same program in
pixels: a = D g is a flow without sources on the faces of the grid. What a picture close to zero in
every difference leaves at the faces is moved at a cost of 1 an edge.
"""

from __future__ import annotations

import numpy as np
import scipy.optimize
import scipy.sparse
import torch

from hessx.ops.flow.rules import check_values, tv_flow_fake


def tv_flow(
    estimate: torch.Tensor, radius: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Solutions, potentials and pivots; see `hessx.ops.tv_flow`."""
    solution, potential, pivots = tv_flow_fake(estimate, radius)
    check_values(estimate, radius)
    curl = curl_matrix(*estimate.shape[1:])
    for n, picture in enumerate(estimate.cpu().contiguous().numpy()):
        for m, r in enumerate(radius[n].tolist()):
            g, psi, pivots[n, m] = _solve(picture, r, curl)
            solution[n, m] = torch.from_numpy(g)
            potential[n, m] = torch.from_numpy(psi)
    return solution, potential, pivots


def curl_matrix(p1: int, p2: int) -> scipy.sparse.csc_array:
    """Give the face curl, ((p1 - 1) (p2 - 1), m): h(i,j) + v(i,j+1) - h(i+1,j) - v(i,j)."""
    rows, columns = np.indices((p1 - 1, p2 - 1))
    face = rows * (p2 - 1) + columns
    h, v = rows * (p2 - 1) + columns, p1 * (p2 - 1) + rows * p2 + columns
    edge = np.stack([h, v + 1, h + p2 - 1, v])
    sign = np.broadcast_to(np.array([1.0, 1, -1, -1])[:, None, None], edge.shape)
    shape = ((p1 - 1) * (p2 - 1), p1 * (p2 - 1) + (p1 - 1) * p2)
    place = np.broadcast_to(face, edge.shape).ravel(), edge.ravel()
    return scipy.sparse.csc_array((sign.ravel(), place), shape=shape)


def _differences(g: np.ndarray) -> np.ndarray:
    return np.concatenate([np.diff(g, axis=1).ravel(), np.diff(g, axis=0).ravel()])


def _solve(
    estimate: np.ndarray, radius: float, curl: scipy.sparse.csc_array
) -> tuple[np.ndarray, np.ndarray, int]:
    p1, p2 = estimate.shape
    psi = np.zeros((p1 - 1, p2 - 1), dtype=np.int32)
    # Powers of two, so that no difference overflows or underflows and all are of the order of 1.
    top = np.frexp(np.abs(estimate).max())[1]
    target = np.ldexp(estimate, -top)
    # Of the estimate itself: the mean's rounding must not decide whether the solution is 0.
    steepest = np.abs(_differences(target)).max(initial=0.0)
    target = target - target.mean()
    bound = np.ldexp(radius, -top)
    if bound >= steepest:
        return np.zeros_like(estimate), psi, 0
    scale = np.frexp(steepest)[1]
    target, bound = np.ldexp(target, -scale), np.ldexp(bound, -scale)
    pivots = 0
    g = target
    if bound > 0:
        centre = _differences(target)
        flow, psi, pivots = _least_flow(centre - bound, centre + bound, curl)
        g = _within(_integrate(flow, p1, p2), target, bound)
    return np.ldexp(g - g.mean(), top + scale), psi.reshape(p1 - 1, p2 - 1), pivots


def _least_flow(
    low: np.ndarray, high: np.ndarray, curl: scipy.sparse.csc_array
) -> tuple[np.ndarray, np.ndarray, int]:
    """Minimise |a|_1 over low <= a <= high without curl; give a, potentials and iterations."""
    near = np.clip(0.0, low, high)
    if curl.shape[0] == 0:
        return near, np.zeros(0, dtype=np.int32), 0
    up, down = (
        np.flatnonzero((near >= 0) & (near < high)),
        np.flatnonzero((near <= 0) & (low < near)),
    )
    room = np.concatenate([(high - near)[up], (near - low)[down]])
    result = scipy.optimize.linprog(
        np.ones(len(room)),
        A_eq=scipy.sparse.hstack([curl[:, up], -curl[:, down]], format="csc"),
        b_eq=-(curl @ near),
        bounds=np.stack([np.zeros_like(room), room], axis=1),
        method="highs-ds",
    )
    if result.x is None:
        raise RuntimeError(f"tv_flow: HiGHS stopped: {result.message}")
    flow = near.copy()
    np.add.at(flow, up, result.x[: len(up)])
    np.add.at(flow, down, -result.x[len(up) :])
    return flow, np.rint(-result.eqlin.marginals).astype(np.int32), int(result.nit)


def _integrate(flow: np.ndarray, p1: int, p2: int) -> np.ndarray:
    """Give the picture with these differences, 0 in its first pixel."""
    h, v = np.split(flow, [p1 * (p2 - 1)])
    g = np.zeros((p1, p2))
    g[0, 1:] = np.cumsum(h[: p2 - 1])
    g[1:] = g[0] + np.cumsum(v.reshape(p1 - 1, p2), axis=0)
    return g


def _within(g: np.ndarray, target: np.ndarray, bound: float) -> np.ndarray:
    """Move a picture towards the target until it keeps the bounds that HiGHS keeps to 1e-7."""
    distance = np.abs(_differences(g - target)).max(initial=0.0)
    return target + (g - target) * min(1.0, bound / distance) if distance > 0 else g
