"""Problems for perturbations times explanations, and how far a result may be from the exact one."""

from __future__ import annotations

import torch
from torch import Tensor

from hessx.ops.infidelity import reference
from tests.references.prox import numbers

# Half the distance from 1 to the next number, and how many roundings of its terms' magnitudes a sum
# may be off: up to a tile's worth of them add up, but those of random terms cancel.
ROUNDING = 2.0**-53
STEPS = 32


def problem(
    batch: int,
    n: int,
    d: int,
    explanations: int,
    dtype: torch.dtype = torch.float32,
    *,
    shared: bool = False,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Perturbations, one set for all inputs if `shared`, attributions, differences and weights."""
    perturbations = numbers(1 if shared else batch, n, d, dtype=dtype)
    attributions = numbers(batch, explanations, d, dtype=dtype, seed=1)
    differences = numbers(batch, n, explanations, dtype=torch.float64, seed=2)
    return perturbations, attributions, differences, numbers(n, dtype=torch.float64, seed=3).abs()


def assert_dots_close(actual: Tensor, perturbations: Tensor, attributions: Tensor) -> None:
    """Compare dot products with the reference."""
    expected = reference.perturbation_dots(perturbations, attributions)
    assert actual.dtype == torch.float64
    assert actual.shape == expected.shape
    assert ((actual - expected).abs() <= _dots_bound(perturbations, attributions)).all()


def assert_gradient_close(
    actual: tuple[Tensor, Tensor],
    perturbations: Tensor,
    attributions: Tensor,
    differences: Tensor,
    weights: Tensor | None = None,
) -> None:
    """Compare gradient and loss with the reference."""
    arguments = perturbations, attributions, differences, weights
    expected = reference.perturbation_gradient(*arguments)
    for result, exact, bound in zip(actual, expected, _gradient_bounds(*arguments), strict=True):
        assert result.dtype == torch.float64
        assert result.shape == exact.shape
        assert ((result - exact).abs() <= bound).all()


def _dots_bound(perturbations: Tensor, attributions: Tensor) -> Tensor:
    return STEPS * ROUNDING * (perturbations.double().abs() @ attributions.double().abs().mT)


def _gradient_bounds(
    perturbations: Tensor, attributions: Tensor, differences: Tensor, weights: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Residuals carry the error of the dot products on; the sums add their own."""
    dots = reference.perturbation_dots(perturbations, attributions)
    residuals = (dots - differences).abs()
    error = _dots_bound(perturbations, attributions) + 2 * ROUNDING * residuals
    weight = torch.ones(dots.shape[1]).double() if weights is None else weights.abs()
    terms = weight[:, None] * (error + STEPS * ROUNDING * residuals)
    squares = weight[:, None] * (error * (2 * residuals + error) + STEPS * ROUNDING * residuals**2)
    return terms.mT @ perturbations.double().abs(), squares.sum(1)
