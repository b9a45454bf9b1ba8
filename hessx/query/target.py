"""Which output of a model an explanation is about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from operator import index
from typing import Any

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Contrast:
    """The difference of two outputs, ``f_first - f_second``.

    Args:
        first: A target in Captum's convention, see :class:`~hessx.query.ValueQuery`.
        second: The one that is taken away.

    Source:
        Statistically Consistent Saliency Estimation, Eq. (1).
    """

    first: Any
    second: Any

    def __post_init__(self) -> None:
        for name in ("first", "second"):
            value = getattr(self, name)
            if value is None or isinstance(value, (Contrast, Targets)):
                raise TypeError(f"{name} must be a target in Captum's convention, got {value!r}")


@dataclass(frozen=True)
class Targets:
    """Several targets, all explained from the same calls of the model.

    A class of its own, because a list of targets says which one belongs to each input.

    Args:
        entries: One or more targets in Captum's convention, or contrasts; an array or a tensor
            is taken as its list.
    """

    entries: Sequence[Any] | np.ndarray | Tensor

    def __post_init__(self) -> None:
        entries = _plain(self.entries)
        if isinstance(entries, str) or not isinstance(entries, Sequence):
            raise TypeError(f"entries must be a list of targets, got {entries!r}")
        if not entries:
            raise ValueError("entries must hold at least one target")
        if any(isinstance(entry, Targets) for entry in entries):
            raise TypeError("entries must be targets or contrasts, not Targets")
        object.__setattr__(self, "entries", tuple(entries))

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.entries)


class Selection:
    """The outputs that a target names, taken from what the model returns.

    Args:
        target: A target in Captum's convention, a :class:`Contrast`, or :class:`Targets`.
        n_rows: The number of examples.
        outputs: The shape of one example's output.

    Raises:
        TypeError: If ``target`` is not of integers.
        ValueError: If it is missing, out of range, or of the wrong length.
    """

    def __init__(self, target: Any, n_rows: int, outputs: torch.Size):
        entries = target.entries if isinstance(target, Targets) else (target,)
        self._pairs = [
            (
                target_index(entry.first, n_rows, outputs),
                target_index(entry.second, n_rows, outputs),
            )
            if isinstance(entry, Contrast)
            else (target_index(entry, n_rows, outputs), None)
            for entry in entries
        ]

    def __call__(self, out: Tensor, rows: Tensor) -> Tensor:
        """Return ``(N, T)`` of the outputs ``(N, ...)`` of examples that belong to these rows."""
        columns = []
        for first, second in self._pairs:
            value = _taken(out, first, rows)
            columns.append(value if second is None else value - _taken(out, second, rows))
        return torch.stack(columns, 1)


def _taken(out: Tensor, index: Tensor, rows: Tensor) -> Tensor:
    index = index.to(out.device)[rows.to(out.device)]
    where = (torch.arange(len(out), device=out.device), *index.unbind(1))
    return out[where]


def target_index(target: Any, n_rows: int, outputs: torch.Size) -> Tensor:
    """Return ``(n_rows, len(outputs))`` long: which output each example's target names.

    Args:
        target: In Captum's convention, see :class:`~hessx.query.ValueQuery`.
        n_rows: The number of examples.
        outputs: The shape of one example's output.

    Raises:
        TypeError: If ``target`` is not of integers.
        ValueError: If it is missing, out of range, or of the wrong length.
    """
    if target is None:
        if outputs.numel() != 1:
            raise ValueError(
                f"target must be given: forward_func has outputs of shape {tuple(outputs)}"
            )
        return torch.zeros(n_rows, len(outputs), dtype=torch.long, device="cpu")
    if not len(outputs):
        raise ValueError(f"target must be None for a single output (N,), got {target!r}")
    if isinstance(target, Tensor) and (target.is_floating_point() or target.dtype == torch.bool):
        raise TypeError(f"target must hold integers, got {target.dtype}")
    target = _plain(target)
    entries = target if isinstance(target, list) else [target] * n_rows
    if len(entries) == 1:
        entries = entries * n_rows
    if len(entries) != n_rows:
        raise ValueError(
            f"target must have one entry for each of {n_rows} rows, got {len(entries)}"
        )
    rows = [_integers(entry if isinstance(entry, tuple) else (entry,)) for entry in entries]
    for row in rows:
        if len(row) != len(outputs) or any(
            not 0 <= i < c for i, c in zip(row, outputs, strict=True)
        ):
            raise ValueError(
                f"target {row if len(row) > 1 else row[0]} does not name an output of shape "
                f"{tuple(outputs)}"
            )
    return torch.tensor(rows, dtype=torch.long, device="cpu")


def _plain(value: Any) -> Any:
    """Return an array's, a tensor's or a NumPy number's Python value, anything else as it is."""
    return value.tolist() if isinstance(value, (np.ndarray, np.generic, Tensor)) else value


def _integers(row: tuple[Any, ...]) -> tuple[int, ...]:
    values = [_plain(value) for value in row]
    try:
        if not any(isinstance(value, bool) for value in values):
            return tuple(index(value) for value in values)
    except TypeError:
        pass
    raise TypeError(f"target must be an int or a tuple of ints, got {row!r}")
