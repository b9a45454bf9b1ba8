"""Perturbation functions in Captum's convention: how they are called and what they return."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import Tensor


class PerturbCall:
    """A perturbation function, its inputs and baselines.

    Args:
        function: Of inputs, or of inputs and baselines where baselines are given; it returns
            perturbations and perturbed inputs, tuples where the inputs are several.
        inputs: ``(B, *shape)`` each.
        baselines: Numbers or tensors ``(B or 1, *shape)``, one or a tuple of one for each input.

    Raises:
        TypeError: If a baseline is neither a number nor a tensor.
        ValueError: If there are not as many baselines as inputs, or one does not fit.
    """

    def __init__(self, function: Callable[..., Any], inputs: tuple[Tensor, ...], baselines: Any):
        self.inputs = inputs
        self._function = function
        self._baselines = None if baselines is None else _checked_baselines(baselines, inputs)

    def __call__(self, rows: Tensor, count: int) -> list[tuple[Tensor, Tensor]]:
        """Return perturbations and perturbed inputs of each input, ``(len(rows) count, *shape)``.

        Raises:
            TypeError: If the function does not return a pair, or what it returns is not of tensors.
            ValueError: If shapes do not fit or a number is not finite.
        """
        arguments = [self._repeated(self.inputs, rows, count)]
        if self._baselines is not None:
            arguments.append(self._repeated(self._baselines, rows, count))
        found = self._function(*arguments)
        if not isinstance(found, (tuple, list)) or len(found) != 2:
            raise TypeError(
                "perturb_func must return perturbations and perturbed inputs, got "
                f"{type(found).__name__}; hessx.infidelity_perturb_func_decorator makes the "
                "perturbations from perturbed inputs alone"
            )
        perturbations, perturbed = (as_tuple(part) for part in found)
        if not len(perturbations) == len(perturbed) == len(self.inputs):
            raise ValueError(
                f"perturb_func must return perturbations and perturbed inputs for each of "
                f"{len(self.inputs)} inputs, got {len(perturbations)} and {len(perturbed)}"
            )
        return [
            (
                _checked("perturbations", p, (len(rows) * count, *x.shape[1:])),
                _checked("perturbed inputs", y, (len(rows) * count, *x.shape[1:])),
            )
            for p, y, x in zip(perturbations, perturbed, self.inputs, strict=True)
        ]

    def _repeated(self, values: tuple[Any, ...], rows: Tensor, count: int) -> Any:
        """Return the rows of some values, each ``count`` times in a row; alone if there is one."""
        repeated = tuple(
            v[rows].repeat_interleave(count, dim=0)
            if isinstance(v, Tensor) and len(v) == len(self.inputs[0]) and len(v) > 1
            else v.repeat_interleave(count, dim=0)
            if isinstance(v, Tensor) and values is self.inputs
            else v
            for v in values
        )
        return repeated if len(repeated) > 1 else repeated[0]


def infidelity_perturb_func_decorator(
    multiply_by_inputs: bool = True,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Make perturbations for :func:`hessx.infidelity` from a function of perturbed inputs alone.

    The function decorated takes inputs (and baselines, if given) and returns perturbed inputs y.
    The perturbations become ``x - y``, or, with ``multiply_by_inputs``, for explanations that have
    the input multiplied in, ``(x - y) / (x - baseline)``; where that divides by 0, ``x - y``. The
    same as Captum's decorator of this name.

    Args:
        multiply_by_inputs: Divide by ``x - baseline`` (baseline 0 unless given).

    Returns:
        The decorator.

    Example:
        >>> import torch, hessx
        >>> @hessx.infidelity_perturb_func_decorator(multiply_by_inputs=False)
        ... def darker(x):
        ...     return 0.5 * x
        >>> darker(torch.tensor([[2.0, 4.0]]))
        ((tensor([[1., 2.]]),), (tensor([[1., 2.]]),))
    """

    def decorated(function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def perturb(inputs: Any, baselines: Any = None) -> tuple[Any, Any]:
            found = function(inputs) if baselines is None else function(inputs, baselines)
            tensors, perturbed = as_tuple(inputs), as_tuple(found)
            base = (0,) * len(tensors) if baselines is None else as_tuple(baselines)
            changes = tuple(x - y for x, y in zip(tensors, perturbed, strict=True))
            if multiply_by_inputs:
                spans = (x - b for x, b in zip(tensors, base, strict=True))
                changes = tuple(
                    change / torch.where(span == 0, 1, span)
                    for change, span in zip(changes, spans, strict=True)
                )
            return changes, perturbed

        return perturb

    return decorated


def as_tuple(value: Any) -> tuple[Any, ...]:
    """Return a tuple as it is and anything else as a tuple of one."""
    return value if isinstance(value, tuple) else (value,)


def single(value: Any) -> Any:
    """Return the only entry of a tuple of one, anything else as it is."""
    return value[0] if isinstance(value, tuple) and len(value) == 1 else value


def _checked_baselines(baselines: Any, inputs: tuple[Tensor, ...]) -> tuple[Any, ...]:
    given = as_tuple(baselines)
    if len(given) != len(inputs):
        raise ValueError(
            f"baselines must be one for each of {len(inputs)} inputs, got {len(given)}"
        )
    for b, x in zip(given, inputs, strict=True):
        if isinstance(b, Tensor):
            shapes = tuple(x.shape), (1, *x.shape[1:])
            if tuple(b.shape) not in shapes:
                raise ValueError(
                    f"baselines must be of shape {shapes[0]} or {shapes[1]}, got {tuple(b.shape)}"
                )
        elif isinstance(b, bool) or not isinstance(b, (int, float)):
            raise TypeError(f"baselines must be numbers or tensors, got {type(b).__name__}")
    return given


def _checked(name: str, value: Any, shape: tuple[int, ...]) -> Tensor:
    if not isinstance(value, Tensor):
        raise TypeError(f"perturb_func must return tensors, got {type(value).__name__} as {name}")
    if value.shape[1:] != shape[1:] or len(value) not in (1, shape[0]):
        raise ValueError(
            f"perturb_func must return {name} of shape {shape}, got {tuple(value.shape)}"
        )
    # The sum takes one pass and no memory; finite numbers can overflow it.
    if not value.sum().isfinite() and not value.isfinite().all():
        raise ValueError(f"perturb_func must return finite {name}")
    return value.expand(shape)
