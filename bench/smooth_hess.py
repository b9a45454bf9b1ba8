"""SmoothHess against its closed form: error, reported error and time against gradients.

``python -m bench.smooth_hess`` prints the table; ``--figure PATH`` also draws it.

A 784-500-10 ReLU net trained on MNIST digits, one digit, the logit of its class. ``Eq. (8)`` is
the paper's estimator as printed, ``reflected`` the same with pairs (delta, -delta) as its published
code draws them (our transcription), ``centred`` the sample covariance, ``gls`` the library's own.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

import hessx
from bench.common import machine
from tests.references.closed_form import smooth_taylor
from tests.references.digits import digits, one_hidden_layer
from tests.references.reflected import reflected_smooth_hess

SIGMAS = (0.0179, 0.1, 0.3)
SAMPLES = (200, 800, 3200, 12_800)
SEEDS = range(3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--figure", type=Path, help="write the figure of error against gradients")
    figure = parser.parse_args().figure
    print(machine())
    net, x = one_hidden_layer(), digits()[0][4000:4001]
    with torch.no_grad():
        target = int(net(x).argmax())
    table = {}
    for sigma in SIGMAS:
        _, truth = smooth_taylor(net, target, x[0], sigma**2 * torch.eye(784))
        print(f"sigma {sigma}: relative Frobenius error, median of {len(SEEDS)} seeds (ms a call)")
        for n in SAMPLES:
            cells, reported = [], []
            for name, estimate in estimators(net, x, target, sigma, n).items():
                errors, times = [], []
                for seed in SEEDS:
                    start = time.perf_counter()
                    hessian, claimed = estimate(seed)
                    times.append(time.perf_counter() - start)
                    errors.append(((hessian.double() - truth).norm() / truth.norm()).item())
                    if name == "gls":
                        reported.append(claimed / errors[-1])
                table[name, sigma, n] = statistics.median(errors)
                cells.append(
                    f"{name} {table[name, sigma, n]:8.4f} ({statistics.median(times) * 1e3:5.0f})"
                )
            print(
                f"  n={n:<6}",
                "  ".join(cells),
                f"  reported/true {statistics.median(reported):.2f}",
            )
    if figure:
        draw(table, figure)


def estimators(
    net: torch.nn.Sequential, x: Tensor, target: int, sigma: float, n: int
) -> dict[str, Callable[[int], tuple[Tensor, float]]]:
    """Return functions from a seed to a dense Hessian and the error it claims."""

    def ours(estimator: str) -> Callable[[int], tuple[Tensor, float]]:
        def estimate(seed: int) -> tuple[Tensor, float]:
            result = hessx.smooth_hess(
                net, x, target, sigma=sigma, n_samples=n, estimator=estimator, seed=seed
            )
            return result.to_dense()[0], result.relative_error.item()

        return estimate

    def reflected(seed: int) -> tuple[Tensor, float]:
        _, hessian = reflected_smooth_hess(lambda z: net(z)[:, target], x[0], sigma, n, seed=seed)
        return hessian, float("nan")

    return {
        "Eq. (8)": ours("stein"),
        "reflected": reflected,
        "centred": ours("centered"),
        "gls": ours("gls"),
    }


def draw(table: dict[tuple[str, float, int], float], path: Path) -> None:
    """Draw error against the number of gradients, one panel a sigma."""
    from matplotlib.figure import Figure

    canvas = Figure(figsize=(9, 3.2), layout="constrained")
    panels = canvas.subplots(1, len(SIGMAS), sharey=True)
    colours = {"Eq. (8)": "#999999", "reflected": "#d08770", "centred": "#5e81ac", "gls": "#1b7f4b"}
    for panel, sigma in zip(panels, SIGMAS, strict=True):
        for name, colour in colours.items():
            errors = [table[name, sigma, n] for n in SAMPLES]
            width = 2.5 if name == "gls" else 1.5
            panel.loglog(SAMPLES, errors, "o-", color=colour, label=name, lw=width, ms=4)
        panel.axhline(1, color="#cccccc", lw=0.8, zorder=0)
        panel.set(title=f"sigma = {sigma}", xlabel="gradients")
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("relative error of the Hessian")
    panels[-1].legend(frameon=False, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    canvas.savefig(path)
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
