"""Perturbations times explanations, and infidelity's gradient, against torch and torch.compile.

``float64`` converts and multiplies, which is what the ops promise; ``float32`` multiplies as it is,
which is what a user writes who accepts rounding: a floor for time. ``memory`` reads the
perturbations once.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bench.common import compare, machine, parser, print_row, thread_counts
from hessx.ops import perturbation_dots, perturbation_gradient

# Perturbations, numbers of an input, explanations.
SIZES = ((1000, 784, 1), (1000, 784, 6), (20000, 784, 6), (64, 150528, 1), (64, 150528, 6))


def dots(perturbations: Tensor, attributions: Tensor) -> Tensor:
    """Multiply in float64."""
    return perturbations.double() @ attributions.double().mT


def gradient(
    perturbations: Tensor, attributions: Tensor, differences: Tensor
) -> tuple[Tensor, ...]:
    """Residuals, their moment and their squares in float64."""
    doubles = perturbations.double()
    residuals = doubles @ attributions.double().mT - differences
    return residuals.mT @ doubles, residuals.square().sum(1)


def gradient_float32(
    perturbations: Tensor, attributions: Tensor, differences: Tensor
) -> tuple[Tensor, ...]:
    """Residuals, their moment and their squares in float32."""
    residuals = perturbations @ attributions.mT - differences
    return residuals.mT @ perturbations, residuals.square().sum(1)


def bench(n: int, d: int, explanations: int, seconds: float, device: torch.device) -> None:
    perturbations = torch.randn(1, n, d, device=device)
    attributions = torch.randn(1, explanations, d, device=device)
    pair = perturbations, attributions
    differences = torch.randn(1, n, explanations, dtype=torch.float64, device=device)
    singles = differences.float()
    label = f"n={n} d={d} K={explanations}"
    torch.compiler.reset()
    compiled_dots, compiled_gradient = torch.compile(dots), torch.compile(gradient)
    candidates = {
        "float64": lambda: dots(*pair),
        "compile": lambda: compiled_dots(*pair),
        "hessx": lambda: perturbation_dots(*pair),
        "float32": lambda: perturbations @ attributions.mT,
        "memory": lambda: perturbations.sum(),
    }
    print_row(f"dots {label}", compare(candidates, seconds, device), 1e-3)
    candidates = {
        "float64": lambda: gradient(*pair, differences),
        "compile": lambda: compiled_gradient(*pair, differences),
        "hessx": lambda: perturbation_gradient(*pair, differences),
        "float32": lambda: gradient_float32(*pair, singles),
        "memory": lambda: perturbations.sum(),
    }
    print_row(f"gradient {label}", compare(candidates, seconds, device), 1e-3)


def main() -> None:
    device = parser(__doc__).parse_args().device
    print(machine(device))
    print("ms; in brackets: times faster than torch in float64")
    for n_threads in thread_counts(device):
        torch.set_num_threads(n_threads)
        print(f"{n_threads} threads")
        for n, d, explanations in SIZES:
            bench(n, d, explanations, 1.5, device)


if __name__ == "__main__":
    main()
