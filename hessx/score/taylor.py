"""How well a gradient and a Hessian predict the function around a point."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

from hessx import ops
from hessx.operators import SymmetricOperator
from hessx.query import ValueQuery
from hessx.run import Run, accumulation_dtype, check_choice, check_inputs, check_int

_POINTS, _RADII = 0, 1


def perturbation_mse(
    forward_func: Callable[..., Any],
    inputs: Tensor,
    target: Any,
    gradient: Tensor,
    hessian: Tensor | SymmetricOperator | None = None,
    *,
    radius: float,
    n_samples: int = 15_000,
    law: Literal["ball", "uniform_radius"] = "ball",
    seed: int = 0,
    additional_forward_args: Any = None,
    max_examples_per_batch: int | None = None,
    memory_limit: int | None = None,
    show_progress: bool = False,
) -> Tensor:
    """Return the mean squared error of a Taylor model over a ball around each input.

    ``P_MSE = E[(f(x0) + G^T s + s^T H s / 2 - f(x0 + s))^2]``, ``s`` uniform in the ball of the
    given radius.

    Args:
        forward_func: From ``(N, *shape)`` to ``(N,)`` or ``(N, c)``.
        inputs: ``(B, *shape)``, finite.
        target: Which output, in Captum's convention; None for a single output.
        gradient: ``(B, *shape)``.
        hessian: ``(B, d, d)`` or an operator of that shape, ``d`` the numbers of an input; None for
            a first-order model.
        radius: > 0, in units of ``inputs``.
        n_samples: Points an input.
        law: ``"ball"``: uniform in the ball (a uniform direction times ``radius U^(1/d)``).
            ``"uniform_radius"``: the radius itself uniform in ``[0, radius]``, the law of the
            SmoothHess authors' published code, whose points are on average half as far away.
        seed: Key of the points; they are shared by all rows.
        additional_forward_args: Passed to ``forward_func`` after the inputs.
        max_examples_per_batch: The most examples in one call of the model.
        memory_limit: Bytes of working storage; a share of what is free unless given.
        show_progress: Show a progress bar with the time left.

    Returns:
        ``(B,)``, float64.

    Raises:
        TypeError: If an argument is of a wrong type.
        ValueError: If an argument is out of range or shapes do not fit.

    Source:
        Torop et al., SmoothHess (NeurIPS 2023), Eqs. (10) and (11).

    Example:
        >>> import torch, hessx
        >>> x = torch.zeros(1, 4)
        >>> H = 2 * torch.eye(4)[None]
        >>> f = lambda x: x.square().sum(1)
        >>> hessx.perturbation_mse(f, x, None, torch.zeros(1, 4), H, radius=0.5) < 1e-12
        tensor([True])
    """
    run = Run(seed, additional_forward_args, max_examples_per_batch, memory_limit, show_progress)
    check_inputs(inputs)
    check_choice("law", law, ("ball", "uniform_radius"))
    check_int("n_samples", n_samples, 1)
    if not (math.isfinite(radius) and radius > 0):
        raise ValueError(f"radius must be > 0 and finite, got {radius}")
    _check_model_part("gradient", gradient, inputs)
    if gradient.shape != inputs.shape:
        raise ValueError(
            f"gradient must have the shape of inputs {tuple(inputs.shape)}, "
            f"got {tuple(gradient.shape)}"
        )
    rows, d = len(inputs), math.prod(inputs.shape[1:])
    if hessian is not None and hessian.shape != (rows, d, d):
        raise ValueError(f"hessian must be {(rows, d, d)}, got {tuple(hessian.shape)}")
    if isinstance(hessian, Tensor):
        _check_model_part("hessian", hessian, inputs)
    dtype = accumulation_dtype(inputs)
    total = torch.zeros(rows, dtype=torch.float64, device=inputs.device)
    with run.own_arithmetic(inputs.device):
        query = ValueQuery(forward_func, inputs, target, run)
        slope = gradient.reshape(rows, d).to(dtype)
        if isinstance(hessian, Tensor):
            hessian = hessian.to(dtype)
        step = query.examples_per_batch
        with run.progress(rows * n_samples, "perturbation_mse") as progress:
            for first in range(0, n_samples, step):
                count = min(step, n_samples - first)
                s = _points(first, count, d, radius, law, seed, dtype, inputs.device)
                for row in range(rows):
                    x = inputs[row] + s.reshape(count, *inputs.shape[1:]).to(inputs.dtype)
                    owner = torch.full((count,), row, device=inputs.device)
                    model = query.value[row] + s @ slope[row]
                    if hessian is not None:
                        model = model + (s * (hessian[row] @ s.mT).mT).sum(1) / 2
                    error = model.double() - query.values(x, owner).double()
                    total[row] += error.square().sum()
                    progress.update(count)
    return total / n_samples


def _check_model_part(name: str, value: Any, inputs: Tensor) -> None:
    if not isinstance(value, Tensor) or not value.is_floating_point():
        kind = value.dtype if isinstance(value, Tensor) else type(value).__name__
        raise TypeError(f"{name} must be a floating-point tensor, got {kind}")
    if value.device != inputs.device:
        raise ValueError(f"{name} must be on {inputs.device} like the inputs, got {value.device}")
    if not value.isfinite().all():
        raise ValueError(f"{name} must be finite")


def _points(
    first: int,
    count: int,
    d: int,
    radius: float,
    law: str,
    seed: int,
    dtype: torch.dtype,
    device: torch.device,
) -> Tensor:
    """Return the numbered points in the ball, ``(count, d)``."""
    where: dict[str, Any] = {"seed": seed, "first_sample": first, "dtype": dtype, "device": device}
    direction = ops.normal(count, d, stream=_POINTS, **where)
    # A radius that rounds to 0 (one number in 2^25) has no direction: in one dimension it matters.
    direction = torch.where(direction.any(1, keepdim=True), direction, 1)
    share = ops.uniform(count, 1, stream=_RADII, **where)
    if law == "ball":
        share = share ** (1 / d)
    return radius * share * direction / direction.norm(dim=1, keepdim=True)
