"""The weights of CASO's and CAFO's program, checked, and how lambda1 is chosen for each input."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hessx.run import check_choice, check_int
from hessx.solve.sparse import Trial
from hessx.solve.sparsity import (
    Support,
    paper_search,
    pixel_magnitudes,
    smallest_admissible,
    smallest_for_point,
)

LAMBDA1_RULES = ("auto", "cafo", "search")


@dataclass(frozen=True)
class Settings:
    """The weights of the program for a batch.

    Attributes:
        lambda1: ``(B, M)`` float64, or one of LAMBDA1_RULES.
        lambda2: ``(B, 1)`` float64, or None for ``L / 2 + c1``.
        c1: > 0.
        sparsity: ``(low, high)``, the range that the rules aim at.
        support: The same as numbers of pixels, or that of ``k``.
        n_channels: Channels of a pixel.
    """

    lambda1: Tensor | str
    lambda2: Tensor | None
    c1: float
    sparsity: tuple[float, float]
    support: Support
    n_channels: int

    @property
    def n_programs(self) -> int:
        """M, how many lambda1 each input has."""
        return self.lambda1.shape[1] if isinstance(self.lambda1, Tensor) else 1

    def select(self, trial: Trial, rows: Tensor) -> Tensor:
        """Return lambda1 ``(b, M)`` for a solver that holds these rows of the batch."""
        if isinstance(self.lambda1, Tensor):
            return self.lambda1[rows]
        if self.lambda1 == "search":
            return paper_search(
                lambda lambda1: self._ratios(trial, lambda1), self.sparsity, len(rows), rows.device
            )
        magnitudes = pixel_magnitudes(trial.gradient, self.n_channels).double()
        first_order = smallest_for_point(magnitudes, self.support)
        if self.lambda1 == "cafo":
            return first_order[:, None]
        largest = magnitudes.amax(-1)
        return smallest_admissible(trial.pixels, first_order, largest, self.support)[:, None]

    def weight2(self, bound: Tensor, rows: Tensor) -> Tensor:
        """Return lambda2 ``(b, 1)`` for an upper bound ``(b,)`` of the largest eigenvalue.

        Raises:
            ValueError: If the lambda2 given leaves the objective without a maximum.
        """
        if self.lambda2 is None:
            return bound[:, None] / 2 + self.c1
        given = self.lambda2[rows]
        bad = 2 * given[:, 0] <= bound
        if bad.any():
            row = int(bad.nonzero()[0])
            raise ValueError(
                f"lambda2 must be > L / 2 = {bound[row].item() / 2:.6g} for input row "
                f"{int(rows[row])}, where the objective becomes strongly concave (Theorem 3), "
                f"got {given[row].item():.6g}"
            )
        return given

    def _ratios(self, trial: Trial, lambda1: Tensor) -> tuple[Tensor, Tensor]:
        pixels, objective = trial.evaluate(lambda1)
        n_pixels = trial.gradient.shape[1] // self.n_channels
        return 1 - pixels.double() / n_pixels, objective


def checked(
    inputs: Tensor,
    lambda1: Any,
    lambda2: Any,
    c1: float,
    k: int | None,
    sparsity: tuple[float, float],
) -> Settings:
    """Check the weights against the inputs.

    Raises:
        TypeError: If one is of a wrong type.
        ValueError: If one is out of range or does not fit the batch.
    """
    n_channels = inputs.shape[1] if inputs.dim() >= 4 else 1
    n_pixels = inputs[0].numel() // n_channels
    low, high = _check_sparsity(sparsity)
    support = Support.of_sparsity(low, high, n_pixels)
    if k is not None:
        check_int("k", k, 1, n_pixels)
        if not isinstance(lambda1, str) or lambda1 == "search":
            raise ValueError(f'k takes lambda1="auto" or "cafo", got lambda1={lambda1!r}')
        # A bound, where a range is a wish: ties give none rather than too many.
        support = Support(0, k)
    if isinstance(lambda1, str):
        check_choice("lambda1", lambda1, LAMBDA1_RULES)
    else:
        lambda1 = _numbers("lambda1", lambda1, inputs)[:, None]
        _check_at_least_zero("lambda1", lambda1)
    if lambda2 is not None:
        lambda2 = _numbers("lambda2", lambda2, inputs)[:, None]
        bad = ~((lambda2 > 0) & lambda2.isfinite())
        if bad.any():
            raise ValueError(f"lambda2 must be > 0 and finite, got {lambda2[bad][0].item()}")
    if isinstance(c1, bool) or not isinstance(c1, (int, float)):
        raise TypeError(f"c1 must be a number, got {c1!r}")
    if not (c1 > 0 and math.isfinite(c1)):
        raise ValueError(f"c1 must be > 0 and finite, got {c1}")
    return Settings(lambda1, lambda2, float(c1), (low, high), support, n_channels)


def checked_path(inputs: Tensor, lambda1s: Any) -> Tensor:
    """Return lambda1s ``(B, M)`` in float64.

    Raises:
        ValueError: If they are not M numbers >= 0, or M of them for each input.
    """
    values = torch.as_tensor(lambda1s, dtype=torch.float64, device=inputs.device)
    if values.dim() not in (1, 2) or values.shape[-1] == 0:
        raise ValueError(
            f"lambda1s must be of shape (M,) or (B, M), M >= 1, got {tuple(values.shape)}"
        )
    if values.dim() == 2 and len(values) != len(inputs):
        raise ValueError(
            f"lambda1s must have a row for each of {len(inputs)} inputs, got {len(values)}"
        )
    _check_at_least_zero("lambda1s", values)
    return values.expand(len(inputs), -1).contiguous()


def _check_sparsity(sparsity: Any) -> tuple[float, float]:
    try:
        low, high = map(float, sparsity)
    except (TypeError, ValueError) as error:
        raise TypeError(f"sparsity must be a pair of numbers, got {sparsity!r}") from error
    if not 0 <= low < high <= 1:
        raise ValueError(f"sparsity must be (low, high), 0 <= low < high <= 1, got {sparsity}")
    return low, high


def _numbers(name: str, value: Any, inputs: Tensor) -> Tensor:
    """Return one number for each input."""
    if isinstance(value, (str, bool)):
        raise TypeError(f"{name} must be a number or a tensor ({len(inputs)},), got {value!r}")
    values = torch.as_tensor(value, dtype=torch.float64, device=inputs.device)
    if values.shape not in ((), (1,), (len(inputs),)):
        raise ValueError(
            f"{name} must be a number or of shape ({len(inputs)},), got {tuple(values.shape)}"
        )
    return values.expand(len(inputs)).clone()


def _check_at_least_zero(name: str, values: Tensor) -> None:
    bad = ~((values >= 0) & values.isfinite())
    if bad.any():
        raise ValueError(f"{name} must be >= 0 and finite, got {values[bad][0].item()}")
