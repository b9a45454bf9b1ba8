"""Which output of a model an explanation is about."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


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
    if isinstance(target, Tensor):
        if target.is_floating_point() or target.dtype == torch.bool:
            raise TypeError(f"target must hold integers, got {target.dtype}")
        target = target.tolist()
    entries = target if isinstance(target, list) else [target] * n_rows
    if len(entries) == 1:
        entries = entries * n_rows
    if len(entries) != n_rows:
        raise ValueError(
            f"target must have one entry for each of {n_rows} rows, got {len(entries)}"
        )
    rows = [entry if isinstance(entry, tuple) else (entry,) for entry in entries]
    for row in rows:
        if any(not isinstance(i, int) or isinstance(i, bool) for i in row):
            raise TypeError(f"target must be an int or a tuple of ints, got {row!r}")
        if len(row) != len(outputs) or any(
            not 0 <= i < c for i, c in zip(row, outputs, strict=True)
        ):
            raise ValueError(
                f"target {row if len(row) > 1 else row[0]} does not name an output of shape "
                f"{tuple(outputs)}"
            )
    return torch.tensor(rows, dtype=torch.long, device="cpu")
