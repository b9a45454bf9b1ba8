"""Trust-region problems: the compiled kernels against torch over the batch and scipy one by one.

Run with ``python -m bench.trust_region``; ``--device cuda`` measures the kernel of a GPU.
"""

from __future__ import annotations

import numpy as np
import scipy.optimize
import torch

from bench.common import compare, machine, parser, print_row, thread_counts
from hessx.ops import trust_region

SIZES = [(1, 32), (100, 32), (1000, 8), (1000, 32), (1000, 128), (10000, 32), (100, 4096)]
# Enough for every problem of the benchmark: bisection would take more.
TORCH_STEPS = 10
# scipy solves so many of the problems; its time is scaled to all of them.
SCIPY_PROBLEMS = 100


def torch_trust_region(
    eigenvalues: torch.Tensor, gradient: torch.Tensor, radius: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Newton's method on 1 / |t| over the batch, in the dtype given; knows no hard case."""
    origin = (-eigenvalues.amin(1)).clamp(min=0)
    poles = eigenvalues + origin[:, None]
    shift = (gradient.abs() / radius[:, None] - poles).amax(1).clamp(min=0)
    for _ in range(TORCH_STEPS):
        denominator = poles + shift[:, None]
        step = -gradient / denominator
        square = step.square()
        length = square.sum(1).sqrt()
        fall = (square / denominator).sum(1)
        shift = (shift + length.square() / fall * (length / radius - 1)).clamp(min=0)
    return -gradient / (poles + shift[:, None]), origin + shift


def scipy_trust_region(
    eigenvalues: np.ndarray, gradient: np.ndarray, radius: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Roots of 1 / |t| - 1 / radius by brentq, one problem at a time; knows no hard case."""
    steps, multipliers = np.zeros_like(eigenvalues), np.zeros_like(radius)
    for row, (e, g, r) in enumerate(zip(eigenvalues, gradient, radius, strict=True)):
        lowest = max(0.0, -e.min())

        def defect(multiplier, e=e, g=g, r=r):
            return 1 / np.linalg.norm(g / (e + multiplier)) - 1 / r

        low, high = lowest * (1 + 1e-12) + 1e-300, lowest + np.linalg.norm(g) / r
        if defect(low) < 0:
            multipliers[row] = scipy.optimize.brentq(defect, low, high, xtol=1e-14, rtol=1e-14)
        steps[row] = -g / (e + multipliers[row])
    return steps, multipliers


def bench(batch: int, k: int, dtype: torch.dtype, device: torch.device) -> None:
    generator = torch.Generator().manual_seed(0)
    e = torch.randn(batch, k, generator=generator, dtype=dtype)
    g = torch.randn(batch, k, generator=generator, dtype=dtype)
    radius = torch.rand(batch, generator=generator, dtype=dtype) + 0.5
    some = [x[:SCIPY_PROBLEMS].double().numpy() for x in (e, g, radius)]
    e, g, radius = e.to(device), g.to(device), radius.to(device)
    step, _ = trust_region(e, g, radius)
    # No speed is reported unless all three agree.
    tolerance = (
        {"rtol": 1e-3, "atol": 1e-3} if dtype == torch.float32 else {"rtol": 0, "atol": 1e-7}
    )
    torch.testing.assert_close(torch_trust_region(e, g, radius)[0], step, **tolerance)
    by_scipy = torch.from_numpy(scipy_trust_region(*some)[0]).to(step)
    torch.testing.assert_close(by_scipy, step[:SCIPY_PROBLEMS], **tolerance)
    times = compare(
        {
            "torch": lambda: torch_trust_region(e, g, radius),
            "scipy": lambda: scipy_trust_region(*some),
            "hessx": lambda: trust_region(e, g, radius),
        },
        0.5,
        device,
    )
    times["scipy"] *= max(1, batch / SCIPY_PROBLEMS)
    name = str(dtype).removeprefix("torch.")
    nanoseconds = times["hessx"] / (batch * k) * 1e9
    print_row(f"B={batch} k={k} {name}", times, 1e-3, f"{nanoseconds:6.2f} ns a coordinate")


def main() -> None:
    device = parser(__doc__).parse_args().device
    print(machine(device))
    print("ms; in brackets: times faster than torch")
    for n_threads in thread_counts(device):
        torch.set_num_threads(n_threads)
        print(f"{n_threads} threads")
        for dtype in (torch.float32, torch.float64):
            for batch, k in SIZES:
                bench(batch, k, dtype, device)


if __name__ == "__main__":
    main()
