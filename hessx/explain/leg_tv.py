"""LEG-TV: the estimate of least total variation among those that the data do not exclude."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from torch import Tensor

from hessx import covariance as covariances
from hessx.explain.bounds import Bounds
from hessx.explain.leg import Leg, leg
from hessx.explain.linear_model import as_tensor, default_covariance
from hessx.explain.tv_programs import TVProgram, tv_program
from hessx.features import Features, Identity
from hessx.query import Targets
from hessx.run import Run, check_choice, check_inputs, check_kind
from hessx.solve.tv import SOLVERS

MEANS = ("empirical", "zero")


@dataclass(frozen=True, eq=False, repr=False)
class LegTV:
    """Estimates of least total variation, each with a certificate.

    Fields have the shape ``(B, C)``, or ``(B,)`` for grids without channels; a path over L has
    ``(B, M, C)``, with :class:`hessx.Targets` a leading T.

    Attributes:
        gamma: ``(B, C, p1, p2)``, ``(B, M, C, p1, p2)`` for a path: the minimiser of ``|D g|_1``.
            In the precision of the inputs: float32 may pass the bound by its rounding.
        L: The bound of the constraint.
        L_max: ``(B, C)``, without M: from here on the estimate is constant.
        objective: ``|D gamma|_1``, float64.
        gap: float64, relative: no feasible g has an objective below ``(1 - gap) objective``.
        empirical: The LEG that it began with, its standard errors and its count of evaluations.
        mean: Where the means of gamma come from: ``"empirical"`` or ``"zero"`` as asked, or
            ``"program"`` for a covariance that determines them.
        solver: The one that ran.
        seconds: Wall clock of the whole call.
        solver_seconds: Of it, what the linear programs took.
    """

    gamma: Tensor
    L: Tensor
    L_max: Tensor
    objective: Tensor
    gap: Tensor
    empirical: Leg
    mean: str
    solver: str
    seconds: float
    solver_seconds: float

    def __repr__(self) -> str:
        return (
            f"LegTV(gamma={tuple(self.gamma.shape)}, {self.solver}, "
            f"largest gap={self.gap.max().item():.1e}, n_samples={self.empirical.n_samples})"
        )

    def _repr_html_(self) -> str:
        columns = ("L", "objective", "gap")
        head = "".join(f"<th>{name}</th>" for name in columns)
        values = [getattr(self, name).flatten().tolist() for name in columns]
        rows = "".join(
            "<tr>" + "".join(f"<td>{value:.4g}</td>" for value in row) + "</tr>"
            for row in zip(*values, strict=True)
        )
        return (
            f"<p>LEG-TV, gamma {tuple(self.gamma.shape)}, {self.empirical.n_samples} samples, "
            f"{self.solver}</p><table><tr>{head}</tr>{rows}</table>"
        )


def leg_tv(
    forward_func: Callable[..., Any],
    inputs: Tensor | np.ndarray,
    target: Any = None,
    *,
    K_L: float | Sequence[float] | None = None,
    L: float | Sequence[float] | Tensor | Literal["theory"] | None = None,
    mean: Literal["empirical", "zero"] = "empirical",
    solver: str = "auto",
    sigma: float | Tensor = 0.1**0.5,
    covariance: covariances.Covariance | None = None,
    features: Features | None = None,
    n_samples: int = 3000,
    centred: bool = True,
    antithetic: bool = False,
    clip: tuple[float, float] | None = None,
    seed: int = 0,
    additional_forward_args: Any = None,
    max_examples_per_batch: int | None = None,
    memory_limit: int | None = None,
    show_progress: bool = False,
) -> LegTV:
    """Estimate a gradient of small total variation around each input, from values alone.

    ``gamma = argmin_g |D g|_1`` subject to ``|D^{+T} (b - Sigma g)|_inf <= L`` with
    ``b = Sigma gamma_LEG``, the mean of ``(f(x0 + z) - f(x0)) z``, and D the differences of
    neighbours on the grid, each channel for itself. For the default covariance this is a
    minimum-cost flow, solved exactly. The program leaves the mean of g open. The optimum need not
    be unique: docs/numerics.md states the rule that picks one.

    Args:
        forward_func: As for :func:`hessx.leg`, like all arguments that are not listed here.
        inputs: ``(B, H, W)`` or ``(B, C, H, W)``; of any shape that ``Grid`` features fit.
        target: As for :func:`hessx.leg`.
        K_L: ``L = K_L L_max``, in (0, 1], .1 unless given; several values give a path.
        L: In place of K_L: >= 0, one number for all; several give a path; a tensor has the shape
            of ``L_max``, one bound for each grid (the L of a trained model, say, to be carried
            over to its randomised self). ``"theory"``: Lemma 2 of the paper for eps = .05; it holds
            for ``|f| <= 1`` and ``|z| <= 1`` and is so cautious that the estimate is constant at
            any practical n_samples.
        mean: ``"empirical"`` takes the means of LEG's gamma, ``"zero"`` none. A covariance for
            which the one vector is no eigenvector determines the mean itself.
        solver: ``"auto"``: the network simplex, or HiGHS where the library has no compiled
            kernels or for another covariance, or the first-order method on a GPU and for grids of
            more than 2^17 cells; or one of
            ``"network-simplex"``, ``"highs"``, ``"first-order"``.
        sigma: See :func:`hessx.leg`.
        covariance: See :func:`hessx.leg`; positive definite. Any other than ``GridTV`` leaves the
            network, is solved by HiGHS and takes a thousand times longer.
        features: See :func:`hessx.leg`; ``Identity`` or ``Grid``.
        n_samples: See :func:`hessx.leg`.
        centred: See :func:`hessx.leg`.
        antithetic: See :func:`hessx.leg`.
        clip: See :func:`hessx.leg`.
        seed: See :func:`hessx.leg`.
        additional_forward_args: See :func:`hessx.leg`.
        max_examples_per_batch: See :func:`hessx.leg`.
        memory_limit: See :func:`hessx.leg`.
        show_progress: See :func:`hessx.leg`.

    Returns:
        A :class:`LegTV`.

    Raises:
        TypeError: If an argument is of a wrong type.
        ValueError: If an argument is out of range, shapes do not fit, inputs or outputs are not
            finite, or the features lie on no grid.

    Source:
        Statistically Consistent Saliency Estimation, Definition 2 (Eq. 4), sections 4.2 and 4.3,
        Theorem 1, Lemma 3.

    Example:
        >>> import torch, hessx
        >>> f = lambda x: x[:, 2:5, 2:5].sum((1, 2))
        >>> result = hessx.leg_tv(f, torch.zeros(1, 8, 8), K_L=[0.2, 1.0], sigma=0.3)
        >>> result.gamma.shape, bool(result.objective[0, 0] > result.objective[0, 1])
        (torch.Size([1, 2, 8, 8]), True)
    """
    started = time.perf_counter()
    check_choice("mean", mean, MEANS)
    check_choice("solver", solver, SOLVERS)
    bounds = Bounds(K_L, L)
    check_inputs(as_tensor(inputs))
    check_kind("features", features, Features)
    check_kind("covariance", covariance, covariances.Covariance)
    mapping = (features or Identity()).bind(inputs.shape[1:])
    covariance = covariance or default_covariance(mapping, sigma)
    program = tv_program(mapping, covariance, sigma, solver)
    several = [len(target)] if isinstance(target, Targets) else []
    bounds.check([*several, len(inputs), *mapping.feature_shape[:-2]])
    empirical = leg(
        forward_func,
        inputs,
        target,
        sigma=sigma,
        covariance=covariance,
        features=features,
        n_samples=n_samples,
        centred=centred,
        antithetic=antithetic,
        clip=clip,
        seed=seed,
        additional_forward_args=additional_forward_args,
        max_examples_per_batch=max_examples_per_batch,
        memory_limit=memory_limit,
        show_progress=show_progress,
    )
    with Run().own_arithmetic(empirical.gamma.device):
        return _penalised(empirical, program, bounds, mean, solver, started)


def leg_tv_from(
    empirical: Leg,
    *,
    K_L: float | Sequence[float] | None = None,
    L: float | Sequence[float] | Tensor | Literal["theory"] | None = None,
    mean: Literal["empirical", "zero"] = "empirical",
    solver: str = "auto",
) -> LegTV:
    """Solve LEG-TV's program for a LEG that is there already, without a call of the model.

    Args:
        empirical: From :func:`hessx.leg`.
        K_L: See :func:`hessx.leg_tv`.
        L: See :func:`hessx.leg_tv`.
        mean: See :func:`hessx.leg_tv`.
        solver: See :func:`hessx.leg_tv`.

    Returns:
        A :class:`LegTV`, the same as `leg_tv` with the arguments of `leg`.

    Raises:
        TypeError: If an argument is of a wrong type.
        ValueError: If an argument is out of range or the features lie on no grid.

    Example:
        >>> import torch, hessx
        >>> plain = hessx.leg(lambda x: x.sum((1, 2)), torch.zeros(1, 4, 4), n_samples=100)
        >>> hessx.leg_tv_from(plain, K_L=1.0).objective
        tensor([0.], dtype=torch.float64)
    """
    started = time.perf_counter()
    check_choice("mean", mean, MEANS)
    check_choice("solver", solver, SOLVERS)
    if not isinstance(empirical, Leg):
        raise TypeError(f"empirical must be a hessx.Leg, got {type(empirical).__name__}")
    bounds = Bounds(K_L, L)
    bounds.check(empirical.gamma.shape[:-2])
    program = tv_program(empirical.features, empirical.covariance, empirical.sigma, solver)
    with Run().own_arithmetic(empirical.gamma.device):
        return _penalised(empirical, program, bounds, mean, solver, started)


def _penalised(
    empirical: Leg, program: TVProgram, bounds: Bounds, mean: str, solver: str, started: float
) -> LegTV:
    """Solve the programs of all targets, inputs, channels and values of L at once."""
    grid = empirical.features.grid
    assert grid is not None
    began = time.perf_counter()
    estimate = empirical.gamma.double().reshape(-1, *grid)
    # What has one bound of its own: targets, inputs, and channels where pictures have some.
    grids = empirical.gamma.shape[:-2]
    largest = program.largest(estimate).reshape(grids)
    L = bounds.of(largest, grid[1:], empirical.n_samples)
    solved = program.solve(estimate, L.reshape(-1, grid[0], L.shape[-1]), solver)
    solver_seconds = time.perf_counter() - began
    gamma = solved.solution
    if not program.constants_are_free:
        mean = "program"
    if mean == "empirical":
        gamma = gamma + estimate.mean((-2, -1))[..., None, None, None]
    # M follows the batch.
    place = empirical.value.dim()

    def shown(values: Tensor) -> Tensor:
        values = values.reshape(*L.shape, *values.shape[3:]).movedim(len(grids), place)
        return values if bounds.is_path else values.select(place, 0)

    return LegTV(
        gamma=shown(gamma).to(empirical.gamma),
        L=shown(L.reshape(-1, grid[0], L.shape[-1])),
        L_max=largest,
        objective=shown(solved.objective),
        gap=shown(solved.gap),
        empirical=empirical,
        mean=mean,
        solver=solved.solver,
        seconds=time.perf_counter() - started,
        solver_seconds=solver_seconds,
    )
