"""Perturbations times explanations, and the least squares behind infidelity, in float64.

Products and sums are float64 whatever the arguments are: what an exact explanation of a linear
model leaves is then the rounding of the model, not that of the sum. Sums run over fixed blocks, in
order: results do not depend on the number of threads. NaN and infinity reach what they touch and
nothing else.
"""

from __future__ import annotations

import torch

from hessx.ops.infidelity.rules import check_dots, check_gradient


def perturbation_dots(perturbations: torch.Tensor, attributions: torch.Tensor) -> torch.Tensor:
    """Multiply perturbations by explanations: ``s = I Phi^T``, for each input.

    All explanations of an input share one pass over its perturbations. Differentiable in both
    arguments.

    Args:
        perturbations: I, n for each of N inputs, (N, n, d), or (1, n, d) shared by all inputs;
            float32, float64, bfloat16 or float16.
        attributions: Phi, K for each input, (N, K, d); float32, float64 or the dtype of
            perturbations.

    Returns:
        Dot products (N, n, K), float64.

    Raises:
        TypeError: If an argument is no tensor of such a dtype.
        ValueError: If the shapes or the devices do not fit.

    Source: Yeh et al. (2019), "On the (In)fidelity and Sensitivity of Explanations", Definition
    2.1: what an explanation says of each perturbation.

    Example:
        >>> import hessx, torch
        >>> perturbations = torch.tensor([[[1.0, 0.0], [1.0, 1.0]]])
        >>> hessx.ops.perturbation_dots(perturbations, torch.tensor([[[2.0, 3.0]]]))
        tensor([[[2.],
                 [5.]]], dtype=torch.float64)
    """
    _check_tensors(perturbations=perturbations, attributions=attributions)
    check_dots(perturbations, attributions)
    return torch.ops.hessx.perturbation_dots.default(perturbations, attributions)


def perturbation_gradient(
    perturbations: torch.Tensor,
    attributions: torch.Tensor,
    differences: torch.Tensor,
    weights: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Give infidelity of explanations, a weighted sum of squares, and half its gradient.

    With the residuals ``s - delta``, ``s = I Phi^T`` the dot products, ``delta`` the differences:
    ``loss = sum_i w_i (s_i - delta_i)^2`` and ``gradient = sum_i w_i (s_i - delta_i) I_i``, for
    each explanation. With differences of 0 the gradient is the product ``I^T W I Phi`` with the
    matrix of the normal equations: the step of conjugate gradients on perturbations that are too
    large for that matrix. No gradient.

    Args:
        perturbations: I, n for each of N inputs, (N, n, d), or (1, n, d) shared by all inputs;
            float32, float64, bfloat16 or float16.
        attributions: Phi, K for each input, (N, K, d); float32, float64 or the dtype of
            perturbations.
        differences: f(x) - f(x - I), one for each explanation too, (N, n, K); float64.
        weights: Weight of each perturbation, (n,), float64; 1 when not given.

    Returns:
        gradient (N, K, d) and loss (N, K), float64.

    Raises:
        TypeError: If an argument is no tensor of such a dtype.
        ValueError: If the shapes or the devices do not fit.

    Source: Yeh et al. (2019), "On the (In)fidelity and Sensitivity of Explanations", Definition
    2.1 and Proposition 2.1.

    Example:
        >>> import hessx, torch
        >>> perturbations = torch.tensor([[[1.0, 0.0], [1.0, 1.0]]])
        >>> attributions, differences = torch.ones(1, 1, 2), torch.zeros(1, 2, 1).double()
        >>> hessx.ops.perturbation_gradient(perturbations, attributions, differences)
        (tensor([[[3., 2.]]], dtype=torch.float64), tensor([[5.]], dtype=torch.float64))
    """
    tensors = {"attributions": attributions, "differences": differences}
    if weights is not None:
        tensors["weights"] = weights
    _check_tensors(perturbations=perturbations, **tensors)
    check_gradient(perturbations, attributions, differences, weights)
    gradient, loss = torch.ops.hessx.perturbation_gradient.default(
        perturbations, attributions, differences, weights
    )
    return gradient, loss


def _check_tensors(*, perturbations: torch.Tensor, **others: torch.Tensor) -> None:
    for name, x in {"perturbations": perturbations, **others}.items():
        if not isinstance(x, torch.Tensor):
            raise TypeError(f"{name} must be a tensor, got {type(x).__name__}")
        if x.device != perturbations.device:
            raise ValueError(
                f"{name} must be on the device of perturbations, {perturbations.device}, "
                f"got {x.device}"
            )
