"""Perturbations from functions that return perturbed inputs alone."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import Tensor

from hessx.perturb.function import as_tuple


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

    Raises:
        TypeError: If ``multiply_by_inputs`` is no bool; when called, if the function does not
            return one tensor for each input.

    Example:
        >>> import torch, hessx
        >>> @hessx.infidelity_perturb_func_decorator(multiply_by_inputs=False)
        ... def darker(x):
        ...     return 0.5 * x
        >>> darker(torch.tensor([[2.0, 4.0]]))
        ((tensor([[1., 2.]]),), (tensor([[1., 2.]]),))
    """
    if not isinstance(multiply_by_inputs, bool):
        raise TypeError(f"multiply_by_inputs must be True or False, got {multiply_by_inputs!r}")

    def decorated(function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def perturb(inputs: Any, baselines: Any = None) -> tuple[Any, Any]:
            found = function(inputs) if baselines is None else function(inputs, baselines)
            tensors, perturbed = as_tuple(inputs), as_tuple(found)
            if len(perturbed) != len(tensors) or not all(isinstance(y, Tensor) for y in perturbed):
                kinds = ", ".join(type(y).__name__ for y in perturbed)
                raise TypeError(
                    f"perturb_func must return a perturbed tensor for each of {len(tensors)} "
                    f"inputs, got {kinds}"
                )
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
