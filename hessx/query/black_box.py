"""Several outputs of a black box: no gradient is needed, and NumPy will do."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hessx.query.model import Model
from hessx.query.values import ValueQuery
from hessx.run import Run


class BlackBoxQuery(ValueQuery):
    """One or more outputs of any function for each example, asked in batches that fit in memory.

    Args:
        forward_func: From ``(N, *shape)`` to ``(N,)`` or ``(N, c)`` (or more dimensions). It may
            return NumPy arrays.
        inputs: ``(B, *shape)``.
        target: As for :class:`~hessx.query.ValueQuery`, or :class:`~hessx.query.Targets`.
        run: The call's common arguments.
        arrays: Hand over NumPy arrays in place of tensors.

    Attributes:
        value: ``(B, T)``, the outputs at the inputs.
        examples_per_batch: How many examples one call of the model takes.
        n_examples: How many examples the function was called with so far.
    """

    _model: BlackBox
    _answers_several = True

    def __init__(
        self,
        forward_func: Callable[..., Any],
        inputs: Tensor,
        target: Any,
        run: Run,
        *,
        arrays: bool = False,
    ):
        self._arrays = arrays
        super().__init__(forward_func, inputs, target, run)

    @property
    def n_examples(self) -> int:
        """How many examples the function was called with so far."""
        return self._model.n_examples

    def values_at_draws(
        self,
        points: Callable[[slice], Callable[[Tensor], Tensor]],
        n_draws: int,
        rows: Tensor,
        progress: Any,
    ) -> Tensor:
        """Return the values ``(n_draws, len(rows), T)``, float64, at several points of each input.

        Args:
            points: From some of the draws to a function from numbers of inputs to the points
                ``(draws, inputs, *shape)``, which the model may write to.
            n_draws: How many points of each input.
            rows: Numbers of inputs.
            progress: Told of every batch's examples.

        Raises:
            ValueError: If a value is not finite.
        """
        shape = n_draws, len(rows), self.value.shape[1]
        y = self.value.new_empty(shape, dtype=torch.float64)
        draws_at_once = max(1, min(n_draws, self.examples_per_batch))
        rows_at_once = max(1, self.examples_per_batch // draws_at_once)
        for d in range(0, n_draws, draws_at_once):
            part = slice(d, d + draws_at_once)
            of_rows = points(part)
            for r in range(0, len(rows), rows_at_once):
                some = rows[r : r + rows_at_once]
                x = of_rows(some)
                values = self.values(x.flatten(0, 1), some.repeat(len(x)))
                y[part, r : r + rows_at_once] = values.double().unflatten(0, x.shape[:2])
                progress.update(len(values))
        return y

    def _asked(self, forward_func: Callable[..., Any], inputs: Tensor, run: Run) -> BlackBox:
        return BlackBox(forward_func, inputs, run, self._arrays)

    def _probe(self, x: Tensor, rows: Tensor) -> Tensor:
        # A graph shows what an example takes. A function that has none is asked again without;
        # whatever else was wrong with it then comes back.
        if not self._arrays:
            # A copy: it may have worked in place before it failed.
            with suppress(Exception):
                return self._ask(x.detach().clone().requires_grad_(), rows)
        return self._ask(x.detach(), rows)


class BlackBox(Model):
    """A function that may take and return NumPy arrays.

    Attributes:
        n_examples: How many examples it was called with so far.
    """

    def __init__(self, forward_func: Callable[..., Any], inputs: Tensor, run: Run, arrays: bool):
        super().__init__(forward_func, inputs, run)
        self._arrays = arrays
        self.n_examples = 0

    def _call(self, x: Any, args: tuple[Any, ...]) -> Any:
        self.n_examples += len(x)
        if self._arrays:
            args = tuple(a.detach().numpy() if isinstance(a, Tensor) else a for a in args)
        out = super()._call(x.numpy() if self._arrays else x, args)
        if isinstance(out, (np.ndarray, np.floating)):
            # A copy in every case: arrays of one entry count as contiguous at negative strides.
            return torch.as_tensor(np.array(out, order="C"), device=self._inputs.device)
        return out
