"""How much explanations, whatever their unit, leave unexplained of what perturbations do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from hessx.perturb import BoundPerturbation
from hessx.query import BlackBoxQuery
from hessx.run import Run
from hessx.score.answers import answers_by_number


@dataclass(frozen=True, eq=False)
class Unexplained:
    """Shares of K explanations of B inputs, float64, and what they took.

    Attributes:
        share: ``(K, B)``, in [0, 1]; nan where no perturbation changes the model's answer.
        stderr: ``(K, B)``, of the share: errors and changes of the same draws rise and fall
            together, so it is below that of the infidelity alone.
        scale: ``(K, B)``, what each explanation was multiplied by; 0 for one that never answers.
        n_evaluations: Examples that the model was asked for.
    """

    share: Tensor
    stderr: Tensor
    scale: Tensor
    n_evaluations: int


def unexplained(
    forward_func: Callable[..., Any],
    law: BoundPerturbation,
    attributions: Tensor,
    target: Any,
    n_samples: int,
    run: Run,
) -> Unexplained:
    """Return infidelity at the best scale over what a map of zeros has, ``E[(f(x) - f(x - I))^2]``.

    Explanations of different units compare: 0 answers every perturbation exactly, 1 none better
    than saying that nothing changes.

    Args:
        forward_func: As for :func:`hessx.infidelity`.
        law: Of the perturbations of the inputs.
        attributions: ``(K, B, *shape)``, in the form that the law multiplies.
        target: As for :func:`hessx.infidelity`, one of them.
        n_samples: Perturbations, >= 2.
        run: The call's common arguments.
    """
    with run.own_arithmetic(law.inputs.device):
        query = BlackBoxQuery(forward_func, law.inputs, target, run)
        explanations = attributions.flatten(2).movedim(0, 1)[:, None]
        answers = answers_by_number(query, law, explanations, n_samples, run)
        scale = answers.scale()
        errors = answers.errors(scale).square()[:, :, 0]
        changes = answers.differences.square()
        # 0 / 0, nan, where nothing changes.
        share = answers.mean(errors) / answers.mean(changes)
        # Of a ratio of means, to first order; the scale is where its derivative is 0.
        stderr = answers.stderr(errors - share[:, None] * changes) / answers.mean(changes)
    return Unexplained(share.mT, stderr.mT, scale[:, 0].mT, query.n_examples)
