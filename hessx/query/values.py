"""Ask a model for values and gradients, in batches that fit in memory, and leave it as found."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from hessx.query.model import DETACHED, Model, check_finite, count_saved
from hessx.query.target import Selection, Targets
from hessx.run import Run


class ValueQuery:
    """One output of a model for each example, asked in batches that fit in memory.

    Args:
        forward_func: From ``(N, *shape)`` to ``(N,)`` or ``(N, c)`` (or more dimensions, with a
            tuple target); a module or any callable.
        inputs: ``(B, *shape)``.
        target: Which output, in Captum's convention: an int for all examples; a tensor, array or
            list of B ints, one an example; a tuple for outputs of several dimensions, or a list of
            B tuples; None when there is a single output. Or a `Contrast` of two.
        run: The call's common arguments.

    Attributes:
        value: ``(B,)``, the output at the inputs.
        examples_per_batch: How many examples one call of the model takes.
        seconds: Host time spent in the model so far, forward and backward.

    Raises:
        TypeError: If ``forward_func`` does not return a floating-point tensor, or ``target`` is of
            a wrong type.
        ValueError: If the output's shape, ``target`` or the values are unfit, or if the model is
            in training mode with layers that behave differently there.
    """

    # Whether values are those of several targets, (N, T), or of the one, (N,).
    _answers_several = False

    def __init__(self, forward_func: Callable[..., Tensor], inputs: Tensor, target: Any, run: Run):
        if isinstance(target, Targets) and not self._answers_several:
            raise TypeError("target must be one target here, got several: hessx.Targets")
        self._model = self._asked(forward_func, inputs, run)
        self._target = target
        self._selection: Selection | None = None
        self._outputs = torch.Size()
        self._n_rows = len(inputs)
        first = torch.zeros(1, dtype=torch.long, device=inputs.device)
        with count_saved() as saved, self._model.explained():
            value = self._probe(inputs[:1].clone().requires_grad_(), first)
        self.examples_per_batch = self._model.examples_per_batch(saved.bytes)
        batches = self._model.batches_after_first(self.examples_per_batch)
        self.value = torch.cat([value.detach(), *(self._ask(x, rows) for x, rows in batches)])
        check_finite(self.value, torch.arange(self._n_rows, device=inputs.device))

    @property
    def seconds(self) -> float:
        """Host time spent in the model so far, forward and backward."""
        return self._model.seconds

    def values(self, x: Tensor, rows: Tensor) -> Tensor:
        """Return the values ``(N,)`` at ``x (N, *shape)``.

        Args:
            x: Any number of examples, at most ``examples_per_batch`` to stay within memory.
            rows: ``(N,)``: whose target and additional arguments each one takes.

        Raises:
            ValueError: If a value is not finite, or outputs are of another shape than before.
        """
        value = self._ask(x.detach(), rows)
        check_finite(value, rows)
        return value

    def _asked(self, forward_func: Callable[..., Any], inputs: Tensor, run: Run) -> Model:
        return Model(forward_func, inputs, run)

    def _probe(self, x: Tensor, rows: Tensor) -> Tensor:
        """Return the first value, computed with a graph."""
        return self._ask(x, rows)

    def _ask(self, x: Tensor, rows: Tensor) -> Tensor:
        out = self._model(x, rows)
        if self._selection is None:
            self._selection = Selection(self._target, self._n_rows, out.shape[1:])
            self._outputs = out.shape[1:]
        if out.shape[1:] != self._outputs:
            raise ValueError(
                f"forward_func must return outputs of one shape: first {tuple(self._outputs)} an "
                f"example, later {tuple(out.shape[1:])}"
            )
        with torch.set_grad_enabled(x.requires_grad):
            values = self._selection(out, rows)
            return values if self._answers_several else values[:, 0]


class GradientQuery(ValueQuery):
    """Values and input gradients.

    Only the gradient with respect to the inputs is computed, never a parameter's; the model's
    mode, parameters and their ``.grad`` stay untouched.

    Raises:
        ValueError: Also if the gradient does not reach the inputs.
    """

    def gradient(self, x: Tensor, rows: Tensor) -> Tensor:
        """Return the gradients ``(N, *shape)`` at ``x``; arguments as for :meth:`values`.

        Raises:
            ValueError: If a value is not finite or the gradient does not reach ``x``.
        """
        x = x.detach().requires_grad_()
        value = self._ask(x, rows)
        gradient = None
        if value.requires_grad:
            with self._model.clock():
                ones = torch.ones_like(value)
                (gradient,) = torch.autograd.grad(value, x, ones, allow_unused=True)
        if gradient is None:
            raise ValueError(DETACHED)
        check_finite(value.detach(), rows)
        return gradient

    def _probe(self, x: Tensor, rows: Tensor) -> Tensor:
        value = super()._probe(x, rows)
        if not value.requires_grad:
            raise ValueError(DETACHED)
        return value
