"""A function whose gradient flips: appendix A.5 and Figure 5 of the paper.

``python -m bench.infidelity_toy`` takes ``f(a, b)`` of the paper, continuous and piecewise linear
with gradient (1, 0) or (0, 1) in stripes of ``|a - b|``, at (20, 11.9) and (20, 12.1), a stripe
apart. It prints gradient, smoothed gradient and the optimal explanation, how far the two points'
explanations are apart, and their infidelity under Gaussian noise of several deviations.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import hessx
from bench.common import machine
from bench.infidelity_scores import HELD_OUT_SEED
from bench.pictures import OUT, save_png, write_table

POINTS = torch.tensor([[20.0, 11.9], [20.0, 12.1]], dtype=torch.float64)
# Of the noise that infidelity asks about; the stripes have a width of 1 in |a - b|.
SIGMAS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
# "An enormous ball": it covers f on both sides of a = b.
SMOOTHING_RADIUS = 100.0


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--samples", type=int, default=100_000, help="for every mean")
    parser.add_argument("--out", type=Path, default=OUT, help="folder of tables and pictures")
    options = parser.parse_args()
    print(machine())
    start = time.perf_counter()
    rows = scores(SIGMAS, options.samples)
    write_table(rows, options.out / "infidelity_toy.csv")
    draw(rows, options.out / "infidelity_toy.png")
    print(f"{time.perf_counter() - start:.0f} s")


def f(x: Tensor) -> Tensor:
    """Return the paper's function of ``x (N, 2)``, ``(N,)``."""
    stripe = (x[:, 0] - x[:, 1]).abs().floor()
    even = x.amax(1) - stripe / 2
    odd = x.amin(1) + (stripe + 1) / 2
    return torch.where(stripe % 2 == 0, even, odd)


def gradient(x: Tensor, target: None = None) -> Tensor:
    """Return the gradient of `f` at each row of ``x``."""
    with torch.enable_grad():
        x = x.detach().clone().requires_grad_()
        (found,) = torch.autograd.grad(f(x).sum(), x)
    return found


def smoothed_gradient(x: Tensor, n_samples: int) -> Tensor:
    """Return the gradient averaged over an enormous square."""
    return hessx.smooth_explanation(
        gradient, x, kernel="uniform", radius=SMOOTHING_RADIUS, n_samples=n_samples
    )


def scores(sigmas: Sequence[float], n_samples: int) -> list[dict[str, Any]]:
    """Return a row for each deviation and explanation, with columns for both points."""
    plain, smooth = gradient(POINTS), smoothed_gradient(POINTS, n_samples)
    rows = []
    for sigma in sigmas:
        law = hessx.perturb.Gaussian(sigma)
        best = hessx.optimal_explanation(f, POINTS, perturb_func=law, n_samples=n_samples)
        maps = {"gradient": plain, "smoothed": smooth, "optimal": best.attributions}
        infidelity, error = hessx.infidelity(
            f,
            law,
            POINTS,
            torch.stack(list(maps.values())),
            n_perturb_samples=n_samples,
            seed=HELD_OUT_SEED,
            return_stderr=True,
        )
        for place, (name, found) in enumerate(maps.items()):
            first, second = found.tolist()
            rows.append(
                dict(
                    sigma=sigma,
                    explanation=name,
                    at_11_9="({:.3f}, {:.3f})".format(*first),
                    at_12_1="({:.3f}, {:.3f})".format(*second),
                    apart=(found[1] - found[0]).norm().item(),
                    infidelity_11_9=infidelity[place, 0].item(),
                    se_11_9=error[place, 0].item(),
                    infidelity_12_1=infidelity[place, 1].item(),
                    se_12_1=error[place, 1].item(),
                )
            )
    return rows


def draw(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw the function, where its gradient is (1, 0), and infidelity over the deviation."""
    from matplotlib.figure import Figure

    canvas = Figure(figsize=(9.5, 3), layout="constrained")
    values, stripes, curves = canvas.subplots(1, 3)
    a, b = np.meshgrid(np.linspace(14, 26, 400), np.linspace(6, 18, 400))
    x = torch.from_numpy(np.stack([a.ravel(), b.ravel()], 1))
    extent = (14, 26, 6, 18)
    shown = values.imshow(f(x).reshape(a.shape), origin="lower", extent=extent, cmap="viridis")
    canvas.colorbar(shown, ax=values)
    values.set_title("f(a, b)")
    first = gradient(x)[:, 0].reshape(a.shape)
    stripes.imshow(first, origin="lower", extent=extent, cmap="coolwarm_r", alpha=0.7)
    stripes.set_title("gradient, blue (1, 0)")
    for axes in (values, stripes):
        axes.plot(*POINTS.numpy().T, "k.", markersize=5)
        axes.set(xlabel="a", ylabel="b")
    lines = {"gradient": "-", "smoothed": "-", "optimal": "--"}
    for name, line in lines.items():
        chosen = [row for row in rows if row["explanation"] == name]
        curves.errorbar(
            [row["sigma"] for row in chosen],
            [row["infidelity_11_9"] / row["sigma"] ** 2 for row in chosen],
            [row["se_11_9"] / row["sigma"] ** 2 for row in chosen],
            linestyle=line,
            marker="o",
            markersize=3,
            linewidth=1.2,
            label=name,
        )
    curves.set(xscale="log", xlabel="deviation of the noise", title="infidelity / variance")
    curves.legend(fontsize=7)
    save_png(canvas, path)


if __name__ == "__main__":
    main()
