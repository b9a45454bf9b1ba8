"""Infidelity and sensitivity of gradient-based and optimal explanations: section 5 of the paper.

``python -m bench.infidelity_tables`` explains held-out digits and test images of Fashion-MNIST with
the settings of appendix B.1. Local explanations answer for the noisy baseline, in the authors'
sense; global ones, multiplied by the picture, for removed squares and for the Shapley kernel's
coalitions. Smoothing averages over a cube of radius .2 with 200 draws, of the optimal explanations
with a few: each of their draws is a regression of its own.

"nothing" is the explanation 0, whose infidelity is the mean square of the net's answer.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

import hessx
from bench.common import machine
from bench.explanations import (
    Explanation,
    Remembered,
    gradient,
    guided_backprop,
    integrated_gradients,
    multiplied,
    optimal,
    smooth_grad,
    smoothed,
    without_dummies,
)
from bench.infidelity_scores import Method, Scores, score, smoothing_effects, table
from bench.pictures import OUT, Panel, draw_panels, write_table
from bench.strided_nets import (
    accuracy,
    digits_net,
    fashion_net,
    held_out_digits,
    held_out_fashion,
)
from hessx.plot import diverging_colors, symmetric_limit

SMOOTHGRAD_SAMPLES = 20
# In every draw of a kernel, 200 of which average what fewer leave: a median error of 2 % (digits)
# and 9 % (Fashion-MNIST) of f(x) - f(0) for 5 steps, and SmoothGrad's noise.
INNER_SAMPLES = 2
INNER_STEPS = 5
NB, SQUARE, SHAP = "NB", "Square", "SHAP"
SMOOTHED = " smoothed"
_SHOWN_IMAGES = 5


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", nargs="+", choices=DATA, default=list(DATA))
    parser.add_argument("--images", type=int, default=25, help="for infidelity")
    parser.add_argument("--sensitive", type=int, default=4, help="of them, for sensitivity")
    parser.add_argument("--samples", type=int, default=20_000, help="of optimal explanations")
    parser.add_argument(
        "--optimal-draws", type=int, default=5, help="that smooth optimal explanations; 0: none"
    )
    parser.add_argument("--out", type=Path, default=OUT, help="folder of tables and pictures")
    options = parser.parse_args()
    print(machine())
    for name in options.data:
        start = time.perf_counter()
        data = DATA[name]()
        print(f"{name}: accuracy {accuracy(data.net, data.x, data.y):.3f}", flush=True)
        x = data.x[: options.images]
        target = data.net(x).argmax(1)
        basic = explanations(data.net)
        optima = Optima(options.samples, options.optimal_draws)
        for form, methods, laws in (
            ("local", local_methods(data.net, basic, optima), local_laws()),
            ("global", global_methods(data.net, basic, optima), global_laws()),
        ):
            scores = score(
                data.net,
                x,
                target,
                methods,
                laws,
                sensitive=options.sensitive,
                label=f"{name}, {form}",
            )
            stem = f"infidelity_{name}_{form}"
            write_table(table(scores, methods), options.out / f"{stem}.csv")
            effects = smoothing_effects(scores, methods)
            write_table(effects, options.out / f"{stem}_smoothing.csv")
            draw(x, methods, scores, options.out / f"{stem}.png")
        print(f"{name}: {time.perf_counter() - start:.0f} s", flush=True)


@dataclass(frozen=True, eq=False)
class Data:
    """A net and images that it was not trained on."""

    net: nn.Module
    x: Tensor
    y: Tensor


DATA: dict[str, Callable[[], Data]] = {
    "digits": lambda: Data(digits_net(), *held_out_digits()),
    "fashion": lambda: Data(fashion_net(), *held_out_fashion()),
}


@dataclass(frozen=True)
class Optima:
    """How optimal explanations are found and smoothed.

    Attributes:
        samples: Perturbations that each is fitted to; all squares are taken.
        draws: That smooth it, or 0 to leave that out.
    """

    samples: int
    draws: int


def local_laws() -> dict[str, hessx.perturb.NoisyBaseline]:
    """Return the perturbation that local explanations answer for."""
    return {NB: hessx.perturb.NoisyBaseline(sigma=0.2)}


def global_laws() -> dict[str, Any]:
    """Return the perturbations that global explanations answer for."""
    return {SQUARE: hessx.perturb.Square(sides=range(1, 11)), SHAP: hessx.perturb.Shap()}


def explanations(net: nn.Module) -> dict[str, Explanation]:
    """Return the explanations that are no optima, local, each followed by its smoothed form."""
    found = {}
    for name, plain, inner in (
        ("Grad", gradient(net), gradient(net)),
        ("IG", integrated_gradients(net), integrated_gradients(net, INNER_STEPS)),
        ("GBP", guided_backprop(net), guided_backprop(net)),
        ("SmoothGrad", smooth_grad(net, SMOOTHGRAD_SAMPLES), smooth_grad(net, INNER_SAMPLES)),
    ):
        found[name] = Remembered(plain)
        found[name + SMOOTHED] = Remembered(smoothed(inner))
    return found


def local_methods(net: nn.Module, basic: dict[str, Explanation], optima: Optima) -> list[Method]:
    """Return the local explanations."""
    best = optimal(net, local_laws()[NB], optima.samples)
    return [*_methods(basic), *_optimal_methods(NB, best, optima)]


def global_methods(net: nn.Module, basic: dict[str, Explanation], optima: Optima) -> list[Method]:
    """Return the global explanations, multiplied by the picture."""
    products = {name: multiplied(explain) for name, explain in basic.items()}
    methods = _methods(products)
    for name, law in global_laws().items():
        samples = None if name == SQUARE else optima.samples
        found = _optimal_methods(name, optimal(net, law, samples), optima)
        if name == SHAP:
            found = [replace(one, explain=without_dummies(one.explain)) for one in found]
        methods += found
    return methods


def _methods(basic: dict[str, Explanation]) -> list[Method]:
    return [
        Method(name, explain, name.removesuffix(SMOOTHED) if name.endswith(SMOOTHED) else None)
        for name, explain in basic.items()
    ]


def _optimal_methods(name: str, explain: Explanation, optima: Optima) -> list[Method]:
    methods = [Method(name, explain)]
    if optima.draws:
        smooth = smoothed(explain, n_samples=optima.draws, batch=optima.draws)
        # Its sensitivity would take some hundred regressions for each of 50 points.
        methods.append(Method(name + SMOOTHED, smooth, name, points=0))
    return methods


def draw(x: Tensor, methods: Sequence[Method], scores: Scores, path: Path) -> None:
    """Draw the first images and their maps, each on its own scale."""
    lines = {}
    for row in range(min(_SHOWN_IMAGES, len(x))):
        panels = [Panel(x[row, 0].numpy())]
        for method in methods:
            picture = scores.maps[method.name][row, 0].numpy()
            # Noise has outliers: the strongest hundredth shares a colour.
            panels.append(Panel(diverging_colors(picture, symmetric_limit(picture, 0.99))))
        lines[f"image {row + 1}"] = panels
    draw_panels(lines, ["image", *(method.name for method in methods)], path)


if __name__ == "__main__":
    main()
