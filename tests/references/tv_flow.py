"""Total variation in plain torch and HiGHS: differences, certificates and the program in pixels."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import numpy as np
import scipy.optimize
import scipy.sparse
import torch


def differences(g):
    """Give D g, (..., m): horizontal differences by rows, then vertical ones."""
    return torch.cat([g.diff(dim=-1).flatten(-2), g.diff(dim=-2).flatten(-2)], -1)


def circulation(potential):
    """Give curl^T psi, (..., m) of integers, psi = 0 outside."""
    psi = torch.nn.functional.pad(potential, (1, 1, 1, 1))
    horizontal = psi[..., 1:, 1:-1] - psi[..., :-1, 1:-1]
    vertical = psi[..., 1:-1, :-1] - psi[..., 1:-1, 1:]
    return torch.cat([horizontal.flatten(-2), vertical.flatten(-2)], -1)


def objective(solution):
    return differences(solution).abs().sum(-1)


def dual_value(estimate, radius, potential):
    """No picture within the radius has less total variation than this."""
    centre, phi = differences(estimate)[:, None], circulation(potential).double()
    low, high = centre - radius[..., None], centre + radius[..., None]
    value = torch.minimum(low.abs() + phi * low, high.abs() + phi * high)
    return torch.where((low <= 0) & (high >= 0), value.clamp(max=0), value).sum(-1)


def exactly_within(solution, estimate, radius):
    """Whether |D (solution - estimate)|_inf <= radius, in rational arithmetic."""
    g, x = ([[Fraction(p) for p in row] for row in y.tolist()] for y in (solution, estimate))
    bound = Fraction(radius)
    error = [[p - q for p, q in zip(*rows, strict=True)] for rows in zip(g, x, strict=True)]
    across = [b - a for row in error for a, b in pairwise(row)]
    down = [b - a for rows in pairwise(error) for a, b in zip(*rows, strict=True)]
    return all(abs(difference) <= bound for difference in across + down)


def difference_matrix(p1, p2):
    """Give D as a sparse matrix, (m, p1 p2)."""

    def along(p):
        return scipy.sparse.diags_array([-np.ones(p), np.ones(p)], offsets=[0, 1], shape=(p - 1, p))

    across = scipy.sparse.kron(scipy.sparse.eye_array(p1), along(p2))
    down = scipy.sparse.kron(along(p1), scipy.sparse.eye_array(p2))
    return scipy.sparse.vstack([across, down]).tocsr()


def sparse_program(estimate, radius):
    """Solve the program as one writes it down, in pixels and |D g|; give picture and objective.

    min 1^T s subject to -s <= D g <= s and |D (g - estimate)| <= radius.
    """
    matrix = difference_matrix(*estimate.shape)
    m, pixels = matrix.shape
    centre = matrix @ estimate.ravel()
    identity = scipy.sparse.eye_array(m)
    none = scipy.sparse.csr_array((m, m))
    inequalities = scipy.sparse.vstack(
        [
            scipy.sparse.hstack([matrix, -identity]),
            scipy.sparse.hstack([-matrix, -identity]),
            scipy.sparse.hstack([matrix, none]),
            scipy.sparse.hstack([-matrix, none]),
        ],
        format="csc",
    )
    bounds = np.concatenate([np.zeros(2 * m), centre + radius, radius - centre])
    result = scipy.optimize.linprog(
        np.concatenate([np.zeros(pixels), np.ones(m)]),
        A_ub=inequalities,
        b_ub=bounds,
        bounds=[(None, None)] * pixels + [(0, None)] * m,
        method="highs",
    )
    return result.x[:pixels].reshape(estimate.shape), result.fun


KINDS = ("gaussian", "ties", "spike", "walk", "patches")


def picture(kind, p1, p2, generator):
    """One random picture (p1, p2), float64."""
    if kind == "ties":
        return torch.randint(-3, 4, (p1, p2), generator=generator).double()
    if kind == "spike":
        g = torch.zeros(p1, p2, dtype=torch.float64)
        g[
            torch.randint(p1, (), generator=generator), torch.randint(p2, (), generator=generator)
        ] = 1
        return g
    g = torch.randn(p1, p2, generator=generator, dtype=torch.float64)
    if kind == "walk":
        return g.flatten().cumsum(0).view(p1, p2)
    if kind == "patches":
        return g[::4, ::4].repeat_interleave(4, 0).repeat_interleave(4, 1)[:p1, :p2].clone()
    return g
