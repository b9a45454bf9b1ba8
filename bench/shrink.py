"""FISTA steps and soft thresholds: one pass over memory against the lines of torch they replace.

Beside them the least time that memory allows: the bytes that must be read and written, at the speed
of a copy of as many bytes, measured in turn with the rest.

Run with ``python -m bench.shrink``; ``--device cuda`` measures the kernels of a GPU;
``--no-compile`` leaves out torch.compile, which needs a C++ compiler at hand.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from bench.common import compare, machine, parser, print_row, thread_counts
from hessx.ops import fista_step, soft_threshold

# Images, lambdas of each, input numbers: 150,528 = 3 x 224 x 224.
STEPS = [(8, 1, 150528), (8, 8, 150528), (1, 1, 150528), (256, 1, 784), (1, 1, 784)]
THRESHOLDS = [(8, 150528), (256, 784), (1, 784)]

Tensors = tuple[torch.Tensor, ...]


def torch_fista_step(
    gradient: torch.Tensor,
    product: torch.Tensor,
    point: torch.Tensor,
    previous: torch.Tensor,
    step: torch.Tensor,
    momentum: torch.Tensor,
    lambda1: torch.Tensor,
    lambda2: torch.Tensor,
) -> Tensors:
    """The same step and sums, in the dtype given."""
    gradient = gradient[:, None]
    step, momentum, lambda1, lambda2 = (x[..., None] for x in (step, momentum, lambda1, lambda2))
    moved = point + step * (gradient + product - 2 * lambda2 * point)
    next_point = torch_soft_threshold(moved, step * lambda1)
    change = next_point - previous
    sums = (
        (gradient * next_point).sum(2),
        next_point.abs().sum(2),
        next_point.square().sum(2),
        change.square().sum(2),
        (next_point == 0).sum(2),
    )
    return next_point, next_point + momentum * change, torch.stack(sums, dim=2)


def torch_soft_threshold(x: torch.Tensor, threshold: torch.Tensor) -> torch.Tensor:
    return x.sign() * (x.abs() - threshold).clamp(min=0)


def report(
    label: str,
    candidates: dict[str, Callable[[], object]],
    n_bytes: int,
    device: torch.device,
) -> None:
    """Time the candidates and a copy that reads and writes as many bytes."""
    source = torch.ones(n_bytes // 8, device=device)
    target = torch.empty_like(source)
    times = compare(candidates | {"bound": lambda: target.copy_(source)}, 2.0, device)
    rate = n_bytes / times["bound"] / 1e9
    print_row(label, times, 1e-3, f"bound: {n_bytes / 1e6:.1f} MB at {rate:.1f} GB/s")


def bench_step(batch: int, m: int, d: int, device: torch.device, compiling: bool) -> None:
    gradient = torch.randn(batch, d, device=device)
    vectors = tuple(torch.randn(3, batch, m, d, device=device))
    numbers = tuple(torch.rand(4, batch, m, device=device))
    arguments = (gradient, *vectors, *numbers)
    results = fista_step(*arguments)
    # No speed is reported unless all agree; torch adds up in float32.
    for result, expected in zip(results, torch_fista_step(*arguments), strict=True):
        torch.testing.assert_close(result, expected.to(result), rtol=1e-3, atol=1e-4)
    out = results[:2]
    walk = tuple(x.clone() for x in vectors)
    candidates = {"torch": lambda: torch_fista_step(*arguments)}
    if compiling:
        compiled = torch.compile(torch_fista_step, dynamic=False)
        candidates["compile"] = lambda: compiled(*arguments)
    candidates["hessx"] = lambda: fista_step(*arguments)
    candidates["out="] = lambda: fista_step(*arguments, out=out)
    candidates["in place"] = lambda: fista_step(gradient, *walk, *numbers, out=(walk[2], walk[1]))
    n_bytes = 4 * d * batch * (1 + 5 * m)
    report(f"step B={batch} M={m} d={d}", candidates, n_bytes, device)


def bench_threshold(rows: int, d: int, device: torch.device, compiling: bool) -> None:
    x, threshold = torch.randn(rows, d, device=device), torch.rand(rows, device=device)
    column = threshold[:, None]
    assert torch.equal(soft_threshold(x, threshold), torch_soft_threshold(x, column))
    candidates = {"torch": lambda: torch_soft_threshold(x, column)}
    if compiling:
        compiled = torch.compile(torch_soft_threshold, dynamic=False)
        candidates["compile"] = lambda: compiled(x, column)
    candidates["hessx"] = lambda: soft_threshold(x, threshold)
    report(f"threshold N={rows} d={d}", candidates, 8 * rows * d, device)


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--no-compile", action="store_true", help="leave out torch.compile")
    arguments = options.parse_args()
    device = arguments.device
    print(machine(device))
    print("ms, float32; in brackets: times faster than torch")
    for n_threads in thread_counts(device):
        torch.set_num_threads(n_threads)
        # Compiled code keeps the number of threads that it was made for.
        torch.compiler.reset()
        print(f"{n_threads} threads")
        for sizes in STEPS:
            bench_step(*sizes, device, not arguments.no_compile)
        for sizes in THRESHOLDS:
            bench_threshold(*sizes, device, not arguments.no_compile)


if __name__ == "__main__":
    main()
