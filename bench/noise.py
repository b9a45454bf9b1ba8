"""Noise: nanoseconds a number against torch.randn, by level, dtype and threads.

Run with ``python -m bench.noise``.
"""

from __future__ import annotations

import torch

import hessx
from bench.common import compare, machine, print_row
from hessx import backends

SHAPE = (1000, 784)


def candidates(law: str, dtype: torch.dtype) -> dict[str, object]:
    out = torch.empty(SHAPE, dtype=dtype)
    op = getattr(torch.ops.hessx, law)

    def at(level: str):
        def run() -> None:
            with hessx.backend("native", level):
                op(out, 1, 0, 0)

        return run

    torch_fill = out.normal_ if law == "normal" else out.uniform_
    return {"torch": torch_fill} | {level: at(level) for level in backends.levels()}


def main() -> None:
    print(machine())
    print(f"ns a number, out {SHAPE}; in brackets: times faster than torch")
    for n_threads in (1, 2):
        torch.set_num_threads(n_threads)
        for law in ("uniform", "normal"):
            for dtype in (torch.float32, torch.float64):
                label = f"{law} {str(dtype)[6:]}, {n_threads} threads"
                unit = 1e-9 * SHAPE[0] * SHAPE[1]
                print_row(label, compare(candidates(law, dtype)), unit)


if __name__ == "__main__":
    main()
