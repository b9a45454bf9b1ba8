"""LEG-TV's program as the paper and as a textbook would write it, for HiGHS; slow and literal."""

from __future__ import annotations

import numpy as np
import torch
from scipy import sparse
from scipy.optimize import linprog
from torch import Tensor

# The least that HiGHS takes.
TIGHT = {"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10}


def differences(p1: int, p2: int) -> np.ndarray:
    """D, edge by edge: those to the right of each pixel, then those below."""
    edges = [((i, j), (i, j + 1)) for i in range(p1) for j in range(p2 - 1)]
    edges += [((i, j), (i + 1, j)) for i in range(p1 - 1) for j in range(p2)]
    matrix = np.zeros((len(edges), p1 * p2))
    for row, (tail, head) in enumerate(edges):
        matrix[row, tail[0] * p2 + tail[1]] = -1
        matrix[row, head[0] * p2 + head[1]] = 1
    return matrix


def grid_tv_covariance(p1: int, p2: int) -> np.ndarray:
    """``D^T D + 1 1^T / p``."""
    d = differences(p1, p2)
    return d.T @ d + 1 / (p1 * p2)


def sparse_optimum(estimate: np.ndarray, radius: float) -> float:
    """The optimum of ``min |D g|_1``, ``|D (g - estimate)|_inf <= radius``.

    ``D g = up - down`` with bounds for ``up`` and ``down``: HiGHS, dual simplex.
    """
    d = differences(*estimate.shape)
    m, p = d.shape
    centre = d @ estimate.ravel()
    unit = abs(centre).max()
    low, high = (centre[None] + radius * np.array([[-1], [1]])) / unit
    ends = [
        np.stack([np.maximum(a, 0), np.maximum(b, 0)], 1) for a, b in ((low, high), (-high, -low))
    ]
    found = linprog(
        np.r_[np.zeros(p), np.ones(2 * m)],
        A_eq=sparse.hstack([sparse.csr_matrix(d), -sparse.eye(m), sparse.eye(m)]),
        b_eq=np.zeros(m),
        bounds=np.vstack([np.tile([-np.inf, np.inf], (p, 1)), *ends]),
        method="highs-ds",
        options=TIGHT,
    )
    assert found.status == 0
    return found.fun * unit


def paper_optimum(estimate: np.ndarray, bound: float, covariance: np.ndarray) -> float:
    """The optimum of Eq. 4 with a dense ``D^{+T}``: ``min |D g|_1``, ``|D^{+T}(b - S g)| <= L``."""
    d = differences(*estimate.shape)
    m, p = d.shape
    constraint = np.linalg.pinv(d).T @ covariance
    centre, unit, zero = constraint @ estimate.ravel(), np.eye(m), np.zeros((m, m))
    found = linprog(
        np.r_[np.zeros(p), np.ones(m)],
        A_ub=np.block([[d, -unit], [-d, -unit], [constraint, zero], [-constraint, zero]]),
        b_ub=np.r_[np.zeros(2 * m), bound + centre, bound - centre],
        bounds=[(None, None)] * p + [(0, None)] * m,
        method="highs",
        options=TIGHT,
    )
    assert found.status == 0
    return found.fun


def pictures(p1: int, p2: int, seed: int) -> Tensor:
    """Five pictures: normal numbers, ties, a spike, a walk and a smoothed one, ``(5, p1, p2)``."""
    rng = np.random.default_rng(seed)
    spike = np.zeros((p1, p2))
    spike[rng.integers(p1), rng.integers(p2)] = 3
    smooth = rng.standard_normal((p1, p2)).cumsum(0).cumsum(1)
    kinds = [
        rng.standard_normal((p1, p2)),
        rng.integers(-3, 4, (p1, p2)),
        spike,
        rng.standard_normal(p1 * p2).cumsum().reshape(p1, p2),
        smooth * 1e-6,
    ]
    return torch.tensor(np.array(kinds, dtype=np.float64))
