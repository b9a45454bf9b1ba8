"""Perturbation functions in Captum's convention, and how they are told from laws."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor

from hessx.generators import seeded_generators
from hessx.perturb.perturbation import BoundPerturbation, Perturbation, check_baseline
from hessx.run import all_finite, check_int

# Perturbations that a function draws at once where a seed is given.
_BLOCK = 256


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

    def seeded(
        self, row: Tensor, n: int, seed: int
    ) -> Iterator[tuple[slice, list[tuple[Tensor, Tensor]]]]:
        """Yield perturbations by number, and what calling gives, of one input ``row (1,)``.

        In blocks that are the same in every call, each with the generators seeded anew.
        """
        for first in range(0, n, _BLOCK):
            count = min(_BLOCK, n - first)
            with seeded_generators(seed, row.device, first):
                found = self(row, count)
            yield slice(first, first + count), found

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


def law_of(
    perturb_func: Any,
    inputs: tuple[Tensor, ...],
    baselines: Any,
    n: int | None,
    seed: int | None,
    name: str = "n_perturb_samples",
) -> BoundPerturbation | None:
    """Return the law to draw by number or to list, or None where a function is called.

    Args:
        perturb_func: A law or a function.
        inputs: ``(B, *shape)`` each.
        baselines: As the caller gave them.
        n: How many perturbations, or None for all that are listed.
        seed: Key of the draws; None calls a law as a function, unless it lists.
        name: Of ``n``, for errors.

    Raises:
        TypeError: If ``perturb_func`` is not callable or n is no integer.
        ValueError: If n is below 1, or None where nothing is listed, or a law has several inputs.
    """
    if not callable(perturb_func):
        raise TypeError(f"perturb_func must be callable, got {type(perturb_func).__name__}")
    if isinstance(perturb_func, type):
        raise TypeError(
            f"perturb_func must be a law or a function, got the class {perturb_func.__name__}"
        )
    if n is not None:
        check_int(name, n, 1)
    if not isinstance(perturb_func, Perturbation):
        if n is None:
            raise ValueError(f"{name} must be given where perturb_func is a function")
        return None
    if seed is None and n is not None:
        return None
    if len(inputs) > 1:
        raise ValueError(
            f"perturb_func must be a function for inputs of {len(inputs)} tensors: a law of "
            "hessx.perturb is for one"
        )
    if isinstance(baselines, tuple) and len(baselines) == 1:
        (baselines,) = baselines
    law = perturb_func.bind(inputs[0], baselines, seed or 0)
    if n is None and law.size is None:
        raise ValueError(
            f"{name} must be given: {type(perturb_func).__name__} does not list its perturbations "
            "for such inputs"
        )
    return law


def as_tuple(value: Any) -> tuple[Any, ...]:
    """Return a tuple as it is and anything else as a tuple of one."""
    return value if isinstance(value, tuple) else (value,)


def _checked_baselines(baselines: Any, inputs: tuple[Tensor, ...]) -> tuple[Any, ...]:
    given = as_tuple(baselines)
    if len(given) != len(inputs):
        raise ValueError(
            f"baselines must be one for each of {len(inputs)} inputs, got {len(given)}"
        )
    for baseline, x in zip(given, inputs, strict=True):
        check_baseline(baseline, x)
    return given


def _checked(name: str, value: Any, shape: tuple[int, ...]) -> Tensor:
    if not isinstance(value, Tensor) or value.is_complex():
        kind = value.dtype if isinstance(value, Tensor) else type(value).__name__
        raise TypeError(f"perturb_func must return real tensors, got {kind} as {name}")
    if value.shape[1:] != shape[1:] or len(value) not in (1, shape[0]):
        raise ValueError(
            f"perturb_func must return {name} of shape {shape}, got {tuple(value.shape)}"
        )
    if not all_finite(value):
        raise ValueError(f"perturb_func must return finite {name}")
    return value.expand(shape)
