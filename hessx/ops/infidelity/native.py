"""Perturbations times explanations through the compiled kernels, CPU tensors."""

from __future__ import annotations

from collections.abc import Callable

import torch

from hessx import backends
from hessx.ops.infidelity.rules import (
    attributions_together,
    check_dots,
    check_gradient,
    dots_apart,
    dots_together,
)


def perturbation_dots(perturbations: torch.Tensor, attributions: torch.Tensor) -> torch.Tensor:
    """I Phi^T; see `hessx.ops.perturbation_dots`."""
    check_dots(perturbations, attributions)
    perturbations, batch = _rows(perturbations), attributions.shape[0]
    n = perturbations.shape[1]
    attributions = attributions_together(perturbations, attributions).double().contiguous()
    dots = attributions.new_empty(attributions.shape[0], n, attributions.shape[1])
    _kernel("perturbation_dots", perturbations.dtype)(
        perturbations.data_ptr(),
        perturbations.stride()[:2],
        attributions.data_ptr(),
        attributions.shape[0],
        n,
        *attributions.shape[1:],
        dots.data_ptr(),
        torch.get_num_threads(),
        backends.cpu_level(),
    )
    return dots_apart(dots, batch)


def perturbation_gradient(
    perturbations: torch.Tensor,
    attributions: torch.Tensor,
    differences: torch.Tensor,
    weights: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Half the gradient of infidelity, and infidelity; see `hessx.ops.perturbation_gradient`."""
    check_gradient(perturbations, attributions, differences, weights)
    perturbations, shape = _rows(perturbations), attributions.shape
    attributions = attributions_together(perturbations, attributions).double().contiguous()
    differences = dots_together(perturbations, differences).contiguous()
    weights = None if weights is None else weights.contiguous()
    gradient, loss = (attributions.new_empty(size) for size in (shape, shape[:2]))
    _kernel("perturbation_gradient", perturbations.dtype)(
        perturbations.data_ptr(),
        perturbations.stride()[:2],
        attributions.data_ptr(),
        differences.data_ptr(),
        0 if weights is None else weights.data_ptr(),
        attributions.shape[0],
        perturbations.shape[1],
        *attributions.shape[1:],
        gradient.data_ptr(),
        loss.data_ptr(),
        torch.get_num_threads(),
        backends.cpu_level(),
    )
    return gradient, loss


def _rows(x: torch.Tensor) -> torch.Tensor:
    """Perturbations whose columns lie side by side, as the kernels take them."""
    x = x if x.dtype == torch.float64 else x.float()
    return x if x.stride(-1) == 1 else x.contiguous()


def _kernel(name: str, dtype: torch.dtype) -> Callable[..., None]:
    suffix = "double" if dtype == torch.float64 else "float"
    return getattr(backends.native(), f"{name}_{suffix}")
