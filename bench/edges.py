"""Steps on the edges of grids: one pass over memory against the lines of torch they replace.

Beside them the least time that memory allows: the bytes that must be read and written, at the speed
of a copy of as many bytes, measured in turn with the rest.

Run with ``python -m bench.edges``; ``--device cuda`` measures the kernels of a GPU;
``--no-compile`` leaves out torch.compile, which needs a C++ compiler at hand.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from bench.common import machine, parser, thread_counts
from bench.grid_noise import differences
from bench.shrink import report
from hessx.ops import edge_divergence, edge_prox, edge_update
from hessx.ops.grid.rules import edge_count

# Pictures, and the side of each.
SIZES = [(32, 224), (1, 224), (256, 28), (1, 28)]

Tensors = tuple[torch.Tensor, ...]


def torch_prox(
    z: torch.Tensor, centre: torch.Tensor, radius: torch.Tensor, threshold: torch.Tensor
) -> torch.Tensor:
    r, t = radius[:, None], threshold[:, None]
    shrunk = z.sign() * (z.abs() - t).clamp(min=0)
    return shrunk.maximum(centre - r).minimum(centre + r)


def torch_divergence(
    z: torch.Tensor,
    centre: torch.Tensor,
    radius: torch.Tensor,
    threshold: torch.Tensor,
    p1: int,
    p2: int,
) -> torch.Tensor:
    reflected = 2 * torch_prox(z, centre, radius, threshold) - z
    # No constant.
    return differences(torch.nn.functional.pad(reflected, (0, 1)), p1, p2)


def torch_update(
    z: torch.Tensor,
    anchor: torch.Tensor,
    centre: torch.Tensor,
    potential: torch.Tensor,
    radius: torch.Tensor,
    threshold: torch.Tensor,
    weight: torch.Tensor,
) -> Tensors:
    difference = torch.cat((potential.diff(dim=2).flatten(1), potential.diff(dim=1).flatten(1)), 1)
    step = difference - torch_prox(z, centre, radius, threshold)
    w = weight[:, None]
    return w * (z + 2 * step) + (1 - w) * anchor, step.square().sum(1)


def bench(
    label: str,
    ours: Callable[..., object],
    theirs: Callable[..., object],
    arguments: tuple[torch.Tensor | int, ...],
    numbers: int,
    compiling: bool,
) -> None:
    """Time one op, which has to read and write so many numbers."""
    # No speed is reported unless both agree; torch adds up in float32.
    torch.testing.assert_close(
        ours(*arguments), theirs(*arguments), rtol=1e-3, atol=1e-4, check_dtype=False
    )
    candidates = {"torch": lambda: theirs(*arguments)}
    if compiling:
        compiled = torch.compile(theirs, dynamic=False)
        candidates["compile"] = lambda: compiled(*arguments)
    candidates["hessx"] = lambda: ours(*arguments)
    z = arguments[0]
    if ours is edge_update:
        out, walk = torch.empty_like(z), z.clone()
        candidates["out="] = lambda: ours(*arguments, out=out)
        candidates["in place"] = lambda: ours(walk, *arguments[1:], out=walk)
    report(label, candidates, 4 * numbers, z.device)


def bench_all(n: int, side: int, device: torch.device, compiling: bool) -> None:
    m, pixels = edge_count(side, side), side * side
    z, anchor, centre = torch.randn(3, n, m, device=device)
    potential = torch.randn(n, side, side, device=device)
    radius, threshold, weight = torch.rand(3, n, device=device)
    box = (z, centre, radius, threshold)
    update = (z, anchor, centre, potential, radius, threshold, weight)
    for name, ours, theirs, arguments, numbers in (
        ("prox", edge_prox, torch_prox, box, 3 * m),
        ("divergence", edge_divergence, torch_divergence, (*box, side, side), 2 * m + pixels),
        ("update", edge_update, torch_update, update, 4 * m + pixels),
    ):
        label = f"{name} N={n} {side}x{side}"
        bench(label, ours, theirs, arguments, n * numbers, compiling)


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
        for n, side in SIZES:
            bench_all(n, side, device, not arguments.no_compile)


if __name__ == "__main__":
    main()
