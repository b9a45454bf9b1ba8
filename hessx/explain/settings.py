"""The weights of CASO's and CAFO's program, checked, and how lambda1 is chosen for each input."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hessx.run import check_choice, check_int, check_positive
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
            largest = trial.gradient.abs().amax(-1, keepdim=True).double()
            return paper_search(
                lambda lambda1: self._ratios(trial, lambda1), self.sparsity, largest
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
                f"lambda2 must be > L / 2 for a strongly concave objective (Theorem 3), at least "
                f"{bound[row].item() / 2:.9g} by the bound of L for input row {int(rows[row])}, "
                f"got {given[row].item():.9g}"
            )
        return given

    def _ratios(self, trial: Trial, lambda1: Tensor) -> tuple[Tensor, Tensor]:
        pixels, objective = trial.evaluate(lambda1)
        n_pixels = trial.gradient.shape[1] // self.n_channels
        return 1 - pixels.double() / n_pixels, objective


def checked(
    inputs: Tensor,
    lambda1: Tensor | str,
    lambda2: Any,
    c1: float,
    k: int | None = None,
    sparsity: tuple[float, float] = (0.0, 1.0),
) -> Settings:
    """Check the weights against the inputs; ``lambda1`` is checked already.

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
        # A bound, where a range is a wish: ties give none rather than too many.
        support = Support(0, k)
    if lambda2 is not None:
        lambda2 = _numbers("lambda2", lambda2, inputs)[:, None]
        bad = ~((lambda2 > 0) & lambda2.isfinite())
        if bad.any():
            raise ValueError(f"lambda2 must be > 0 and finite, got {lambda2[bad][0].item()}")
    check_positive("c1", c1)
    return Settings(lambda1, lambda2, float(c1), (low, high), support, n_channels)


def checked_rule(inputs: Tensor, lambda1: Any, k: int | None) -> Tensor | str:
    """Return lambda1 ``(B, 1)`` in float64, or the name of a rule.

    Raises:
        TypeError: If it is neither a number nor a name.
        ValueError: If it is out of range, or does not go with ``k``.
    """
    if k is not None and lambda1 not in ("auto", "cafo"):
        raise ValueError(f'k takes lambda1="auto" or "cafo", got lambda1={lambda1!r}')
    if isinstance(lambda1, str):
        check_choice("lambda1", lambda1, LAMBDA1_RULES)
        return lambda1
    values = _numbers("lambda1", lambda1, inputs)[:, None]
    _check_at_least_zero("lambda1", values)
    return values


def checked_path(inputs: Tensor, lambda1s: Any) -> Tensor:
    """Return lambda1s ``(B, M)`` in float64.

    Raises:
        ValueError: If they are not M numbers >= 0, or M of them for each input.
    """
    values = _as_float64("lambda1s", lambda1s, inputs)
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
        low, high = (float(bound) for bound in sparsity if not isinstance(bound, str))
    except (TypeError, ValueError) as error:
        raise TypeError(f"sparsity must be a pair of numbers, got {sparsity!r}") from error
    if not 0 <= low < high <= 1:
        raise ValueError(f"sparsity must be (low, high), 0 <= low < high <= 1, got {sparsity}")
    return low, high


def _numbers(name: str, value: Any, inputs: Tensor) -> Tensor:
    """Return one number for each input."""
    values = _as_float64(name, value, inputs)
    if values.shape not in ((), (1,), (len(inputs),)):
        raise ValueError(
            f"{name} must be a number or of shape ({len(inputs)},), got {tuple(values.shape)}"
        )
    return values.expand(len(inputs)).clone()


def _as_float64(name: str, value: Any, inputs: Tensor) -> Tensor:
    try:
        values = torch.as_tensor(value, device=inputs.device)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"{name} must be of numbers, got {value!r}") from error
    if values.dtype == torch.bool or values.is_complex():
        raise TypeError(f"{name} must be of numbers, got {value!r}")
    return values.double()


def _check_at_least_zero(name: str, values: Tensor) -> None:
    bad = ~((values >= 0) & values.isfinite())
    if bad.any():
        raise ValueError(f"{name} must be >= 0 and finite, got {values[bad][0].item()}")
