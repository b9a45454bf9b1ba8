"""The bound L of LEG-TV's constraint, as its caller gives it: absolute, relative or from theory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hessx.run import check_choice
from hessx.solve.tv import theory_bound

DEFAULT_K_L = 0.1


class Bounds:
    """K_L and L, checked.

    Args:
        K_L: ``L = K_L L_max``: in (0, 1], or several.
        L: >= 0, several, a tensor of one for each grid, ``"theory"``, or None for K_L.

    Attributes:
        is_path: Whether there are several values for each grid.

    Raises:
        TypeError: If one is of a wrong type.
        ValueError: If one is out of range, or both are given.
    """

    def __init__(self, K_L: Any, L: Any):
        if K_L is not None and L is not None:
            raise ValueError(f"K_L and L exclude each other, got K_L={K_L!r} and L={L!r}")
        self._is_theory = isinstance(L, str)
        self._is_relative = L is None
        given = L if L is not None else DEFAULT_K_L if K_L is None else K_L
        if isinstance(given, np.ndarray):
            given = given.tolist()
        self.is_path = isinstance(given, Sequence) and not self._is_theory
        self._values = torch.empty(0, dtype=torch.float64)
        self._is_each = isinstance(given, Tensor) and given.dim() > 0
        if self._is_theory:
            check_choice("L", L, ("theory",))
        else:
            self._values = self._checked(given)

    def check(self, grids: Sequence[int]) -> None:
        """Raise ValueError unless a tensor of bounds has the shape of ``L_max``."""
        if self._is_each and self._values.shape != torch.Size(grids):
            raise ValueError(
                f"L must be a number, a list or a tensor of L_max's shape {tuple(grids)}, "
                f"got shape {tuple(self._values.shape)}"
            )

    def of(self, largest: Tensor, grid: tuple[int, int], n_samples: int) -> Tensor:
        """Return L for each grid, ``(*grids, M)``.

        Args:
            largest: ``(*grids)``, float64, ``L_max`` as the caller sees it.
            grid: ``(p1, p2)``.
            n_samples: What the estimate was made from.
        """
        largest = largest[..., None]
        if self._is_theory:
            return torch.full_like(largest, theory_bound(*grid, n_samples))
        values = self._values.to(largest.device)
        if self._is_each:
            return values[..., None]
        return values * (largest if self._is_relative else torch.ones_like(largest))

    def _checked(self, given: Any) -> Tensor:
        name = "K_L" if self._is_relative else "L"
        try:
            values = torch.as_tensor(given, dtype=torch.float64)
        except (TypeError, ValueError, RuntimeError) as error:
            raise TypeError(f"{name} must be a number or a list, got {given!r}") from error
        if self._is_relative and self._is_each:
            raise TypeError(f"K_L must be a number or a list, got a tensor {tuple(values.shape)}")
        if values.numel() == 0 or (self.is_path and values.dim() != 1):
            raise ValueError(f"{name} must be a number or a list of numbers, got {given!r}")
        fine = values.isfinite() & (values >= 0)
        if self._is_relative:
            fine &= (values > 0) & (values <= 1)
        if not fine.all():
            allowed = "in (0, 1]" if self._is_relative else ">= 0 and finite"
            raise ValueError(f"{name} must be {allowed}, got {values[~fine][0].item()}")
        return values if self._is_each else values.reshape(-1)
