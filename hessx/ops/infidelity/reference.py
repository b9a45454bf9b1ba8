"""Perturbations times explanations in plain torch, in float64: the ground truth."""

from __future__ import annotations

import torch

from hessx.ops.infidelity.rules import check_dots, check_gradient


def perturbation_dots(perturbations: torch.Tensor, attributions: torch.Tensor) -> torch.Tensor:
    """I Phi^T; see `hessx.ops.perturbation_dots`."""
    check_dots(perturbations, attributions)
    return perturbations.double() @ attributions.double().mT


def perturbation_gradient(
    perturbations: torch.Tensor,
    attributions: torch.Tensor,
    differences: torch.Tensor,
    weights: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Half the gradient of infidelity, and infidelity; see `hessx.ops.perturbation_gradient`."""
    check_gradient(perturbations, attributions, differences, weights)
    residuals = perturbation_dots(perturbations, attributions) - differences
    weighted = residuals if weights is None else weights[:, None] * residuals
    return weighted.mT @ perturbations.double(), (weighted * residuals).sum(1)
