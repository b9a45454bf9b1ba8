"""Infidelity and sensitivity of several explanations of several images, with standard errors.

As appendix B.1 of the paper has it: explanations have unit norm before sensitivity is measured, and
the best factor before infidelity is. Infidelity is asked with other draws than those that an
optimal explanation was fitted to, the same for all explanations.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

import hessx
from bench.explanations import Explanation
from hessx.perturb.perturbation import Perturbation

SENSITIVITY_RADIUS = 0.1
SENSITIVITY_POINTS = 50
INFIDELITY_DRAWS = 1000
# The optimal explanations are fitted to the draws of seed 0.
HELD_OUT_SEED = 1
# Inputs that a sensitivity asks an explanation about at once.
_BATCH = 64
_IMAGES = 10


@dataclass(frozen=True, eq=False)
class Method:
    """An explanation with what is asked about it.

    Attributes:
        name: As in the tables.
        explain: The function.
        smooth_of: Of which method it is the smoothed form, or None.
        points: Points that its sensitivity is the largest change over, or 0 to leave it open.
    """

    name: str
    explain: Explanation
    smooth_of: str | None = None
    points: int = SENSITIVITY_POINTS


@dataclass(frozen=True, eq=False)
class Scores:
    """What the methods scored, each ``(images,)``.

    Attributes:
        infidelity: By law and method.
        answers: By law: the mean square of what the net answers, the infidelity of explaining
            nothing.
        sensitivity: By method, of the first images only.
        maps: By method, ``(images, *shape)``.
    """

    infidelity: Mapping[str, Mapping[str, Tensor]]
    answers: Mapping[str, Tensor]
    sensitivity: Mapping[str, Tensor]
    maps: Mapping[str, Tensor]


def score(
    net: nn.Module,
    x: Tensor,
    target: Tensor,
    methods: Sequence[Method],
    laws: Mapping[str, Perturbation],
    *,
    sensitive: int,
    label: str = "",
) -> Scores:
    """Score all methods at ``x (B, *shape)``; sensitivity for the first ``sensitive`` images."""
    maps = {method.name: _rows(method.explain, x, target) for method in methods}
    print(f"{label}: {len(methods)} explanations of {len(x)} images", flush=True)
    infidelity, answers = {}, {}
    for law_name, law in laws.items():
        infidelity[law_name] = infidelities(net, law, x, target, maps)
        answers[law_name] = mean_square_answer(net, law, x, target)
    measured = [method for method in methods if method.points]
    found: dict[str, list[Tensor]] = {method.name: [] for method in measured}
    for row in range(min(sensitive, len(x))):
        for method in measured:
            one = slice(row, row + 1)
            found[method.name].append(
                sensitivity(method.explain, x[one], target[one], method.points)
            )
        print(f"{label}: sensitivity of image {row + 1}", flush=True)
    sensitivities = {name: torch.cat(parts) for name, parts in found.items() if parts}
    return Scores(infidelity, answers, sensitivities, maps)


def infidelities(
    net: nn.Module,
    law: Perturbation,
    x: Tensor,
    target: Tensor,
    maps: Mapping[str, Tensor],
    draws: int = INFIDELITY_DRAWS,
) -> dict[str, Tensor]:
    """Return the infidelity ``(B,)`` of each map ``(B, *shape)``, optimally scaled."""
    found = hessx.infidelity(
        net,
        law,
        x,
        torch.stack(list(maps.values())),
        target=target,
        n_perturb_samples=draws,
        normalize=True,
        seed=HELD_OUT_SEED,
    )
    return dict(zip(maps, found, strict=True))


def mean_square_answer(
    net: nn.Module, law: Perturbation, x: Tensor, target: Tensor, draws: int = INFIDELITY_DRAWS
) -> Tensor:
    """Return ``E (f(x) - f(x - I))^2`` on the draws of `infidelities`, ``(B,)``."""
    return hessx.infidelity(
        net,
        law,
        x,
        torch.zeros_like(x),
        target=target,
        n_perturb_samples=draws,
        seed=HELD_OUT_SEED,
    )


def sensitivity(
    explain: Explanation, x: Tensor, target: Tensor, points: int = SENSITIVITY_POINTS
) -> Tensor:
    """Return the largest change of an explanation of unit norm, ``(B,)``."""
    return hessx.sensitivity_max(
        explain,
        x,
        perturb_radius=SENSITIVITY_RADIUS,
        n_perturb_samples=points,
        max_examples_per_batch=_BATCH,
        normalize="unit",
        seed=0,
        target=target,
    )


def mean_and_error(values: Tensor) -> tuple[float, float]:
    """Return the mean and its standard error, nan of one value."""
    values = values.double()
    error = values.std().item() / len(values) ** 0.5 if len(values) > 1 else float("nan")
    return values.mean().item(), error


def table(scores: Scores, methods: Sequence[Method]) -> list[dict[str, Any]]:
    """Return a row for each method: means over the images and their standard errors."""
    rows = []
    for method in methods:
        row: dict[str, Any] = dict(method=method.name)
        _add(row, "sensitivity", scores.sensitivity.get(method.name))
        for law, by_method in scores.infidelity.items():
            _add(row, law, by_method[method.name])
        rows.append(row)
    nothing: dict[str, Any] = dict(method="nothing", sensitivity="", sensitivity_se="")
    for law, answers in scores.answers.items():
        _add(nothing, law, answers)
    return [*rows, nothing]


def smoothing_effects(scores: Scores, methods: Sequence[Method]) -> list[dict[str, Any]]:
    """Return a row for each smoothed method: smoothed less plain, paired by image."""
    rows = []
    for method in methods:
        if method.smooth_of is None:
            continue
        row: dict[str, Any] = dict(method=method.smooth_of)
        change = None
        if method.name in scores.sensitivity:
            change = scores.sensitivity[method.name] - scores.sensitivity[method.smooth_of]
        _add(row, "sensitivity", change)
        for law, by_method in scores.infidelity.items():
            _add(row, law, by_method[method.name] - by_method[method.smooth_of])
        rows.append(row)
    return rows


def _add(row: dict[str, Any], name: str, values: Tensor | None) -> None:
    row[name], row[f"{name}_se"] = ("", "") if values is None else mean_and_error(values)


def _rows(explain: Explanation, x: Tensor, target: Tensor) -> Tensor:
    """Explain a few images at once: optimal explanations share their draws."""
    parts = zip(x.split(_IMAGES), target.split(_IMAGES), strict=True)
    return torch.cat([explain(*part) for part in parts])
