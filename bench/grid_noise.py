"""Noise on grids: against drawing the normal numbers alone, and against a Cholesky factor.

``normals`` draws the m + 1 numbers that a picture is made of and stores them: what the rest can be
compared with. ``unfused`` then takes their differences in torch; ``Cholesky`` draws p numbers and
multiplies them with a factor of the covariance, factored beforehand, where that fits.

Run with ``python -m bench.grid_noise``; ``--device cuda`` measures the kernels of a GPU.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from bench.common import compare, machine, parser, thread_counts
from hessx.ops import grid_normal, normal
from hessx.ops.grid.rules import edge_count

# Samples, and the side of a square picture.
SIZES = [(4000, 7), (2000, 28), (500, 56), (64, 224)]
# Pixels of the largest picture with a factor: 10,000 squared numbers.
FACTORED = 10_000


def differences(drawn: torch.Tensor, p1: int, p2: int) -> torch.Tensor:
    """D^T e + w / sqrt(p) of stored numbers, in torch."""
    split = p1 * (p2 - 1)
    right = drawn[:, :split].unflatten(1, (p1, p2 - 1))
    down = drawn[:, split:-1].unflatten(1, (p1 - 1, p2))
    out = drawn[:, -1:, None].mul((p1 * p2) ** -0.5).repeat(1, p1, p2)
    out[:, :, 1:] += right
    out[:, :, :-1] -= right
    out[:, 1:] += down
    out[:, :-1] -= down
    return out


def cholesky_factor(p1: int, p2: int, device: torch.device) -> torch.Tensor:
    """L (p, p) with L L^T = D^T D + 1 1^T / p."""
    # What each of the m + 1 numbers adds to each pixel.
    numbers = torch.eye(edge_count(p1, p2) + 1)
    added = differences(numbers, p1, p2).flatten(1).double()
    covariance = added.T @ added
    return torch.linalg.cholesky(covariance).to(device, torch.float32)


def candidates(n: int, side: int, device: torch.device) -> dict[str, Callable[[], object]]:
    out = torch.empty(n, side, side, device=device)
    stored = torch.empty(n, edge_count(side, side) + 1, device=device)
    place = {"seed": 1, "device": device}
    unfused = differences(normal(n, stored.shape[1], **place), side, side)
    # No speed is reported unless both agree.
    torch.testing.assert_close(grid_normal(n, side, side, **place), unfused, rtol=0, atol=1e-5)
    made = {
        "normals": lambda: torch.ops.hessx.normal(stored, 1, 0, 0),
        "hessx": lambda: torch.ops.hessx.grid_normal(out, 1, 0, 0),
        "unfused": lambda: differences(normal(n, stored.shape[1], **place), side, side),
    }
    if side * side <= FACTORED:
        factor = cholesky_factor(side, side, device)
        made["Cholesky"] = lambda: normal(n, side * side, **place) @ factor.T
    return made


def main() -> None:
    device = parser(__doc__).parse_args().device
    print(machine(device))
    print("ms, float32; normals: hessx takes so many times as long; others: times hessx")
    for n_threads in thread_counts(device):
        torch.set_num_threads(n_threads)
        print(f"{n_threads} threads")
        for n, side in SIZES:
            times = compare(candidates(n, side, device), 2.0, device)
            ours = times["hessx"]
            cells = [f"hessx {ours * 1e3:8.3f}"]
            cells += [f"normals {times['normals'] * 1e3:8.3f} ({ours / times['normals']:.2f}x)"]
            for name in ("unfused", "Cholesky"):
                if name in times:
                    cells.append(f"{name} {times[name] * 1e3:8.3f} ({times[name] / ours:.1f}x)")
            print(f"{n:5} of {side:3} x {side:<3}", "  ".join(cells), flush=True)


if __name__ == "__main__":
    main()
