"""Infidelity and sensitivity against the radius of smoothing: Figure 6 of the paper.

``python -m bench.infidelity_smoothing`` smooths the gradient of the digits net over cubes of radius
.1 to 2, 200 draws each, and scores the result with the settings of appendix B.1 under the noisy
baseline, and under Gaussian noise of the same deviation around the digit for comparison.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hessx
from bench.common import machine
from bench.explanations import gradient, smoothed
from bench.infidelity_scores import Method, Scores, mean_and_error, score, table
from bench.pictures import OUT, Panel, draw_panels, save_png, write_table
from bench.strided_nets import digits_net, held_out_digits
from hessx.plot import diverging_colors, symmetric_limit

RADII = (0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0)
PLAIN = "0"
_SHOWN_IMAGES = 4


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--radii", nargs="+", type=float, default=list(RADII))
    parser.add_argument("--images", type=int, default=50, help="for infidelity")
    parser.add_argument("--sensitive", type=int, default=6, help="of them, for sensitivity")
    parser.add_argument("--out", type=Path, default=OUT, help="folder of tables and pictures")
    options = parser.parse_args()
    print(machine())
    start = time.perf_counter()
    net = digits_net()
    x = held_out_digits()[0][: options.images]
    target = net(x).argmax(1)
    explain = gradient(net)
    methods = [Method(PLAIN, explain)]
    methods += [
        Method(f"{radius:g}", smoothed(explain, radius=radius), PLAIN) for radius in options.radii
    ]
    scores = score(net, x, target, methods, laws(), sensitive=options.sensitive, label="digits")
    write_table(rows(scores, methods), options.out / "infidelity_smoothing.csv")
    draw_curves(scores, methods, options.out / "infidelity_smoothing.png")
    draw_maps(x.numpy(), scores, methods, options.out / "infidelity_smoothing_maps.png")
    print(f"{time.perf_counter() - start:.0f} s")


def laws() -> dict[str, Any]:
    """Return the noisy baseline, and noise of the same deviation around the digit."""
    return {
        "NB": hessx.perturb.NoisyBaseline(sigma=0.2),
        "noise": hessx.perturb.Gaussian(0.2),
    }


def rows(scores: Scores, methods: Sequence[Method]) -> list[dict[str, Any]]:
    """Return a row for each radius; infidelities also less that of the plain gradient."""
    found = table(scores, methods)
    for row, method in zip(found, methods, strict=False):
        for law, by_method in scores.infidelity.items():
            change = by_method[method.name] - by_method[PLAIN]
            row[f"{law}_change"], row[f"{law}_change_se"] = mean_and_error(change)
    del found[len(methods) :]
    return [{"radius": row.pop("method"), **row} for row in found]


def draw_curves(scores: Scores, methods: Sequence[Method], path: Path) -> None:
    """Draw means with bars of one standard error over the radius."""
    from matplotlib.figure import Figure

    canvas = Figure(figsize=(9, 3), layout="constrained")
    panels = {
        "infidelity, noisy baseline": scores.infidelity["NB"],
        "infidelity, noise around the digit": scores.infidelity["noise"],
        "sensitivity": scores.sensitivity,
    }
    radii = [float(method.name) for method in methods]
    for axes, (title, values) in zip(canvas.subplots(1, 3), panels.items(), strict=True):
        if values:
            means, errors = zip(
                *(mean_and_error(values[method.name]) for method in methods), strict=True
            )
            axes.errorbar(radii, means, errors, marker="o", markersize=3, linewidth=1.2)
        axes.set(title=title, xlabel="smoothing radius")
        axes.set_ylim(bottom=0)
    save_png(canvas, path)


def draw_maps(x: Any, scores: Scores, methods: Sequence[Method], path: Path) -> None:
    """Draw the first digits and what smoothing makes of their gradients."""
    lines = {}
    for row in range(min(_SHOWN_IMAGES, len(x))):
        panels = [Panel(x[row, 0])]
        for method in methods:
            picture = scores.maps[method.name][row, 0].numpy()
            panels.append(Panel(diverging_colors(picture, symmetric_limit(picture, 0.99))))
        lines[f"image {row + 1}"] = panels
    draw_panels(lines, ["image", *(f"radius {method.name}" for method in methods)], path)


if __name__ == "__main__":
    main()
