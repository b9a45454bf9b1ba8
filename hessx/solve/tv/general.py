"""LEG-TV with any positive-definite covariance: a sparse linear program for HiGHS."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hessx.solve.tv.certificate import difference, largest, relative_gap, without_mean
from hessx.solve.tv.checks import check_estimate, check_levels
from hessx.solve.tv.constraint import Constraint
from hessx.solve.tv.sparse_program import SparseProgram, linear_program


@dataclass(frozen=True)
class GeneralTVSolution:
    """Solutions of ``min |D g|_1`` subject to ``|D^{+T} Sigma (estimate - g)|_inf <= bound``.

    Attributes:
        solution: ``(N, M, p1, p2)`` float64, feasible; of mean 0 where constants are free.
        objective: ``(N, M)`` float64, ``|D g|_1``.
        gap: ``(N, M)`` float64, an upper bound of ``(objective - optimum) / objective``, from the
            two that follow; 0 where the objective is 0.
        multiplier: ``(N, M, m)`` float64, y of the dual ``max y^T u - bound |y|_1`` subject to
            ``Sigma (D^T D)^+ D^T y = D^T z`` and ``|z|_inf <= 1``, ``u = D^{+T} Sigma estimate``.
        subgradient: ``(N, M, m)`` float64, z of the dual.
        iterations: ``(N, M)`` int64, those of HiGHS.
    """

    solution: Tensor
    objective: Tensor
    gap: Tensor
    multiplier: Tensor
    subgradient: Tensor
    iterations: Tensor


def solve_tv_general(
    estimate: Tensor,
    bound: Tensor,
    *,
    variance: Tensor | None = None,
    factor: Tensor | None = None,
) -> GeneralTVSolution:
    """Solve ``min |D g|_1`` subject to ``|D^{+T} Sigma (estimate - g)|_inf <= bound``.

    With ``Sigma = diag(variance) + factor factor^T``. As ``Sigma (estimate - g) = D^T v + mu 1``
    with ``v = D h``, ``D^{+T}`` of it is v: the program is one in g, edges v without curl, the
    number mu, and ``y = factor^T g``, sparse but for the factor. HiGHS solves it on the CPU, in
    float64: a second or two for ``28 x 28`` (`solve_tv` is a thousand times faster, for its one
    covariance). Constants are free where ``Sigma 1`` is constant, else the program determines the
    mean too.

    Args:
        estimate: ``(N, p1, p2)``, finite; float32 or float64.
        bound: ``(N, M)``, L in the paper, finite, >= 0: M programs for each estimate.
        variance: ``(p,)``, finite, >= 0, p = p1 p2 pixels in rows; None for zeros.
        factor: ``(p, q)``, finite; None for zeros.

    Returns:
        The solutions, on the estimate's device.

    Raises:
        TypeError: If an argument is no tensor of float32 or float64.
        ValueError: If the shapes do not fit, a number is not finite or negative where it must not
            be, neither variance nor factor is given, or Sigma is not positive-definite.
        RuntimeError: If HiGHS finds no solution.

    Source: Definition 2 of "Statistically Consistent Saliency Estimation" (ICLR 2020 submission).

    Example:
        >>> import torch
        >>> from hessx.solve.tv import solve_tv_general
        >>> estimate, bound = torch.tensor([[[0.0, 1.0, 5.0]]]), torch.tensor([[0.0, 1.0]])
        >>> solve_tv_general(estimate, bound, variance=torch.ones(3)).objective.round(decimals=6)
        tensor([[5., 3.]], dtype=torch.float64)
    """
    check_estimate("estimate", estimate)
    check_levels("bound", bound, estimate)
    constraint = Constraint.of(estimate.shape[1], estimate.shape[2], variance, factor)
    size = *bound.shape, *estimate.shape[1:]
    on_cpu, levels = (x.detach().to("cpu", torch.float64) for x in (estimate, bound))
    point = torch.zeros(size, dtype=torch.float64)
    multiplier = difference(point)
    subgradient, iterations = multiplier.clone(), torch.zeros(size[:2], dtype=torch.int64)
    for i, picture in enumerate(on_cpu):
        program = None
        largest_level, constant = flattest(picture, constraint)
        for j, level in enumerate(levels[i]):
            if level >= largest_level:
                point[i, j] = constant
                continue
            program = program or SparseProgram(picture, constraint)
            g, multiplier[i, j], subgradient[i, j], iterations[i, j] = program.solve(level.item())
            point[i, j] = constraint.feasible(g.reshape(picture.shape), picture, level)
    dual, multiplier, subgradient = constraint.dual_value(
        multiplier, subgradient, on_cpu[:, None], levels
    )
    if constraint.constants_are_free:
        point = without_mean(point)
    objective = difference(point).abs().sum(-1)
    found = point, objective, relative_gap(objective, dual), multiplier, subgradient, iterations
    return GeneralTVSolution(*(x.to(estimate.device) for x in found))


def largest_bound(
    estimate: Tensor, *, variance: Tensor | None = None, factor: Tensor | None = None
) -> Tensor:
    """Return the L from which on the solution is constant: ``min_k |D^{+T} Sigma (estimate - k)|``.

    In the largest norm; k is 0 where constants are free.

    Args:
        estimate: ``(N, p1, p2)``, finite; float32 or float64.
        variance: As in `solve_tv_general`.
        factor: As in `solve_tv_general`.

    Returns:
        ``(N,)`` float64, on the estimate's device.

    Raises:
        TypeError: As `solve_tv_general`.
        ValueError: As `solve_tv_general`.

    Example:
        >>> import torch
        >>> from hessx.solve.tv import largest_bound
        >>> bound = largest_bound(torch.tensor([[[0.0, 1.0, 5.0]]]), variance=torch.ones(3))
        >>> bound.round(decimals=6)
        tensor([3.], dtype=torch.float64)
    """
    check_estimate("estimate", estimate)
    constraint = Constraint.of(estimate.shape[1], estimate.shape[2], variance, factor)
    pictures = estimate.detach().to("cpu", torch.float64)
    found = [flattest(picture, constraint)[0] for picture in pictures]
    return torch.tensor(found, dtype=torch.float64, device=estimate.device)


def flattest(picture: Tensor, constraint: Constraint) -> tuple[float, float]:
    """Return the least L that a constant picture is feasible for, and that constant."""
    if not largest(difference(picture)):
        return 0.0, 0.0 if constraint.constants_are_free else picture[0, 0].item()
    image = constraint.image(picture)
    if constraint.constants_are_free:
        return largest(image).item(), 0.0
    slope = constraint.image(torch.ones_like(picture))
    unit, pitch = largest(image).item(), largest(slope).item()
    u, v = (image / unit).numpy(), (slope / pitch).numpy()
    # min t subject to |u - k v| <= t.
    rows = np.concatenate([np.stack([-v, -np.ones_like(v)], 1), np.stack([v, -np.ones_like(v)], 1)])
    found = linear_program([0.0, 1.0], A_ub=rows, b_ub=np.concatenate([-u, u]), bounds=(None, None))
    constant = found.x[0] * unit / pitch
    return largest(image - constant * slope).item(), constant
