"""The sparse linear program of LEG-TV for any covariance, and its solution by HiGHS."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy import sparse
from scipy.optimize import linprog
from torch import Tensor

from hessx.ops.flow.reference import curl_matrix
from hessx.solve.tv.certificate import difference, largest
from hessx.solve.tv.constraint import Constraint

# Methods and tolerances in the order in which they are tried; the numbers of the programs are about
# 1. The interior point method ends at a vertex: at 28 x 28 it takes half the time of the simplex.
_ATTEMPTS = (("highs-ipm", 1e-9), ("highs-ds", 1e-9), ("highs-ds", 1e-7))


class SparseProgram:
    """The program of one picture, for any number of bounds L.

    ``min sum(up + down)`` over g, edges v, mu, ``y = factor^T g``, ``up >= 0`` and ``down >= 0``::

        curl v = 0,  D g = up - down,  Sigma g + D^T v + mu 1 = Sigma estimate,  |v| <= L

    in units of ``|D estimate|_inf`` for g and of ``|D^{+T} Sigma estimate|_inf`` for v, neither of
    which may be 0.
    """

    def __init__(self, picture: Tensor, constraint: Constraint):
        height = largest(difference(picture)).item()
        self._unit = largest(constraint.image(picture)).item()
        self._height, self._scale = height, height / self._unit
        self._constants_are_free = constraint.constants_are_free
        d, curl = difference_matrix(*picture.shape), curl_matrix(*picture.shape)
        self._m, self._p = d.shape
        sigma, factor = self._covariance(constraint)
        blocks = [
            [sparse.csr_matrix((curl.shape[0], self._p)), curl, None, None, None, None],
            [d, None, None, None, -sparse.eye(self._m), sparse.eye(self._m)],
            [sigma, d.T, np.ones((self._p, 1)), self._scale * factor, None, None],
        ]
        if factor.shape[1]:
            blocks.append([factor.T, None, None, -sparse.eye(factor.shape[1]), None, None])
        else:
            blocks = [[*row[:3], *row[4:]] for row in blocks]
        self._matrix = sparse.bmat(blocks, format="csc")
        self._right = np.zeros(self._matrix.shape[0])
        self._edges = slice(curl.shape[0], curl.shape[0] + self._m)
        covered = constraint.times(picture).numpy().ravel() / self._unit
        self._right[self._edges.stop : self._edges.stop + self._p] = covered

    def solve(self, bound: float) -> tuple[Tensor, Tensor, Tensor, int]:
        """Return g ``(p1 p2,)``, y and z ``(m,)`` of the dual, and the number of iterations."""
        m, p = self._m, self._p
        lower = np.full(self._matrix.shape[1], -np.inf)
        upper = np.full_like(lower, np.inf)
        cost = np.zeros_like(lower)
        lower[p : p + m], upper[p : p + m] = -bound / self._unit, bound / self._unit
        lower[-2 * m :], cost[-2 * m :] = 0, 1
        if self._constants_are_free:
            # HiGHS fails now and then where a whole line is feasible.
            lower[p + m] = upper[p + m] = 0
        found = linear_program(
            cost, A_eq=self._matrix, b_eq=self._right, bounds=np.stack([lower, upper], 1)
        )
        multiplier = -(found.lower.marginals + found.upper.marginals)[p : p + m] * self._scale
        subgradient = -found.eqlin.marginals[self._edges]
        point = found.x[:p] * self._height
        return (*map(torch.from_numpy, (point, multiplier, subgradient)), found.nit)

    def _covariance(self, constraint: Constraint) -> tuple[Any, Any]:
        """Return scaled Sigma without factor, and the factor that is left: what has fewer numbers.

        A factor counts twice: for Sigma g, and for factor^T g.
        """
        p, q = constraint.factor.shape
        if 2 * q < p:
            variance = self._scale * constraint.variance.numpy()
            return sparse.diags(variance), constraint.factor.numpy()
        return self._scale * constraint.sigma.numpy(), np.empty((p, 0))


def linear_program(cost: ArrayLike, **program: Any) -> Any:
    """Solve a linear program by HiGHS, and raise RuntimeError where it finds no solution."""
    for method, tolerance in _ATTEMPTS:
        options = dict(primal_feasibility_tolerance=tolerance, dual_feasibility_tolerance=tolerance)
        found = linprog(cost, method=method, options=options, **program)
        if found.status == 0:
            return found
    raise RuntimeError(f"HiGHS found no solution: {found.message}")


def difference_matrix(p1: int, p2: int) -> Any:
    """Return D ``(m, p1 p2)``."""
    return sparse.vstack(
        [
            sparse.kron(sparse.eye(p1), _path(p2)),
            sparse.kron(_path(p1), sparse.eye(p2)),
        ],
        format="csr",
    )


def _path(p: int) -> Any:
    """Return the differences of neighbours of p numbers."""
    return sparse.diags([-np.ones(p - 1), np.ones(p - 1)], [0, 1], shape=(p - 1, p))
