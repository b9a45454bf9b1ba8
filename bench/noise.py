"""Noise: nanoseconds a number against torch.randn, by level, dtype and threads.

Run with ``python -m bench.noise``; ``--device cuda`` measures the kernels of a GPU.
"""

from __future__ import annotations

import torch

import hessx
from bench.common import compare, machine, parser, print_row, thread_counts
from hessx import backends

SHAPE = (1000, 784)


def candidates(law: str, dtype: torch.dtype, device: torch.device) -> dict[str, object]:
    out = torch.empty(SHAPE, dtype=dtype, device=device)
    op = getattr(torch.ops.hessx, law)

    def at(level: str):
        def run() -> None:
            with hessx.backend("native", level):
                op(out, 1, 0, 0)

        return run

    torch_fill = out.normal_ if law == "normal" else out.uniform_
    if device.type == "cpu":
        ours = {level: at(level) for level in backends.levels()}
    else:
        ours = {"hessx": lambda: op(out, 1, 0, 0)}
    return {"torch": torch_fill} | ours


def main() -> None:
    device = parser(__doc__).parse_args().device
    print(machine(device))
    print(f"ns a number, out {SHAPE}; in brackets: times faster than torch")
    for n_threads in thread_counts(device):
        torch.set_num_threads(n_threads)
        for law in ("uniform", "normal"):
            for dtype in (torch.float32, torch.float64):
                label = f"{law} {str(dtype)[6:]}, {n_threads} threads"
                unit = 1e-9 * SHAPE[0] * SHAPE[1]
                times = compare(candidates(law, dtype, device), device=device)
                print_row(label, times, unit)


if __name__ == "__main__":
    main()
