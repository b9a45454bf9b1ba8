"""Digits explained by LEG, LEG-TV and five methods of Captum: Figure 8 of the LEG paper.

``python -m bench.leg_gallery`` explains the first held-out digits of some classes and a LeNet. LEG
and LEG-TV explain the probability of the true class, a black box with values in [0, 1] as the paper
has it, at ``sigma^2 = .1``; the methods of Captum see the network and explain the logit, which they
are made for. The paper leaves their baselines open: DeepLIFT's is a black picture, GradientSHAP's
are training digits, occlusion paints patches of 4 x 4 pixels black.

"LEG-Exact" in the paper is the empirical LEG. Here the column "LEG exact" has 100,000 samples, and
the table gives the cosine of each map with it, means taken off (LEG-TV leaves them open).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import hessx
from bench.common import machine
from bench.nets import lenet
from bench.pictures import OUT, Panel, draw_panels, write_table
from hessx.explain.leg_tv import leg_tv_from
from hessx.plot import diverging_colors, symmetric_limit
from tests.references.digits import digits

EXACT = "LEG exact"
# The paper's two, and a larger one that flattens more of the noise.
K_LS = (0.05, 0.1, 0.3)
N_TRAIN = 4000
PATCH = (1, 4, 4)
STRIDE = (1, 2, 2)
N_BASELINES = 20
GRADIENT_SAMPLES = 50


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--digits", nargs="+", type=int, default=[2, 3, 4, 7, 9], help="classes")
    parser.add_argument("--samples", type=int, default=3000, help="of LEG and LEG-TV")
    parser.add_argument("--exact", type=int, default=100_000, help='samples of "LEG exact"')
    parser.add_argument("--sigma", type=float, default=0.1**0.5, help="for pixels in [0, 1]")
    parser.add_argument("--out", type=Path, default=OUT, help="folder of tables and pictures")
    options = parser.parse_args()
    print(machine())
    start = time.perf_counter()
    net = lenet()
    pictures, labels = digits()
    pictures = pictures.reshape(-1, 1, 28, 28)
    baselines = pictures[:N_BASELINES]
    lines, table = {}, []
    for label in options.digits:
        place = N_TRAIN + int((labels[N_TRAIN:] == label).nonzero()[0])
        x = pictures[place : place + 1]
        maps = gallery(net, x, label, baselines, options.sigma, options.samples, options.exact)
        table += rows(label, maps)
        # Noise has outliers: the strongest hundredth shares a colour.
        colours = [
            Panel(diverging_colors(found.map.numpy(), symmetric_limit(found.map.numpy(), 0.99)))
            for found in maps
        ]
        lines[f"{label}, p {probability(net, label)(x).item():.3f}"] = [
            Panel(x[0, 0].numpy()),
            *colours,
        ]
    write_table(table, options.out / "leg_gallery.csv")
    write_table(summary(table), options.out / "leg_gallery_summary.csv")
    titles = ["digit", *(found.method for found in maps)]
    draw_panels(lines, titles, options.out / "leg_gallery.png")
    print(f"{time.perf_counter() - start:.0f} s")


@dataclass(frozen=True, eq=False)
class Explained:
    """One method's answer for one digit.

    Attributes:
        method: Its name.
        map: ``(28, 28)``, signed.
        seconds: Wall clock.
        noise: Of a LEG, the share of its squared length that its standard errors account for.
    """

    method: str
    map: Tensor
    seconds: float
    noise: float | str = ""


def probability(net: nn.Module, target: int) -> Callable[[Tensor], Tensor]:
    """Return the function whose values LEG sees, a probability."""

    @torch.no_grad()
    def f(x: Tensor) -> Tensor:
        return net(x).softmax(1)[:, target]

    return f


def gallery(
    net: nn.Module,
    x: Tensor,
    target: int,
    baselines: Tensor,
    sigma: float,
    n_samples: int,
    n_exact: int,
) -> list[Explained]:
    """Explain ``x (1, 1, p1, p2)`` by every method."""
    f = probability(net, target)
    # Its noise is not that of the estimates it is compared with.
    exact = hessx.leg(f, x, sigma=sigma, n_samples=n_exact, seed=1)
    plain = hessx.leg(f, x, sigma=sigma, n_samples=n_samples)
    found = [
        Explained(EXACT, exact.gamma[0, 0], exact.seconds, _noise(exact)),
        Explained("LEG", plain.gamma[0, 0], plain.seconds, _noise(plain)),
    ]
    for K_L in K_LS:
        penalised = leg_tv_from(plain, K_L=K_L)
        seconds = plain.seconds + penalised.seconds
        found.append(Explained(f"LEG-TV {K_L:g}", penalised.gamma[0, 0], seconds))
    for method, explain in captum_methods(net, x, target, baselines).items():
        start = time.perf_counter()
        answer = explain()
        found.append(Explained(method, answer[0, 0].detach(), time.perf_counter() - start))
    return found


def captum_methods(
    net: nn.Module, x: Tensor, target: int, baselines: Tensor
) -> dict[str, Callable[[], Tensor]]:
    """Return the methods of Captum that explain the logit of ``target`` at ``x``."""
    from captum.attr import LRP, DeepLift, GradientShap, Occlusion, Saliency

    x = x.detach().clone().requires_grad_()

    def gradient_shap() -> Tensor:
        # Captum draws the baselines and the points with NumPy's global generator, noise with torch.
        state = np.random.get_state()  # noqa: NPY002
        try:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                np.random.seed(0)  # noqa: NPY002
                method = GradientShap(net)
                return method.attribute(x, baselines, GRADIENT_SAMPLES, target=target)
        finally:
            np.random.set_state(state)  # noqa: NPY002

    return {
        "Gradient": lambda: Saliency(net).attribute(x, target, abs=False),
        "DeepLIFT": lambda: DeepLift(net).attribute(x, torch.zeros_like(x), target),
        "ε-LRP": lambda: LRP(net).attribute(x, target),
        "Occlusion": lambda: Occlusion(net).attribute(x, PATCH, STRIDE, target=target),
        "GradientSHAP": gradient_shap,
    }


def _noise(leg: hessx.Leg) -> float:
    return (leg.stderr.square().sum() / leg.gamma.square().sum()).item()


def rows(label: int, maps: list[Explained]) -> list[dict[str, Any]]:
    """Return a row for each method, compared with the exact LEG, which comes first."""
    exact = _centred(maps[0].map)
    return [
        dict(
            digit=label,
            method=found.method,
            cosine=torch.cosine_similarity(_centred(found.map), exact, dim=0).item(),
            noise=found.noise,
            flat=flat_share(found.map),
            seconds=found.seconds,
        )
        for found in maps
    ]


def flat_share(picture: Tensor) -> float:
    """Return the share of neighbours whose values differ by less than 1e-6 of the range."""
    down, right = picture.diff(dim=0).flatten(), picture.diff(dim=1).flatten()
    differences = torch.cat([down, right]).abs()
    spread = picture.max() - picture.min()
    return (differences <= 1e-6 * spread).double().mean().item()


def _centred(picture: Tensor) -> Tensor:
    flat = picture.double().flatten()
    return flat - flat.mean()


def summary(table: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the means over the digits for each method."""
    by_method: dict[str, list[dict[str, Any]]] = {}
    for row in table:
        by_method.setdefault(row["method"], []).append(row)
    means = []
    for method, found in by_method.items():
        row: dict[str, Any] = dict(method=method)
        for name in ("cosine", "noise", "flat", "seconds"):
            values = [one[name] for one in found]
            row[name] = "" if "" in values else sum(values) / len(values)
        means.append(row)
    return means


if __name__ == "__main__":
    main()
