"""The softmax product: the compiled kernel against the lines of torch that it replaces.

Run with ``python -m bench.softmax``; ``--device cuda`` measures the kernel of a GPU.
"""

from __future__ import annotations

import torch

from bench.common import compare, machine, parser, print_row, thread_counts
from hessx.ops import softmax_product

# Examples, vectors of each, classes.
SIZES = [(1, 1, 1000), (8, 8, 1000), (32, 32, 1000), (256, 10, 10), (8, 8, 21841)]


def torch_softmax_product(p: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
    """In the dtype given: loses the digits of a class whose probability is near 1."""
    return p[:, None] * (u - (p[:, None] * u).sum(2, keepdim=True))


def torch_float64(p: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
    """In float64, as the kernel computes, but without its origin."""
    return torch_softmax_product(p.double(), u.double()).to(u.dtype)


def bench(batch: int, m: int, classes: int, device: torch.device) -> None:
    p = torch.randn(batch, classes, device=device).softmax(1)
    u = torch.randn(batch, m, classes, device=device)
    # No speed is reported unless all agree.
    torch.testing.assert_close(softmax_product(p, u), torch_float64(p, u), rtol=1e-4, atol=1e-7)
    candidates = {
        "torch": lambda: torch_softmax_product(p, u),
        "float64": lambda: torch_float64(p, u),
        "hessx": lambda: softmax_product(p, u),
    }
    times = compare(candidates, 0.5, device)
    print_row(f"B={batch} m={m} c={classes}", times, 1e-6)


def main() -> None:
    device = parser(__doc__).parse_args().device
    print(machine(device))
    print("us, float32; in brackets: times faster than torch in float32")
    for n_threads in thread_counts(device):
        torch.set_num_threads(n_threads)
        print(f"{n_threads} threads")
        for sizes in SIZES:
            bench(*sizes, device)


if __name__ == "__main__":
    main()
