"""Moments: the fused kernels against torch's matrix products on the same blocks of samples.

Run with ``python -m bench.moments``; ``--crossover`` sweeps all sizes, which is what the rule in
``hessx/ops/moments/native.py`` was read from; ``--device cuda`` measures the kernels of a GPU.
"""

from __future__ import annotations

from unittest import mock

import torch

from bench.common import compare, machine, parser, print_row, thread_counts
from hessx.ops import core_moments, cross_moments, normal, normal_moments
from hessx.ops.moments import native

MAIN_CORE = [(1, 256, 256), (8, 256, 256), (32, 256, 256)]
MAIN_CORE += [(1, 256, 49), (32, 256, 49), (1, 256, 196), (32, 256, 196)]
MAIN_CROSS = [(1, 256, 49, 49), (32, 256, 49, 49), (1, 256, 196, 196), (32, 1024, 196, 196)]
MAIN_CROSS += [(1, 256, 784, 784), (1, 1024, 784, 784), (4, 512, 256, 784)]
MAIN_NORMAL = [(1, 3000, 4096, 1), (8, 3000, 4096, 8), (1, 1024, 50176, 1), (1, 1024, 784, 784)]


def torch_core_moments(u: torch.Tensor, w: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Three matrix products and the temporaries they need, made float64 at the end."""
    product = u * w
    return (
        (u.mT @ w).double(),
        (u.square().mT @ w.square()).double(),
        (product.mT @ product).double(),
        w.square().sum(1).double(),
    )


def cross_by(fused: bool, u: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """cross_moments, by the kernel or by torch's products, whatever the rule says."""
    with mock.patch.object(native, "fused_product_wins", return_value=fused):
        return cross_moments(u, v)[2]


def bench_core(batch: int, n: int, k: int, seconds: float, device: torch.device) -> None:
    u, w = torch.randn(2, batch, n, k, device=device)
    candidates = {
        "torch": lambda: torch_core_moments(u, w),
        "hessx": lambda: core_moments(u, w),
    }
    times = compare(candidates, seconds, device)
    # The symmetric product needs half of its entries: 2.5 products.
    rate = 5 * batch * n * k * k / times["hessx"] / 1e9
    print_row(f"core B={batch} n={n} k={k}", times, 1e-3, f"{rate:6.1f} GF/s")


def bench_cross(
    batch: int,
    n: int,
    k: int,
    l: int,  # noqa: E741
    seconds: float,
    device: torch.device,
) -> None:
    u, v = torch.randn(batch, n, k, device=device), torch.randn(batch, n, l, device=device)
    label = f"cross B={batch} n={n} k={k} l={l}"
    if device.type == "cpu":
        fused = {"torch": lambda: cross_by(False, u, v), "fused": lambda: cross_by(True, u, v)}
        chosen = "fused" if native.fused_product_wins(u, v) else "torch"
        print_row(label, compare(fused, seconds), 1e-3, f"chosen: {chosen}")
    else:
        # One product, which is what a user would write; it adds up in float32.
        once = {"torch": lambda: (u.mT @ v).double(), "hessx": lambda: cross_moments(u, v)}
        print_row(label, compare(once, seconds, device), 1e-3)


def bench_normal(
    batch: int,
    n: int,
    m: int,
    l: int,  # noqa: E741
    seconds: float,
    device: torch.device,
) -> None:
    v = torch.randn(batch, n, l, device=device)
    candidates = {
        "stored": lambda: cross_moments(normal(n, m, seed=0, device=device), v),
        "drawn": lambda: normal_moments(v, m, seed=0),
    }
    suffix = f"draws: {n * m * 4 / 1e6:.0f} MB"
    label = f"normal B={batch} n={n} m={m} l={l}"
    print_row(label, compare(candidates, seconds, device), 1e-3, suffix)


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--crossover", action="store_true", help="sweep all sizes")
    arguments = options.parse_args()
    device = arguments.device
    core, cross, seconds = MAIN_CORE, MAIN_CROSS, 0.5
    if arguments.crossover:
        # Outputs of 8 MB and inputs of 16 MB at most: beyond, both wait for memory.
        grid = [
            (batch, n, k)
            for k in (2, 4, 8, 16, 49, 128, 256, 512)
            for n in (64, 256, 1024, 4096)
            for batch in (1, 16, 256)
            if batch * n * k <= 2**22 and batch * k * k <= 2**20
        ]
        core, cross, seconds = grid, [(b, n, k, k) for b, n, k in grid], 0.02
    print(machine(device))
    print("ms; in brackets: times faster than torch")
    for n_threads in thread_counts(device):
        torch.set_num_threads(n_threads)
        print(f"{n_threads} threads")
        for sizes in cross:
            bench_cross(*sizes, seconds, device)
        for sizes in core:
            bench_core(*sizes, seconds, device)
        for sizes in () if arguments.crossover else MAIN_NORMAL:
            bench_normal(*sizes, seconds, device)


if __name__ == "__main__":
    main()
