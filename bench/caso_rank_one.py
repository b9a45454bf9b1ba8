"""How fast the Hessian of a confident classifier becomes rank one: appendix F.1 of the CASO paper.

``python -m bench.caso_rank_one`` prints the relative error of ``H ~ g g^T / (eps (c - 1))`` for
random linear models and draws it: Figure 1 (p[0] = .9999, c from 10 to 1000), Figure 2 (c = 100,
eps from 5e-3 down to 1e-6 in steps of 1e-6) and Figure 3 (both varied).

Beside them what the spectrum of A.4 gives in the limit of confidence, ``sqrt(c - 2) / c``, which is
for orthogonal class gradients; those of a Gaussian model in d dimensions make it larger by
``sqrt(1 + (c - 2) / d)``.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import torch
from torch import Tensor

from bench.common import machine
from bench.pictures import GREEN, OUT, save_png, write_table
from tests.references.rank_one import gaussian_gram, rank_one_error

CONFIDENCE = 0.9999
CLASSES = (10, 20, 30, 50, 70, 100, 150, 200, 300, 500, 700, 1000)
CONFIDENCES = (0.505, 0.7, 0.9, 0.97, 0.99, 0.9999)
FIGURE_2_CLASSES = 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--d", type=int, default=3072, help="numbers of an input")
    parser.add_argument("--draws", type=int, default=5, help="random models")
    parser.add_argument("--out", type=Path, default=OUT, help="folder of tables and pictures")
    options = parser.parse_args()
    print(machine())
    grams = [gaussian_gram(options.d, max(CLASSES), seed) for seed in range(options.draws)]
    table = {
        (c, confidence): median_error(grams, c, confidence)
        for c in CLASSES
        for confidence in CONFIDENCES
    }
    print(f"relative error, median of {options.draws} Gaussian models with d = {options.d}")
    rows = []
    for c in CLASSES:
        limit = orthogonal_limit(c)
        errors = {f"p[0] = {confidence}": table[c, confidence] for confidence in CONFIDENCES}
        gaussian = math.sqrt(1 + (c - 2) / options.d) * limit
        rows.append({"c": c, **errors, "limit": gaussian, "sqrt(c-2)/c": limit})
    write_table(rows, options.out / "caso_rank_one.csv")
    ratios = {c: table[c, CONFIDENCE] / orthogonal_limit(c) for c in CLASSES}
    worst = max(ratios, key=lambda c: ratios[c])
    print(f"p[0] = {CONFIDENCE}: at most {ratios[worst]:.2f} sqrt(c - 2) / c, at c = {worst}")
    eps = torch.arange(1, 5001, dtype=torch.float64) * 1e-6
    gram = grams[0][:FIGURE_2_CLASSES, :FIGURE_2_CLASSES]
    sweep = torch.cat([rank_one_error(gram, part) for part in eps.split(500)])
    draw(table, eps, sweep, options.out / "caso_rank_one.png")


def orthogonal_limit(c: int) -> float:
    """Return the error for orthogonal class gradients of one length as eps goes to 0."""
    return math.sqrt(c - 2) / c


def median_error(grams: list[Tensor], c: int, confidence: float) -> float:
    """Return the median over the models, of which the first ``c`` classes are taken."""
    eps = torch.tensor([(1 - confidence) / (c - 1)], dtype=torch.float64)
    return torch.cat([rank_one_error(gram[:c, :c], eps) for gram in grams]).median().item()


def draw(table: dict[tuple[int, float], float], eps: Tensor, sweep: Tensor, path: Path) -> None:
    """Draw the paper's three figures side by side."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    canvas = Figure(figsize=(11, 3.4), layout="constrained")
    first, second, third = canvas.subplots(1, 3)
    first.plot(CLASSES, [table[c, CONFIDENCE] for c in CLASSES], "o-", color=GREEN, ms=3)
    first.plot(
        CLASSES,
        [orthogonal_limit(c) for c in CLASSES],
        "--",
        color="#999999",
        label="sqrt(c - 2) / c",
    )
    first.set(title=f"p[0] = {CONFIDENCE}", xlabel="classes c", ylabel="relative error")
    first.legend(frameon=False)
    doubt = (FIGURE_2_CLASSES - 1) * eps
    second.plot(-doubt.log(), sweep, color=GREEN)
    second.set(title=f"c = {FIGURE_2_CLASSES}", xlabel="-log(1 - p[0])")
    shades = colormaps["viridis"]
    for place, confidence in enumerate(CONFIDENCES):
        errors = [table[c, confidence] for c in CLASSES]
        colour = shades(place / len(CONFIDENCES))
        third.loglog(CLASSES, errors, color=colour, label=f"p[0] = {confidence}")
    third.set(title="both", xlabel="classes c")
    third.legend(frameon=False, fontsize=8)
    for panel in (first, second, third):
        panel.spines[["top", "right"]].set_visible(False)
    save_png(canvas, path)


if __name__ == "__main__":
    main()
