"""Eigenproblems: Jacobi across the batch against torch, matrix by matrix and in one call.

Run with ``python -m bench.eigh``; ``--crossover`` sweeps the small batches too, to check the rule
in ``hessx/ops/eigh/native.py``; ``--device cuda`` measures the kernel of a GPU.
"""

from __future__ import annotations

from unittest import mock

import torch

from bench.common import compare, machine, parser, print_row, thread_counts
from hessx.ops import eigh
from hessx.ops.eigh import native

SIZES = (2, 3, 4, 8, 16, 24, 32, 48, 64)
# Beyond this much work a row would take minutes and say nothing more.
MAX_WORK = 1000 * 32**3


def loop(a: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return [torch.linalg.eigh(matrix) for matrix in a]


def check(a: torch.Tensor) -> None:
    """No speed is reported unless the values agree: to 100 roundings of the norm."""
    a = a.tril() + a.tril(-1).mT
    expected = torch.linalg.eigvalsh(a)
    tolerance = 100 * torch.finfo(a.dtype).eps * float(expected.abs().max())
    torch.testing.assert_close(eigh(a)[0], expected, rtol=0, atol=tolerance)


def bench(batch: int, k: int, dtype: torch.dtype, seconds: float, device: torch.device) -> None:
    a = torch.randn(batch, k, k, dtype=dtype, device=device)
    chosen = "jacobi" if native.jacobi_wins(batch, k, dtype) else "torch"
    # The kernel, whatever the rule says. Calling a Mock would cost as much as a small batch.
    with mock.patch.object(native, "jacobi_wins", lambda batch, k, dtype: True):  # noqa: PT008
        check(a)
        times = compare(
            {
                "batch": lambda: torch.linalg.eigh(a),
                "loop": lambda: loop(a),
                "jacobi": lambda: eigh(a),
            },
            seconds,
            device,
        )
    label = f"{str(dtype).removeprefix('torch.')} B={batch} k={k}"
    print_row(label, times, 1e-3, f"chosen: {chosen}" if device.type == "cpu" else "")


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--crossover", action="store_true", help="sweep small batches too")
    arguments = options.parse_args()
    device = arguments.device
    batches, seconds = (1, 16, 1000, 10000), 0.3
    if arguments.crossover:
        batches, seconds = (1, 2, 4, 8, 16, 64, 1000), 0.1
    print(machine(device))
    print("ms; in brackets: times faster than torch.linalg.eigh of the batch")
    for n_threads in thread_counts(device):
        torch.set_num_threads(n_threads)
        print(f"{n_threads} threads")
        for dtype in (torch.float32, torch.float64):
            for k in SIZES:
                for batch in batches:
                    if batch <= 16 or batch * k**3 <= MAX_WORK:
                        bench(batch, k, dtype, seconds, device)


if __name__ == "__main__":
    main()
