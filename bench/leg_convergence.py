"""How fast LEG and LEG-TV converge under two laws of the noise: section 4.2 of the LEG paper.

The paper proposes ``Sigma = sigma^2 (D^T D + 1 1^T / p)`` (GridTV) because it makes the constant of
LEG-TV's error bound the largest, and expects fewer samples to be needed than with independent
noise. ``python -m bench.leg_convergence`` measures the errors against n on functions whose gamma is
known for both laws (``bench/leg_laws.py``), at equal total variance ``trace Sigma``:

- *blocks*: gamma has two rectangles, +1 and -.5, on a ground of 0: what a TV penalty is made for;
- *blocks, rough*: the same, and nine tenths of f's variance and more is no linear function;
- *scattered*: as many pixels of +1 and -.5, at random places: what it is not made for.

An error is ``|estimate - gamma| / |gamma|`` with the means taken off both, as the program leaves
them open. K_L is .1, or the best of a grid of values, chosen for each law and n by the mean error
itself: no one without the truth could do better.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import hessx
from bench.common import machine
from bench.leg_laws import KnownFunction, Law, laws
from bench.pictures import GREEN, OUT, save_png, write_table
from hessx.explain.leg_tv import leg_tv_from

NUMBERS = (100, 300, 1000, 3000, 10_000, 30_000)
K_LS = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8)
FIXED = 0.1
SIGMA = 0.1**0.5
# Standard deviation of <wave, z>: far beyond the cosine's period, so that it adds noise alone.
WAVES = 20.0


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--side", type=int, default=16, help="of the square grid, 6 or more")
    parser.add_argument("--seeds", type=int, default=5, help="repetitions, 2 or more")
    parser.add_argument("--most", type=int, default=max(NUMBERS), help="largest n")
    parser.add_argument("--out", type=Path, default=OUT, help="folder of tables and pictures")
    options = parser.parse_args()
    print(machine())
    start = time.perf_counter()
    both = laws(SIGMA, (options.side, options.side))
    cases = functions(both[1])
    write_table(
        [law_row(name, f, law) for name, f in cases.items() for law in both],
        options.out / "leg_laws.csv",
    )
    numbers = [n for n in NUMBERS if n <= options.most]
    curves = [
        measure(name, f, law, numbers, options.seeds) for name, f in cases.items() for law in both
    ]
    every = [row for curve in curves for row in curve.every()]
    write_table(every, options.out / "leg_convergence_all.csv", show=False)
    table = [row for curve in curves for row in curve.rows()]
    write_table(table, options.out / "leg_convergence.csv")
    draw(curves, options.out / "leg_convergence.png")
    print(f"{options.side} x {options.side} pixels, {options.seeds} seeds: ", end="")
    print(f"{time.perf_counter() - start:.0f} s")


def functions(independent: Law) -> dict[str, KnownFunction]:
    """Return the functions, their slopes scaled: ``var <slope, z> = 1`` for independent noise."""
    generator = torch.Generator().manual_seed(0)
    p1, p2 = independent.grid
    blocks = two_blocks(p1, p2)
    places = torch.randperm(p1 * p2, generator=generator)
    scattered = blocks.flatten()[places].reshape(p1, p2)
    wave = torch.randn(p1, p2, generator=generator, dtype=torch.float64)
    wave *= WAVES / independent.variance(wave) ** 0.5
    blocks, scattered = (g / independent.variance(g) ** 0.5 for g in (blocks, scattered))
    return {
        "blocks": KnownFunction(blocks, wave, 1.0, 0.0),
        "blocks, rough": KnownFunction(blocks, wave, 0.3, 0.7),
        "scattered": KnownFunction(scattered, wave, 1.0, 0.0),
    }


def two_blocks(p1: int, p2: int) -> Tensor:
    """Return a rectangle of +1 above one of -.5, ``(p1, p2)``, some 15 % of the pixels each."""
    g = torch.zeros(p1, p2, dtype=torch.float64)
    g[p1 // 6 : p1 // 2, p2 // 6 : (3 * p2) // 5] = 1
    g[(3 * p1) // 5 : p1 - p1 // 8, (2 * p2) // 5 : p2 - p2 // 8] = -0.5
    return g


def law_row(name: str, f: KnownFunction, law: Law, draws: int = 20_000) -> dict[str, Any]:
    """Return what decides the error of the plain LEG, and the error that follows for n = 1000.

    The mean square of the error is near ``var f trace Sigma^-1 / n``.
    """
    variance = f(law.draw(draws)).var().item()
    gamma = f.gamma(law)
    trace_of_inverse = torch.linalg.inv(law.matrix()).trace().item()
    length = without_mean(gamma).norm().item()
    return dict(
        function=name,
        law=law.name,
        sigma=law.sigma,
        total=law.matrix().trace().item(),
        trace_of_inverse=trace_of_inverse,
        gamma=length,
        variance_f=variance,
        linear=law.variance(gamma) / variance,
        expected=(variance * trace_of_inverse / 1000) ** 0.5 / length,
    )


def without_mean(g: Tensor) -> Tensor:
    return g - g.mean((-2, -1), keepdim=True)


@dataclass(frozen=True, eq=False)
class Curve:
    """Errors of a function and a law.

    Attributes:
        function: Its name.
        law: Its name.
        numbers: The values of n.
        errors: ``(len(numbers), 1 + len(K_LS), seeds)``: LEG's, then LEG-TV's for each K_L.
    """

    function: str
    law: str
    numbers: list[int]
    errors: Tensor

    @property
    def mean(self) -> Tensor:
        """``(len(numbers), 1 + len(K_LS))``."""
        return self.errors.mean(2)

    @property
    def stderr(self) -> Tensor:
        """Standard errors of `mean`."""
        return self.errors.std(2) / self.errors.shape[2] ** 0.5

    @property
    def chosen(self) -> dict[str, Tensor]:
        """Columns of `mean` for each n: LEG, the fixed K_L and the best one."""
        best = 1 + self.mean[:, 1:].argmin(1)
        fixed = torch.full_like(best, 1 + K_LS.index(FIXED))
        return {"LEG": torch.zeros_like(best), f"LEG-TV {FIXED:g}": fixed, "LEG-TV best": best}

    def rows(self) -> list[dict[str, Any]]:
        """Return a row for each n, with the methods beside each other."""
        rows = []
        for place, n in enumerate(self.numbers):
            row: dict[str, Any] = dict(function=self.function, law=self.law, n=n)
            for method, columns in self.chosen.items():
                column = int(columns[place])
                row[method] = self.mean[place, column].item()
                row[f"± {method.removeprefix('LEG-TV ')}"] = self.stderr[place, column].item()
            row["K_L"] = K_LS[int(self.chosen["LEG-TV best"][place]) - 1]
            rows.append(row)
        return rows

    def every(self) -> list[dict[str, Any]]:
        """Return a row for each n and K_L, 0 for the plain LEG."""
        return [
            dict(
                function=self.function,
                law=self.law,
                n=n,
                K_L=K_L,
                error=self.mean[place, column].item(),
                stderr=self.stderr[place, column].item(),
            )
            for place, n in enumerate(self.numbers)
            for column, K_L in enumerate((0.0, *K_LS))
        ]


def measure(name: str, f: KnownFunction, law: Law, numbers: list[int], seeds: int) -> Curve:
    """Estimate with every n and K_L; a seed is one experiment, shared by the methods."""
    truth = f.gamma(law)
    errors = torch.empty(len(numbers), 1 + len(K_LS), seeds, dtype=torch.float64)
    for place, n in enumerate(numbers):
        for seed in range(seeds):
            plain, penalised = estimates(f, law, n, seed)
            errors[place, :, seed] = relative_errors(torch.cat([plain[None], penalised]), truth)
        print(f"\r{name}, {law.name}, n = {n}    ", end="", flush=True)
    print()
    return Curve(name, law.name, numbers, errors)


def estimates(f: KnownFunction, law: Law, n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return LEG ``(p1, p2)`` and LEG-TV for each K_L ``(len(K_LS), p1, p2)``."""
    empirical = hessx.leg(
        f,
        torch.zeros(1, *law.grid, dtype=torch.float64),
        sigma=law.sigma,
        covariance=law.covariance,
        n_samples=n,
        seed=seed,
    )
    return empirical.gamma[0], leg_tv_from(empirical, K_L=K_LS).gamma[0]


def relative_errors(estimates: Tensor, truth: Tensor) -> Tensor:
    """Return ``|estimate - truth| / |truth|`` without the means: ``(M, p1, p2)`` to ``(M,)``."""
    truth = without_mean(truth)
    return (without_mean(estimates) - truth).flatten(1).norm(dim=1) / truth.norm()


def draw(curves: list[Curve], path: Path) -> None:
    """Draw a panel for each function."""
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(curve.function for curve in curves))
    canvas = Figure(figsize=(11, 3.6), layout="constrained")
    axes = canvas.subplots(1, len(names), sharey=True, squeeze=False)[0]
    panels = dict(zip(names, axes, strict=True))
    for curve in curves:
        colour = GREEN if curve.law == "GridTV" else "#777777"
        styles = zip(curve.chosen.items(), (":", "--", "-"), strict=True)
        for (method, columns), style in styles:
            index = columns[:, None]
            panels[curve.function].errorbar(
                curve.numbers,
                curve.mean.gather(1, index)[:, 0],
                curve.stderr.gather(1, index)[:, 0],
                color=colour,
                linestyle=style,
                marker="o",
                markersize=2.5,
                label=f"{method}, {curve.law}",
            )
    for name, panel in panels.items():
        panel.set(xscale="log", yscale="log", title=name, xlabel="samples n")
        panel.spines[["top", "right"]].set_visible(False)
    panels[names[0]].set_ylabel("relative error")
    panels[names[-1]].legend(frameon=False, fontsize=7)
    save_png(canvas, path)


if __name__ == "__main__":
    main()
