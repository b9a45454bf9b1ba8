"""Sums over squares against torch's pooling, its prefix sums, and a product with all squares.

Run with ``python -m bench.boxes``; ``--device cuda`` measures the kernels of a GPU.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bench.common import compare, machine, parser, print_row, thread_counts
from hessx import ops
from hessx.ops.boxes.rules import box_slices

# Pictures, side of each, sides of the squares.
SIZES = [
    (1, 28, range(1, 11)),
    (64, 28, range(1, 11)),
    (1, 224, range(1, 16)),
    (1, 224, range(10, 31)),
    (8, 224, range(1, 16)),
]
# Pictures up to this size are multiplied by the matrix of all squares as well.
MATRIX_UP_TO = 28


def torch_pooled(x: Tensor, sides: range) -> Tensor:
    pooled = [torch.nn.functional.avg_pool2d(x, s, 1, divisor_override=1) for s in sides]
    return torch.cat([sums.flatten(1) for sums in pooled], dim=1)


def torch_prefix(x: Tensor, sides: range) -> Tensor:
    table = torch.nn.functional.pad(x.double().cumsum(1).cumsum(2), (1, 0, 1, 0))
    sums = [
        table[:, s:, s:] - table[:, :-s, s:] - table[:, s:, :-s] + table[:, :-s, :-s] for s in sides
    ]
    return torch.cat([part.flatten(1) for part in sums], dim=1).to(x.dtype)


def torch_prefix_adjoint(w: Tensor, sides: range, p: int) -> Tensor:
    corners = w.new_zeros(len(w), p + 1, p + 1, dtype=torch.float64)
    for s, first, rows, columns in box_slices(p, p, sides):
        part = w[:, first : first + rows * columns].view(-1, rows, columns)
        corners[:, :rows, :columns] += part
        corners[:, s : s + rows, :columns] -= part
        corners[:, :rows, s : s + columns] -= part
        corners[:, s : s + rows, s : s + columns] += part
    return corners.cumsum(1).cumsum(2)[:, :p, :p].to(w.dtype)


def bench(n: int, p: int, sides: range, device: torch.device) -> None:
    """Time both ops; no speed is reported unless all results agree."""
    x = torch.randn(n, p, p, device=device)
    sums = ops.box_sums(x, sides)
    forward = {
        "pooling": lambda: torch_pooled(x, sides),
        "prefix": lambda: torch_prefix(x, sides),
    }
    backward = {"prefix": lambda: torch_prefix_adjoint(sums, sides, p)}
    if p <= MATRIX_UP_TO:
        squares = ops.box_sums(torch.eye(p * p, device=device).view(-1, p, p), sides).mT
        forward["product"] = lambda: x.flatten(1) @ squares.mT
        backward["product"] = lambda: (sums @ squares).view(-1, p, p)
    forward["hessx"] = lambda: ops.box_sums(x, sides)
    backward["hessx"] = lambda: ops.box_sums_adjoint(sums, sides, p, p)
    label = f"{n} x {p} x {p}, {sides[0]} to {sides[-1]}"
    for name, candidates in (("sums", forward), ("adjoint", backward)):
        expected = candidates["hessx"]()
        # float32 of others against float64 rounded once.
        for candidate in candidates.values():
            torch.testing.assert_close(candidate(), expected, rtol=1e-4, atol=1e-2)
        print_row(f"{name:<8} {label}", compare(candidates, 1.0, device), 1e-6)


def print_error() -> None:
    """A picture whose first quarter is a billion times as large as the rest of it."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, 224, 224, generator=generator, dtype=torch.float64)
    x[:, :112, :112] *= 1e9
    sides = range(1, 16)
    with_reference = [x.unfold(1, s, 1).sum(-1).unfold(2, s, 1).sum(-1).flatten(1) for s in sides]
    expected = torch.cat(with_reference, dim=1)
    terms = torch_pooled(x.abs(), sides)
    print("largest error of a sum over the sum of its terms' sizes, float64, sides 1 to 15")
    for name, found in (("prefix", torch_prefix(x, sides)), ("hessx", ops.box_sums(x, sides))):
        print(f"  {name:<8} {((found - expected).abs() / terms).max():.1e}")


def main() -> None:
    device = parser(__doc__).parse_args().device
    print(machine(device))
    print_error()
    for n_threads in thread_counts(device):
        torch.set_num_threads(n_threads)
        print(
            f"{n_threads} threads: microseconds, float32; in brackets: times faster than the first"
        )
        for n, p, sides in SIZES:
            bench(n, p, sides, device)


if __name__ == "__main__":
    main()
