"""The prox pass against torch eager and torch.compile, beside the time that reading memory takes.

Run with ``python -m bench.prox``; ``--crossover`` measures Gram matrices of 10 to 1000 rows, which
is what the rule in ``hessx/ops/prox/native.py`` was read from; ``--device cuda`` measures the
kernels of a GPU. One image of 3 x 224 x 224 numbers; lambda1 spread so that .5 to .99 of the
numbers are zero.
"""

from __future__ import annotations

from unittest import mock

import torch
from torch import Tensor

from bench.common import compare, machine, parser, print_row, thread_counts
from hessx.ops import gram, prox_pass
from hessx.ops.prox import native

PIXELS = 3 * 224 * 224
RANKS = (10, 32, 100)
LAMBDAS = (1, 8)
ROWS = (10, 50, 100, 200, 300, 400, 500, 700, 1000)


def problem(r: int, lambdas: int, device: torch.device) -> tuple[Tensor, ...]:
    """Basis, gradient, z and lambda1 of one image; z differs between lambdas, as in a solver."""
    generator = torch.Generator().manual_seed(0)
    basis = torch.randn(1, r, PIXELS, generator=generator)
    gradient = torch.randn(1, PIXELS, generator=generator)
    z = torch.randn(1, 1, r, generator=generator) / r**0.5
    z = 0.3 * (z + 0.1 * torch.randn(1, lambdas, r, generator=generator) / r**0.5)
    ascending = (gradient[:, None] + z @ basis).abs().sort().values
    ranks = (torch.linspace(0.5, 0.99, lambdas) * PIXELS).long()
    lambda1 = ascending.gather(2, ranks[None, :, None])[..., 0]
    return tuple(x.to(device) for x in (basis, gradient, z, lambda1))


def point_and_sums(
    basis: Tensor, gradient: Tensor, z: Tensor, lambda1: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Point, w and sums as torch would write them."""
    u = gradient[:, None] + z @ basis
    s = u.sign() * (u.abs() - lambda1[..., None]).clamp(min=0)
    sums = s.square().sum(2), s.abs().sum(2), (gradient[:, None] * s).sum(2), (s == 0).sum(2)
    return s, s @ basis.mT, torch.stack(sums, 2)


def gathered(basis: Tensor, gradient: Tensor, z: Tensor, lambda1: Tensor) -> tuple[Tensor, ...]:
    """With the Gram matrices of the active columns, gathered: the quickest in eager torch."""
    s, w, sums = point_and_sums(basis, gradient, z, lambda1)
    active = [basis[0][:, row != 0] for row in s[0]]
    return w, sums, torch.stack([columns @ columns.mT for columns in active])


def masked(basis: Tensor, gradient: Tensor, z: Tensor, lambda1: Tensor) -> tuple[Tensor, ...]:
    """With the Gram matrices of masked columns: sizes that a compiled graph knows."""
    s, w, sums = point_and_sums(basis, gradient, z, lambda1)
    return w, sums, torch.stack([(basis[0] * (row != 0)) @ basis[0].mT for row in s[0]])


def without_gram(
    basis: Tensor, gradient: Tensor, z: Tensor, lambda1: Tensor
) -> tuple[Tensor, Tensor]:
    """Without the Gram matrices."""
    return point_and_sums(basis, gradient, z, lambda1)[1:]


def bench_pass(r: int, lambdas: int, seconds: float, device: torch.device) -> None:
    arguments = problem(r, lambdas, device)
    for with_gram, eager, graph in ((True, gathered, masked), (False, without_gram, without_gram)):
        torch.compiler.reset()
        compiled = torch.compile(graph)
        candidates = {
            "eager": lambda eager=eager: eager(*arguments),
            "compile": lambda compiled=compiled: compiled(*arguments),
            "hessx": lambda with_gram=with_gram: prox_pass(*arguments, with_gram=with_gram),
            "memory": lambda: [x.sum() for x in arguments[:2]],
        }
        label = f"r={r} M={lambdas} {'gram' if with_gram else '-'}"
        print_row(label, compare(candidates, seconds, device), 1e-3)


def gram_by(fused: bool, x: Tensor) -> Tensor:
    """Gram matrices by the kernel or by torch's products, whatever the rule says."""
    with mock.patch.object(native, "fused_gram_wins", return_value=fused):
        return gram(x)


def bench_gram(rows: int, d: int, dtype: torch.dtype, seconds: float, device: torch.device) -> None:
    x = torch.randn(1, rows, d, dtype=dtype, device=device)
    candidates = {"torch": lambda: (x @ x.mT).double()}
    if device.type == "cpu":
        candidates["blocks"] = lambda: gram_by(False, x)
        candidates["fused"] = lambda: gram_by(True, x)
        suffix = f"chosen: {'fused' if native.fused_gram_wins(x) else 'blocks'}"
    else:
        candidates["hessx"] = lambda: gram(x)
        suffix = ""
    name = str(dtype).removeprefix("torch.")
    print_row(f"gram c={rows} d={d} {name}", compare(candidates, seconds, device), 1e-3, suffix)


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--crossover", action="store_true", help="Gram matrices of all sizes")
    arguments = options.parse_args()
    device = arguments.device
    print(machine(device))
    print("ms; in brackets: times faster than the first; memory: reading basis and gradient once")
    for n_threads in thread_counts(device):
        torch.set_num_threads(n_threads)
        print(f"{n_threads} threads")
        if arguments.crossover:
            for dtype in (torch.float32, torch.float64):
                for rows in ROWS:
                    # 240 MB of rows at most.
                    d = min(PIXELS, 3 * 10**7 // rows)
                    bench_gram(rows, d, dtype, 1.0, device)
            continue
        for r in RANKS:
            for lambdas in LAMBDAS:
                bench_pass(r, lambdas, 2.0, device)
        for r in RANKS:
            bench_gram(r, PIXELS, torch.float32, 1.0, device)


if __name__ == "__main__":
    main()
