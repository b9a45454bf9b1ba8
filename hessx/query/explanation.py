"""An explanation function asked for many inputs, in batches that fit in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from hessx.query.model import count_saved, examples_in_memory
from hessx.query.row_arguments import RowArguments
from hessx.run import Run, all_finite

# What autograd is taken to save for an example, in bytes a byte of the example, where it cannot
# be counted: about what deep convolutional nets save.
_UNCOUNTED_FACTOR = 256


class ExplanationQuery:
    """An explanation function with its keyword arguments, asked for any rows of the inputs.

    Gradients are enabled for the function, whatever the caller's mode: it may call autograd.

    Args:
        explanation_func: From a tensor ``(N, *shape)``, or a tuple of such, to one or a tuple of
            tensors with N examples each.
        inputs: ``(B, *shape)`` each.
        kwargs: Its keyword arguments, taken as by `RowArguments`.
        run: The call's common arguments.
        takes_tuple: Whether it is given a tuple (or the only tensor).

    Attributes:
        inputs: As given.
        returns_tuple: Whether the function returned a tuple, once it was asked.

    Raises:
        TypeError: If ``explanation_func`` is not callable.
        ValueError: If ``target`` has not one entry for each input.
    """

    def __init__(
        self,
        explanation_func: Callable[..., Any],
        inputs: tuple[Tensor, ...],
        kwargs: dict[str, Any],
        run: Run,
        *,
        takes_tuple: bool,
    ):
        if not callable(explanation_func):
            kind = type(explanation_func).__name__
            raise TypeError(f"explanation_func must be callable, got {kind}")
        # Autograd takes no tensors from inference mode.
        self.inputs = tuple(x.clone() if x.is_inference() else x for x in inputs)
        self.returns_tuple = False
        self._function = explanation_func
        self._arguments = RowArguments(kwargs, self.inputs)
        self._run = run
        self._takes_tuple = takes_tuple
        self._shapes: list[torch.Size] = []

    def __call__(
        self, x: tuple[Tensor, ...], rows: Tensor, *, keep_graph: bool = False
    ) -> tuple[Tensor, ...]:
        """Return the explanations of examples ``(N, *shape)`` each, ``(N, ...)`` each.

        Args:
            x: At most ``examples_per_batch`` to stay within memory.
            rows: ``(N,)``: whose keyword arguments each example takes.
            keep_graph: Whether the explanations keep the graph that they come with.

        Raises:
            TypeError: If the function does not return a real tensor or a tuple of such.
            ValueError: If their shapes do not fit, or if they are not finite.
        """
        return self.ask(x if self._takes_tuple else x[0], rows, keep_graph=keep_graph)

    def ask(
        self,
        x: Tensor | tuple[Tensor, ...],
        rows: Tensor | None = None,
        *,
        keep_graph: bool = False,
    ) -> tuple[Tensor, ...]:
        """Hand over ``x`` as it is; otherwise as when called.

        Args:
            x: A tensor or a tuple.
            rows: None for the inputs themselves.
            keep_graph: As above.

        Raises:
            TypeError: Also if a function that could have been given a tensor fails on a tuple.
        """
        kwargs = self._arguments.given if rows is None else self._arguments(rows)
        device = self.inputs[0].device
        with torch.enable_grad(), self._run.callers_autocast(device):
            try:
                found = self._function(x, **kwargs)
            except (AttributeError, TypeError) as error:
                if not isinstance(x, tuple) or self._takes_tuple:
                    raise
                raise TypeError(
                    "explanation_func failed on a tuple of one tensor, which it is given with "
                    f"seed=None, as by Captum (with an int seed it is given the tensor): {error}"
                ) from error
        n = len(self.inputs[0]) if rows is None else len(rows)
        found = self._checked(found, n)
        _check_finite(found, rows)
        return found if keep_graph else tuple(t.detach() for t in found)

    def at_inputs(self) -> tuple[Tensor, ...]:
        """Return the explanations of the inputs, ``(B, ...)`` each."""
        parts = [self._first[0]]
        rest = torch.arange(1, len(self.inputs[0]), device=self.inputs[0].device)
        for rows in rest.split(self.examples_per_batch) if len(rest) else ():
            found = self(tuple(x[rows] for x in self.inputs), rows)
            parts.append(tuple(t.clone() for t in found))
        return tuple(torch.cat(part) for part in zip(*parts, strict=True))

    def pieces(self, n_points: int) -> Iterator[tuple[Tensor, int, int]]:
        """Split points around each input into batches: yield rows, first point, count of points."""
        rows = torch.arange(len(self.inputs[0]), device=self.inputs[0].device)
        points_at_once = min(n_points, self.examples_per_batch)
        for first in range(0, n_points, points_at_once):
            count = min(points_at_once, n_points - first)
            for some in rows.split(max(1, self.examples_per_batch // count)):
                yield some, first, count

    @property
    def examples_per_batch(self) -> int:
        """How many examples one call takes, from what the explanation of the first one took."""
        return self._first[1]

    @cached_property
    def _first(self) -> tuple[tuple[Tensor, ...], int]:
        """The explanation of the first input, and how many fit in memory."""
        rows = torch.zeros(1, dtype=torch.long, device=self.inputs[0].device)
        x = tuple(t[:1].detach().clone() for t in self.inputs)
        size = sum(t.nbytes for t in x)
        try:
            with count_saved() as counted:
                found = self(x, rows)
            saved = counted.bytes
        except RuntimeError as error:
            # Of torch.func, whose transforms refuse to be counted.
            if "saved tensor hooks" not in str(error):
                raise
            found = self(tuple(t[:1].detach().clone() for t in self.inputs), rows)
            saved = _UNCOUNTED_FACTOR * size
        size += sum(t.nbytes for t in found)
        # Copies, here and of all that is kept: the function may fill one buffer in every call.
        found = tuple(t.clone() for t in found)
        return found, examples_in_memory(self._run, saved, size, x[0].device)

    def _checked(self, found: Any, n: int) -> tuple[Tensor, ...]:
        tensors = found if isinstance(found, tuple) else (found,)
        for tensor in tensors:
            if not isinstance(tensor, Tensor) or tensor.is_complex():
                kind = tensor.dtype if isinstance(tensor, Tensor) else type(tensor).__name__
                got = f"a tuple with {kind}" if isinstance(found, tuple) else str(kind)
                raise TypeError(
                    f"explanation_func must return a real tensor or a tuple of such, got {got}"
                )
            if tensor.dim() == 0 or len(tensor) != n:
                raise ValueError(
                    f"explanation_func must return one explanation for each of {n} examples, "
                    f"got shape {tuple(tensor.shape)}"
                )
        if not tensors:
            raise ValueError("explanation_func must return at least one tensor, got none")
        shapes = [tensor.shape[1:] for tensor in tensors]
        if self._shapes and shapes != self._shapes:
            first, later = ([tuple(s) for s in some] for some in (self._shapes, shapes))
            raise ValueError(
                f"explanation_func must return explanations of one shape: first {first} an "
                f"example, later {later}"
            )
        self._shapes = shapes
        self.returns_tuple = isinstance(found, tuple)
        return tensors


def _check_finite(found: tuple[Tensor, ...], rows: Tensor | None) -> None:
    for tensor in found:
        if not all_finite(tensor):
            at = tuple((~tensor.isfinite()).nonzero()[0].tolist())
            row = at[0] if rows is None else int(rows[at[0]])
            raise ValueError(
                f"explanation_func returned {tensor[at].item()} for input row {row}: explanations "
                "must be finite"
            )
