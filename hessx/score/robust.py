"""Robust infidelity: the largest infidelity near each input."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from hessx.generators import seeded_generators
from hessx.perturb import Perturbation
from hessx.perturb.function import law_of
from hessx.perturb.neighbours import Neighbours
from hessx.query import ExplanationQuery, Targets
from hessx.query.model import check_mode
from hessx.run import Run, check_at_least_zero, check_int, check_tensors
from hessx.score.nearby import NearbyInfidelity

_STREAM = 212
# Steps add up to more than the radius: each number can go from one side to the other.
_REACH = 2.5


def robust_infidelity(
    forward_func: Callable[..., Any],
    perturb_func: Perturbation | Callable[..., Any],
    inputs: Tensor | tuple[Tensor, ...],
    explanation_func: Callable[..., Any],
    baselines: Any = None,
    additional_forward_args: Any = None,
    target: Any = None,
    n_perturb_samples: int | None = 10,
    max_examples_per_batch: int | None = None,
    normalize: bool = False,
    *,
    radius: float = 0.1,
    n_points: int = 50,
    ascent_steps: int = 0,
    explanation_kwargs: Mapping[str, Any] | None = None,
    seed: int = 0,
    memory_limit: int | None = None,
    show_progress: bool = False,
) -> Tensor:
    """Return the largest infidelity of an explanation over points near each input.

    ``RINFD(Phi, f, x) = max over |u|_inf <= radius of INFD(Phi, f, x + u)``, where both the model
    and the explanation are asked at ``x + u``, and the perturbations are the same draws at every u.
    The maximum is taken over u = 0 and ``n_points`` points uniform in the ball; then, with
    ``ascent_steps``, over as many steps of projected sign-gradient ascent from the best of them.

    The ascent needs a model whose gradient reaches its inputs. It goes through the explanation
    where that has a gradient of its own (made with ``create_graph=True`` throughout), and otherwise
    holds the explanation fixed for the gradient, never for the score.

    Args:
        forward_func: As for :func:`hessx.infidelity`.
        perturb_func: As for :func:`hessx.infidelity`, called as with an int seed.
        inputs: ``(B, *shape)``, finite, floating point, or a tuple of such.
        explanation_func: From inputs (a tuple where ``inputs`` is one) and ``explanation_kwargs``
            to explanations shaped like them. It may use autograd.
        baselines: As for :func:`hessx.infidelity`.
        additional_forward_args: As for :func:`hessx.infidelity`.
        target: As for :func:`hessx.infidelity`; not several ``Targets``.
        n_perturb_samples: Perturbations at each point, >= 1; None for all that a law lists.
        max_examples_per_batch: The most examples in one call of the model or the explanation.
        normalize: Scale the explanation at each point by what answers best there.
        radius: Of the L_inf ball of u, >= 0, in units of ``inputs``.
        n_points: Points around each input, >= 1.
        ascent_steps: Steps of the ascent, of ``2.5 radius / ascent_steps`` each; >= 0.
        explanation_kwargs: Handed to ``explanation_func``. ``target``, ``baselines``,
            ``feature_mask`` and ``additional_forward_args`` with an entry for each input go with
            it.
        seed: Key of the points, shared by all inputs, and of the perturbations. Where the model and
            the explanation draw nothing, no result depends on batches or on what else is scored.
            The generators of torch, NumPy and Python are seeded inside and left as they were found.
        memory_limit: Bytes of working storage; a share of what is free unless given.
        show_progress: Show a progress bar with the time left.

    Returns:
        ``(B,)``, float64, at least the infidelity at the inputs under the same seed.

    Raises:
        TypeError: If an argument is of a wrong type.
        ValueError: If an argument is out of range, shapes do not fit, inputs, explanations or
            outputs are not finite, or, with ``ascent_steps``, if the model has no gradient.

    Source:
        Yeh et al., On the (In)fidelity and Sensitivity of Explanations (NeurIPS 2019),
        Definition C.1.

    Example:
        >>> import torch, hessx
        >>> weight = torch.tensor([1.0, -2.0, 3.0])
        >>> x = torch.ones(1, 3)
        >>> noise = hessx.perturb.Gaussian(0.1)
        >>> gradient = lambda x: weight.expand_as(x)
        >>> hessx.robust_infidelity(lambda x: x @ weight, noise, x, gradient) < 1e-12
        tensor([True])
    """
    run = Run(
        seed=seed,
        max_examples_per_batch=max_examples_per_batch,
        memory_limit=memory_limit,
        show_progress=show_progress,
    )
    tensors = check_tensors(inputs)
    check_at_least_zero("radius", radius)
    check_int("n_points", n_points, 1)
    check_int("ascent_steps", ascent_steps, 0)
    check_mode(forward_func)
    if not isinstance(normalize, bool):
        raise TypeError(f"normalize must be True or False, got {normalize!r}")
    if isinstance(target, Targets):
        raise TypeError("target must be one target here, got several: hessx.Targets")
    if not isinstance(explanation_kwargs, (Mapping, type(None))):
        kind = type(explanation_kwargs).__name__
        raise TypeError(f"explanation_kwargs must be a mapping, got {kind}")
    law_of(perturb_func, tensors, baselines, n_perturb_samples, seed)
    device = tensors[0].device
    with run.own_arithmetic(device), seeded_generators(seed, device):
        explain = ExplanationQuery(
            explanation_func,
            tensors,
            dict(explanation_kwargs or {}),
            run,
            takes_tuple=isinstance(inputs, tuple),
        )
        score = NearbyInfidelity(
            forward_func,
            perturb_func,
            explain,
            baselines=baselines,
            additional_forward_args=additional_forward_args,
            target=target,
            n=n_perturb_samples,
            normalize=normalize,
            run=run,
        )
        points = Neighbours(explain.inputs, "uniform", float(radius), seed, _STREAM)
        total = len(tensors[0]) * (1 + n_points + ascent_steps)
        with run.progress(total, "robust_infidelity", "point") as bar:
            largest, where = _sampled(score, explain, points, n_points, bar)
            if ascent_steps:
                step = _REACH * radius / ascent_steps
                for rows in _all_rows(explain).split(explain.examples_per_batch):
                    start = tuple(x[rows] for x in where)
                    ball = Ball(tuple(x[rows] for x in explain.inputs), float(radius))
                    found = _ascended(score, rows, start, ball, step, ascent_steps, bar)
                    largest[rows] = largest[rows].maximum(found)
    return largest


def _sampled(
    score: NearbyInfidelity, explain: ExplanationQuery, points: Neighbours, n_points: int, bar: Any
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Return the largest infidelity at the inputs and at points around them, and where it is."""
    rows = _all_rows(explain)
    where = tuple(x.clone() for x in explain.inputs)
    largest = []
    for some in rows.split(explain.examples_per_batch):
        largest.append(score(tuple(x[some] for x in explain.inputs), some))
        bar.update(len(some))
    value = torch.cat(largest)
    for some, first, count in explain.pieces(n_points):
        x = points(some, first, count)
        found = score(x, some.repeat_interleave(count)).reshape(-1, count)
        most, at = found.max(1)
        better = most > value[some]
        index = (torch.arange(len(some), device=at.device) * count + at)[better]
        for best, t in zip(where, x, strict=True):
            best[some[better]] = t[index]
        value[some] = value[some].maximum(most)
        bar.update(found.numel())
    return value, where


def _ascended(
    score: NearbyInfidelity,
    rows: Tensor,
    x: tuple[Tensor, ...],
    ball: Ball,
    step: float,
    n_steps: int,
    bar: Any,
) -> Tensor:
    """Return the largest infidelity on the way up from ``x``."""
    largest = torch.zeros(len(rows), dtype=torch.float64, device=rows.device)
    for _ in range(n_steps):
        direction = score.split(score.gradient(x, rows).sign())
        x = ball.project(tuple(t + step * s for t, s in zip(x, direction, strict=True)))
        largest = largest.maximum(score(x, rows))
        bar.update(len(rows))
    return largest


class Ball:
    """The L_inf ball around some inputs."""

    def __init__(self, centres: tuple[Tensor, ...], radius: float):
        self._limits = [(x - radius, x + radius) for x in centres]

    def project(self, x: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Return the nearest points inside."""
        pairs = zip(x, self._limits, strict=True)
        return tuple(t.clamp(low, high) for t, (low, high) in pairs)


def _all_rows(explain: ExplanationQuery) -> Tensor:
    return torch.arange(len(explain.inputs[0]), device=explain.inputs[0].device)
