"""Moments: the fused kernels against torch's matrix products on the same blocks of samples.

Run with ``python -m bench.moments``; ``--crossover`` sweeps all sizes, which is what the rule in
``hessx/ops/moments/native.py`` was read from.
"""

from __future__ import annotations

import argparse
from unittest import mock

import torch

from bench.common import compare, machine, print_row
from hessx.ops import core_moments, cross_moments
from hessx.ops.moments import native

MAIN_CORE = [(1, 256, 256), (8, 256, 256), (32, 256, 256)]
MAIN_CORE += [(1, 256, 49), (32, 256, 49), (1, 256, 196), (32, 256, 196)]
MAIN_CROSS = [(1, 256, 49, 49), (32, 256, 49, 49), (1, 256, 196, 196), (32, 1024, 196, 196)]
MAIN_CROSS += [(1, 256, 784, 784), (1, 1024, 784, 784), (4, 512, 256, 784)]


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


def bench_core(batch: int, n: int, k: int, seconds: float) -> None:
    u, w = torch.randn(batch, n, k), torch.randn(batch, n, k)
    times = compare(
        {"torch": lambda: torch_core_moments(u, w), "hessx": lambda: core_moments(u, w)}, seconds
    )
    # The symmetric product needs half of its entries: 2.5 products.
    rate = 5 * batch * n * k * k / times["hessx"] / 1e9
    print_row(f"core B={batch} n={n} k={k}", times, 1e-3, f"{rate:6.1f} GF/s")


def bench_cross(batch: int, n: int, k: int, l: int, seconds: float) -> None:  # noqa: E741
    u, v = torch.randn(batch, n, k), torch.randn(batch, n, l)
    times = compare(
        {"torch": lambda: cross_by(False, u, v), "fused": lambda: cross_by(True, u, v)}, seconds
    )
    chosen = "fused" if native.fused_product_wins(u, v) else "torch"
    print_row(f"cross B={batch} n={n} k={k} l={l}", times, 1e-3, f"chosen: {chosen}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--crossover", action="store_true", help="sweep all sizes")
    crossover = parser.parse_args().crossover
    core, cross, seconds = MAIN_CORE, MAIN_CROSS, 0.5
    if crossover:
        # Outputs of 8 MB and inputs of 16 MB at most: beyond, both wait for memory.
        grid = [
            (batch, n, k)
            for k in (2, 4, 8, 16, 49, 128, 256, 512)
            for n in (64, 256, 1024, 4096)
            for batch in (1, 16, 256)
            if batch * n * k <= 2**22 and batch * k * k <= 2**20
        ]
        core, cross, seconds = grid, [(b, n, k, k) for b, n, k in grid], 0.02
    print(machine())
    print("ms; in brackets: times faster than torch")
    for n_threads in (1, 2):
        torch.set_num_threads(n_threads)
        print(f"{n_threads} threads")
        for sizes in cross:
            bench_cross(*sizes, seconds)
        for sizes in core:
            bench_core(*sizes, seconds)


if __name__ == "__main__":
    main()
