"""Which of a function's keyword arguments belong to which input."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from hessx.query.target import Contrast, Targets


class RowArguments:
    """Keyword arguments in Captum's convention, taken for any rows of the inputs.

    Four are known to belong to the inputs and are taken row by row; all others are handed over as
    they are. None is copied.

    * ``target``: a list, tensor or array with an entry for each input (also within `Contrast` and
      `Targets`);
    * ``additional_forward_args``: tensors and arrays whose first dimension is the batch size;
    * ``baselines`` and ``feature_mask``: tensors with one example for each input.

    Args:
        given: The arguments.
        inputs: ``(B, *shape)`` each.

    Attributes:
        given: As given.

    Raises:
        ValueError: If ``target`` has not one entry for each input.
    """

    def __init__(self, given: dict[str, Any], inputs: tuple[Tensor, ...]):
        self.given = given
        self._inputs = inputs
        self._n_rows = len(inputs[0])
        _check_target(given.get("target"), self._n_rows)

    def __call__(self, rows: Tensor) -> dict[str, Any]:
        """Return the arguments of some rows, which may repeat."""
        taken = dict(self.given)
        if "target" in taken:
            taken["target"] = _target_of(taken["target"], rows, self._n_rows)
        if isinstance(args := taken.get("additional_forward_args"), tuple):
            taken["additional_forward_args"] = tuple(
                _entries(arg, rows, self._n_rows) for arg in args
            )
        elif args is not None:
            taken["additional_forward_args"] = _entries(args, rows, self._n_rows)
        for name in ("baselines", "feature_mask"):
            values = taken.get(name)
            if isinstance(values, tuple) and len(values) == len(self._inputs):
                pairs = zip(values, self._inputs, strict=True)
                taken[name] = tuple(self._examples(value, x, rows) for value, x in pairs)
            elif isinstance(values, Tensor):
                taken[name] = self._examples(values, self._inputs[0], rows)
        return taken

    def _examples(self, value: Any, x: Tensor, rows: Tensor) -> Any:
        # A batch of one broadcasts; it may also be a distribution to draw from.
        if not isinstance(value, Tensor) or value.dim() != x.dim() or self._n_rows == 1:
            return value
        return _entries(value, rows, self._n_rows)


def _check_target(target: Any, n_rows: int) -> None:
    if isinstance(target, Targets):
        for entry in target.entries:
            _check_target(entry, n_rows)
    elif isinstance(target, Contrast):
        _check_target(target.first, n_rows)
        _check_target(target.second, n_rows)
    elif isinstance(target, (list, np.ndarray, Tensor)):
        length = 1 if not isinstance(target, list) and target.ndim == 0 else len(target)
        if length not in (1, n_rows):
            raise ValueError(
                f"target must have one entry for each of {n_rows} inputs, got {length}"
            )


def _target_of(target: Any, rows: Tensor, n_rows: int) -> Any:
    if isinstance(target, Targets):
        return Targets([_target_of(entry, rows, n_rows) for entry in target.entries])
    if isinstance(target, Contrast):
        first, second = (_target_of(t, rows, n_rows) for t in (target.first, target.second))
        return Contrast(first, second)
    if isinstance(target, list) and len(target) == n_rows:
        return [target[row] for row in rows.tolist()]
    return _entries(target, rows, n_rows)


def _entries(value: Any, rows: Tensor, n_rows: int) -> Any:
    """Return the rows' own entries of a tensor or array that has one for each input."""
    if not isinstance(value, (Tensor, np.ndarray)) or value.shape[:1] != (n_rows,):
        return value
    if isinstance(value, Tensor):
        return value[rows.to(value.device)]
    return value[rows.numpy(force=True)]
