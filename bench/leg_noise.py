"""The proposed covariance and its noise: Figures 3 and 4 of the LEG paper.

``python -m bench.leg_noise`` draws eigenvectors of ``Sigma = sigma^2 (D^T D + 1 1^T / p)`` on
28 x 28 pixels, products of two cosines each, and a digit with independent noise and with noise of
this law of the same total variance. It prints how far the cosines are from being eigenvectors of
the dense matrix, and what the two kinds of noise have in common and what not.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.common import machine
from bench.leg_laws import Law, laws
from bench.pictures import OUT, Panel, draw_panels, write_table
from hessx.plot import diverging_colors
from tests.references.digits import digits

GRID = (28, 28)
SHOWN = ((0, 1), (0, 0), (3, 5), (0, 27), (14, 14), (26, 26), (26, 27), (27, 27))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sigma", type=float, default=0.1**0.5, help="of the proposed law")
    parser.add_argument("--digit", type=int, default=7, help="which of the digits, 0 to 4999")
    parser.add_argument("--draws", type=int, default=3, help="noisy pictures of each kind")
    parser.add_argument("--samples", type=int, default=20_000, help="draws to measure")
    parser.add_argument("--out", type=Path, default=OUT, help="folder of tables and pictures")
    options = parser.parse_args()
    print(machine())
    both = laws(options.sigma, GRID)
    table = eigenvector_rows(both[0], SHOWN)
    write_table(table, options.out / "leg_eigenvectors.csv")
    write_table([noise_row(law, options.samples) for law in both], options.out / "leg_noise.csv")
    draw_eigenvectors(table, options.out / "leg_eigenvectors.png")
    digit = digits()[0][options.digit].reshape(GRID).double()
    draw_noise(digit, both, options.draws, options.out / "leg_noise.png")


def cosines(i: int, j: int, grid: tuple[int, int]) -> Tensor:
    """Return the eigenvector ``(p1, p2)`` of frequencies ``(i, j)``, of norm 1."""
    row, column = (
        torch.cos(math.pi * k * (torch.arange(p, dtype=torch.float64) + 0.5) / p)
        for k, p in zip((i, j), grid, strict=True)
    )
    vector = row[:, None] * column
    return vector / vector.norm()


def eigenvector_rows(law: Law, frequencies: Sequence[tuple[int, int]]) -> list[dict[str, Any]]:
    """Return eigenvalues over sigma^2, their places from the largest, and the cosines' errors.

    The error is ``|Sigma v - lambda v| / |Sigma v|`` for the dense ``Sigma``.
    """
    matrix = law.matrix()
    values = torch.linalg.eigvalsh(matrix)
    rows = []
    for i, j in frequencies:
        vector = cosines(i, j, law.grid).flatten()
        image = matrix @ vector
        value = vector @ image
        row = dict(
            i=i,
            j=j,
            eigenvalue=value.item() / law.sigma**2,
            # Equal ones share a place, and rounding must not part them.
            place=1 + int((values > value * (1 + 1e-9)).sum()),
            error=((image - value * vector).norm() / image.norm()).item(),
        )
        rows.append(row)
    return rows


def noise_row(law: Law, samples: int) -> dict[str, Any]:
    """Return what a law's covariance says, and the same of draws."""
    matrix, drawn = law.matrix(), law.draw(samples).flatten(1)
    measured = drawn.mT @ drawn / samples
    below = law.grid[1]
    row: dict[str, Any] = dict(law=law.name, sigma=law.sigma)
    for prefix, covariance in (("", matrix), ("drawn_", measured)):
        variance = covariance.diagonal()
        deviation = variance.sqrt()
        correlation = covariance / deviation / deviation[:, None]
        row |= {
            f"{prefix}total": variance.sum().item(),
            f"{prefix}least": variance.min().item(),
            f"{prefix}largest": variance.max().item(),
            f"{prefix}neighbours": correlation.diagonal(below).mean().item(),
        }
    values = torch.linalg.eigvalsh(matrix)
    return row | dict(eigenvalues_from=values[0].item(), eigenvalues_to=values[-1].item())


def draw_eigenvectors(table: list[dict[str, Any]], path: Path) -> None:
    """Draw Figure 3."""
    panels = [
        Panel(
            diverging_colors(cosines(row["i"], row["j"], GRID).numpy()),
            f"λ {row['eigenvalue']:.3g} σ²",
        )
        for row in table
    ]
    half = len(panels) // 2
    draw_panels({"λ up to 4 σ²": panels[:half], "λ up to 8 σ²": panels[half:]}, [], path)


def draw_noise(digit: Tensor, both: tuple[Law, Law], draws: int, path: Path) -> None:
    """Draw Figure 4: the digit in grey, noisy digits clipped to the range of a pixel."""
    lines = {}
    limit = 3 * both[1].sigma
    for law in reversed(both):
        noise = law.draw(draws)
        noisy = [Panel(shown(digit + one)) for one in noise]
        alone = Panel(diverging_colors(noise[0].numpy(), limit))
        lines[law.name] = [Panel(shown(digit)), *noisy, alone]
    draw_panels(lines, ["digit", *["with noise"] * draws, "first noise"], path)


def shown(picture: Tensor) -> np.ndarray:
    return picture.clamp(0, 1).numpy()


if __name__ == "__main__":
    main()
