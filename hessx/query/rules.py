"""What a rule is: from an operation about to run to its linear map of tangents at that point.

A rule takes a :class:`Call` and returns a :class:`Linear`, or raises
:class:`NotPiecewiseLinearError`. Names are those of ATen's operations, without the underscore of
those in place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


class NotPiecewiseLinearError(Exception):
    """The operation named cannot be replayed as a linear map."""


@dataclass
class Linear:
    """A linear map of the tangents of ``sources``.

    Its functions must not refer to ``sources``, nor to the call: a tape keeps them, and should not
    keep activations.

    Attributes:
        sources: The arguments whose tangents it takes.
        apply: From their tangents to that of the result, or to a list for a list of results.
        at: From the operation's result to ``apply``, where that depends on it.
        gate: The same as a function of the tangent and the result, which is kept by reference.
        scaled: For a convolution: from one factor a channel to the map followed by them.
        channel_scale: For a map that is one factor a channel (axis 1): the factors.
    """

    sources: Sequence[Tensor]
    apply: Callable[..., Any] | None = None
    at: Callable[[Any], Callable[..., Any]] | None = None
    gate: Callable[[Tensor, Tensor], Tensor] | None = None
    scaled: Callable[[Tensor], Callable[[Tensor], Tensor]] | None = None
    channel_scale: Callable[[], Tensor] | None = None


@dataclass(frozen=True)
class Call:
    """One operation about to run.

    Attributes:
        name: Its name.
        function: The operation, never the one in place.
        args: Its arguments.
        kwargs: Its keyword arguments.
        dependent: The tensors among them that depend on the input, as often as they occur.
    """

    name: str
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    dependent: Sequence[Tensor]

    def depends(self, value: Any) -> bool:
        """Return whether ``value`` is one of the tensors that depend on the input."""
        return any(value is tensor for tensor in self.dependent)

    def get(self, index: int, name: str, default: Any = None) -> Any:
        """Return the argument given at ``index`` or as ``name``."""
        return self.args[index] if len(self.args) > index else self.kwargs.get(name, default)

    def sources(self, *allowed: Any) -> list[Tensor]:
        """Return which of ``allowed`` depend on the input: all arguments that may.

        Raises:
            NotPiecewiseLinearError: If another argument depends on it.
        """
        found = [value for value in allowed if self.depends(value)]
        if len(found) != len(self.dependent):
            raise NotPiecewiseLinearError(self.name)
        return found


Rule = Callable[[Call], Linear]


def registrar(rules: dict[str, Rule]) -> Callable[[str], Callable[[Rule], Rule]]:
    """Return a decorator that enters a rule in ``rules`` under names with spaces between."""

    def named(names: str) -> Callable[[Rule], Rule]:
        def register(rule: Rule) -> Rule:
            rules.update(dict.fromkeys(names.split(), rule))
            return rule

        return register

    return named


def result_of(a: Any, b: Any) -> tuple[torch.Size, torch.dtype]:
    """Return the shape and type of a result of two operands, tensors or numbers."""
    shapes = [value.shape for value in (a, b) if isinstance(value, Tensor)]
    return torch.broadcast_shapes(*shapes), torch.result_type(a, b)
