"""Grid operators: one pass over memory against the slices of torch that they replace.

Beside them the time of a copy that reads and writes as many bytes, and the GB/s of both. Then
powers of the Laplacian: products with the matrix of the transform against torch.fft.

Run with ``python -m bench.grid``; ``--device cuda`` measures the kernels of a GPU; ``--no-compile``
leaves out torch.compile, which needs a C++ compiler at hand.
"""

from __future__ import annotations

from collections.abc import Callable
from unittest import mock

import torch
from torch import Tensor

from bench.common import compare, machine, parser, print_row, thread_counts
from hessx import ops
from hessx.ops.grid import spectral
from hessx.ops.grid.rules import edge_count

# Grids, rows and columns of each.
SIZES = [(1, 28, 28), (256, 28, 28), (64, 56, 56), (1, 224, 224), (8, 224, 224)]
# Lengths of an axis: powers of two, what pictures have, and a prime.
AXES = (28, 56, 112, 128, 224, 256, 299, 320, 384, 385, 448, 512, 640, 1024, 1031)


def torch_difference(g: Tensor) -> Tensor:
    h, v = g[:, :, 1:] - g[:, :, :-1], g[:, 1:] - g[:, :-1]
    return torch.cat((h.flatten(1), v.flatten(1)), dim=1)


def _split(edges: Tensor, p1: int, p2: int) -> tuple[Tensor, Tensor]:
    h, v = edges.split((p1 * (p2 - 1), (p1 - 1) * p2), dim=1)
    return h.view(-1, p1, p2 - 1), v.view(-1, p1 - 1, p2)


def torch_difference_adjoint(edges: Tensor, p1: int, p2: int) -> Tensor:
    h, v = _split(edges, p1, p2)
    if torch.compiler.is_compiling():
        # Slices that are written in place would each become a copy of the whole.
        h, v = torch.nn.functional.pad(h, (1, 1)), torch.nn.functional.pad(v, (0, 0, 1, 1))
        return h[:, :, :-1] - h[:, :, 1:] + v[:, :-1] - v[:, 1:]
    out = edges.new_zeros(edges.shape[0], p1, p2)
    out[:, :, 1:] += h
    out[:, :, :-1] -= h
    out[:, 1:] += v
    out[:, :-1] -= v
    return out


def torch_laplacian(g: Tensor) -> Tensor:
    return torch_difference_adjoint(torch_difference(g), *g.shape[1:])


def torch_curl(edges: Tensor, p1: int, p2: int) -> Tensor:
    h, v = _split(edges, p1, p2)
    return h[:, :-1] - h[:, 1:] + v[:, :, 1:] - v[:, :, :-1]


def torch_curl_adjoint(potential: Tensor) -> Tensor:
    psi = torch.nn.functional.pad(potential, (1, 1, 1, 1))
    h, v = psi[:, 1:, 1:-1] - psi[:, :-1, 1:-1], psi[:, 1:-1, :-1] - psi[:, 1:-1, 1:]
    return torch.cat((h.flatten(1), v.flatten(1)), dim=1)


def report(
    label: str,
    kernel: Callable[..., Tensor],
    plain: Callable[..., Tensor],
    arguments: tuple[Tensor | int, ...],
    device: torch.device,
    compiling: bool,
) -> None:
    """Time the candidates and a copy that reads and writes as many bytes."""
    result = kernel(*arguments)
    # No speed is reported unless both agree; the order of additions may differ.
    torch.testing.assert_close(result, plain(*arguments), rtol=1e-5, atol=1e-5)
    candidates = {"torch": lambda: plain(*arguments)}
    if compiling:
        # Compiled code keeps the number of threads that it was made for.
        torch.compiler.reset()
        compiled = torch.compile(plain, dynamic=False)
        candidates["compile"] = lambda: compiled(*arguments)
    candidates["hessx"] = lambda: kernel(*arguments)
    n_bytes = 4 * (arguments[0].numel() + result.numel())
    source = torch.ones(n_bytes // 8, device=device)
    target = torch.empty_like(source)
    times = compare(candidates | {"copy": lambda: target.copy_(source)}, 1.0, device)
    rates = (n_bytes / times[name] / 1e9 for name in ("hessx", "copy"))
    print_row(label, times, 1e-6, "{:.1f} of {:.1f} GB/s".format(*rates))


def bench_operators(n: int, p1: int, p2: int, device: torch.device, compiling: bool) -> None:
    g = torch.randn(n, p1, p2, device=device)
    edges = torch.randn(n, edge_count(p1, p2), device=device), p1, p2
    psi = torch.randn(n, p1 - 1, p2 - 1, device=device)
    for name, kernel, plain, arguments in [
        ("D", ops.grid_difference, torch_difference, (g,)),
        ("D^T", ops.grid_difference_adjoint, torch_difference_adjoint, edges),
        ("D^T D", ops.grid_laplacian, torch_laplacian, (g,)),
        ("C", ops.grid_curl, torch_curl, edges),
        ("C^T", ops.grid_curl_adjoint, torch_curl_adjoint, (psi,)),
    ]:
        report(f"{name:<5} {n} x {p1} x {p2}", kernel, plain, arguments, device, compiling)


def _transformed(grid: Tensor, dense_up_to: int) -> Tensor:
    with mock.patch.object(spectral, "DENSE_UP_TO", dense_up_to):
        return ops.grid_spectral(grid, -1, 0)


def bench_spectral(size: int, dtype: torch.dtype, device: torch.device) -> None:
    """Square grids of about a million numbers together, and one alone."""
    for n in (max(1, 2**20 // size**2), 1):
        grid = torch.randn(n, size, size, dtype=dtype, device=device)
        candidates = {
            "fft": lambda grid=grid: _transformed(grid, 0),
            "products": lambda grid=grid: _transformed(grid, size),
        }
        label = f"{str(dtype)[6:]} {n} x {size} x {size}"
        print_row(label, compare(candidates, 1.0, device), 1e-6)


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--no-compile", action="store_true", help="leave out torch.compile")
    arguments = options.parse_args()
    device = arguments.device
    print(machine(device))
    for n_threads in thread_counts(device):
        torch.set_num_threads(n_threads)
        print(f"{n_threads} threads: microseconds, float32; in brackets: times faster than torch")
        for size in SIZES:
            bench_operators(*size, device, not arguments.no_compile)
    torch.set_num_threads(1)
    print("(D^T D)^+, microseconds, 1 thread; in brackets: times faster than torch.fft")
    for dtype in (torch.float32, torch.float64):
        for size in AXES:
            bench_spectral(size, dtype, device)


if __name__ == "__main__":
    main()
