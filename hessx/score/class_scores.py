"""How strongly a classifier's output speaks for each class."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from hessx.query import BlackBoxQuery
from hessx.query.black_box import BlackBox
from hessx.run import Run, check_choice

OUTPUTS = ("log-odds", "log-probability", "probability", "raw")
RETURNS = ("logits", "probabilities")


class ClassScores:
    """A score of every class from what a classifier returns, in float64.

    A single output is that of one class against its complement. The log-odds of the likeliest class
    come from the sum of all others: 1 - p has no digits left where p is nearly 1.

    Args:
        output: "log-odds" ``log(p / (1 - p))``, "log-probability" ``log p``, "probability" ``p``,
            or "raw", what is returned.
        returns: What the classifier returns, "logits" or "probabilities".

    Raises:
        ValueError: If one is none of these.
    """

    def __init__(self, output: str, returns: str):
        check_choice("output", output, OUTPUTS)
        check_choice("returns", returns, RETURNS)
        self._output = output
        self._returns = returns

    def __call__(self, out: Tensor) -> Tensor:
        """Return the scores of ``out (N,)`` or ``(N, c)``, in its shape.

        Raises:
            ValueError: If it is of another shape, or should be probabilities and is not.
        """
        if self._output == "raw":
            return out
        if out.dim() not in (1, 2):
            raise ValueError(
                f'forward_func must return (N,) or (N, c) for output="{self._output}", got shape '
                f'{tuple(out.shape)}; output="raw" takes any'
            )
        classes = out.double().reshape(len(out), -1)
        if self._returns == "logits":
            if classes.shape[1] == 1 and self._output == "log-odds":
                return classes.reshape(out.shape)
            log_p, log_rest = _from_logits(classes)
        else:
            tiny = torch.finfo(out.dtype).tiny
            log_p, log_rest = _from_probabilities(classes, torch.finfo(out.dtype).eps ** 0.5, tiny)
        scores = {
            "log-odds": lambda: log_p - log_rest,
            "log-probability": lambda: log_p,
            "probability": log_p.exp,
        }[self._output]()
        return scores.reshape(out.shape)


class ScoreQuery(BlackBoxQuery):
    """The score of one class for each example, asked in batches that fit in memory.

    Args:
        forward_func: From ``(N, *shape)`` to ``(N,)`` or ``(N, c)``; it may return NumPy arrays.
        inputs: ``(B, *shape)``.
        target: In Captum's convention, or a `Contrast`: the difference of two scores.
        run: The call's common arguments.
        scores: What is asked of the outputs.

    Attributes:
        value: ``(B,)``, the score at the inputs.
    """

    _answers_several = False

    def __init__(
        self,
        forward_func: Callable[..., Any],
        inputs: Tensor,
        target: Any,
        run: Run,
        scores: ClassScores,
    ):
        self._scores = scores
        super().__init__(forward_func, inputs, target, run)

    def _asked(self, forward_func: Callable[..., Any], inputs: Tensor, run: Run) -> BlackBox:
        return _Scored(forward_func, inputs, run, self._scores)


class _Scored(BlackBox):
    def __init__(
        self, forward_func: Callable[..., Any], inputs: Tensor, run: Run, scores: ClassScores
    ):
        super().__init__(forward_func, inputs, run, arrays=False)
        self._scores = scores

    def __call__(self, x: Tensor, rows: Tensor) -> Tensor:
        out = super().__call__(x, rows)
        with torch.set_grad_enabled(x.requires_grad):
            return self._scores(out)


def _from_logits(z: Tensor) -> tuple[Tensor, Tensor]:
    """Return log p and log(1 - p), ``(N, c)`` each."""
    if z.shape[1] == 1:
        return torch.nn.functional.logsigmoid(z), torch.nn.functional.logsigmoid(-z)
    log_p = z.log_softmax(1)
    top = log_p.argmax(1, keepdim=True)
    rest_of_top = log_p.scatter(1, top, -torch.inf).logsumexp(1, keepdim=True)
    # Of all others p is at most 1/2.
    log_rest = torch.log1p(-log_p.scatter(1, top, -torch.inf).exp())
    return log_p, log_rest.scatter(1, top, rest_of_top)


def _from_probabilities(p: Tensor, tolerance: float, tiny: float) -> tuple[Tensor, Tensor]:
    """Return log p and log(1 - p), ``(N, c)`` each, of probabilities kept at least ``tiny``."""
    total = p.sum(1)
    good = (p >= -tolerance).all(1) & (p <= 1 + tolerance).all(1)
    if p.shape[1] > 1:
        good &= (total - 1).abs() <= tolerance
    if not good.all():
        row = int((~good).nonzero()[0])
        raise ValueError(
            'forward_func must return probabilities for returns="probabilities": at least 0 and of '
            f"sum 1, got values from {p[row].min().item():.4g} to {p[row].max().item():.4g} of sum "
            f"{total[row].item():.4g}"
        )
    p = p.clamp(min=0)
    if p.shape[1] == 1:
        rest = 1 - p
    else:
        top = p.argmax(1, keepdim=True)
        rest = (1 - p).scatter(1, top, p.scatter(1, top, 0).sum(1, keepdim=True))
    return p.clamp(min=tiny).log(), rest.clamp(min=tiny).log()
