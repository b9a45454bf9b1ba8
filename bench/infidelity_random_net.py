"""Do explanations change when the net forgets all it has learnt? Figure 9 of the paper.

``python -m bench.infidelity_random_net`` explains photographs by EfficientNet-Lite0 and by the
same net with all of its layers re-initialised, always the class that the trained one predicts. It
prints the rank correlation of each method's two maps on 14 x 14 cells: of signed maps, and of
magnitudes. The optimal explanation is that of all squares of four sides, so that it has no noise
of sampling.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import hessx
from bench.classifiers import SUBJECTS, Subject, predicted
from bench.common import machine
from bench.infidelity_scores import mean_and_error
from bench.photographs import displayed
from bench.picture_explanations import Asked, picture_explanations
from bench.pictures import OUT, Panel, draw_panels, write_table
from hessx.plot import diverging_colors, symmetric_limit

PHOTOGRAPHS = ("coffee", "chelsea", "motorcycle", "rocket")
CELLS = (14, 14)
SIDES = (1, 2, 3, 4)
OPTIMAL = "Square"
# By photograph, then by method: (3, H, W).
Maps = dict[str, dict[str, Tensor]]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--photographs", nargs="+", default=list(PHOTOGRAPHS))
    parser.add_argument("--sides", nargs="+", type=int, default=list(SIDES), help="of squares")
    parser.add_argument("--out", type=Path, default=OUT, help="folder of tables and pictures")
    options = parser.parse_args()
    print(machine())
    start = time.perf_counter()
    subject = SUBJECTS["efficientnet"]()
    inputs = {name: subject.inputs(name) for name in options.photographs}
    trained, randomised = maps_of_both(subject, inputs, options.sides)
    write_table(
        correlations(inputs, trained, randomised), options.out / "infidelity_random_net.csv"
    )
    draw(subject, inputs, trained, randomised, options.out / "infidelity_random_net.png")
    print(f"{time.perf_counter() - start:.0f} s")


def maps_of_both(
    subject: Subject, inputs: Mapping[str, Tensor], sides: Sequence[int]
) -> tuple[Maps, Maps]:
    """Return the maps of the trained net and of the re-initialised one."""
    targets = {name: predicted(subject.net, x)[0] for name, x in inputs.items()}
    law = hessx.perturb.Square(sides=sides, features=hessx.Grid(CELLS))
    black, white = subject.range
    states: list[str] = []

    def explain(net: nn.Module) -> Maps:
        states.append("trained" if not states else "randomised")
        if states[-1] == "randomised":
            recount(net, torch.cat(list(inputs.values())))
        asked = Asked(net, net.get_submodule("_bn1"), white - black)
        methods = picture_explanations(asked, guided=False)
        found: Maps = {}
        for name, x in inputs.items():
            start = time.perf_counter()
            target = torch.tensor([targets[name]])
            found[name] = {method: of(x, target)[0] for method, of in methods.items()}
            best = hessx.optimal_explanation(net, x, target, perturb_func=law, n_samples=None)
            found[name][OPTIMAL] = best.attributions[0].to(x)
            seconds = time.perf_counter() - start
            print(f"{name}, {states[-1]}: {seconds:.0f} s", flush=True)
        return found

    # The net itself is one layer that holds all others: one step re-initialises everything.
    cascade = hessx.cascading_randomization(
        subject.net, explain, layers=[""], show_progress=sys.stderr.isatty()
    )
    return cascade.trained, cascade.results[-1]


@torch.no_grad()
def recount(net: nn.Module, x: Tensor) -> None:
    """Let batch normalisation count its statistics anew, on these inputs.

    With the 0 and 1 of fresh layers a picture's part in the logits fades from layer to layer until
    it is below rounding.
    """
    normalisations = [m for m in net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    momenta = [module.momentum for module in normalisations]
    for module in normalisations:
        module.reset_running_stats()
        # A plain mean over what is seen.
        module.momentum = None
        module.train()
    net(x)
    for module, momentum in zip(normalisations, momenta, strict=True):
        module.momentum = momentum
        module.eval()


def correlations(
    inputs: Mapping[str, Tensor], trained: Maps, randomised: Maps
) -> list[dict[str, Any]]:
    """Return a row for each method: rank correlations, means over photographs.

    "brightness" is that of the randomised net's magnitudes with the picture's distance from 0.
    """
    rows = []
    for method in next(iter(trained.values())):
        pairs = [(cells(trained[name][method]), cells(randomised[name][method])) for name in inputs]
        seen = [cells(x[0].abs()) for x in inputs.values()]
        values = dict(
            signed=[rank_correlation(a, b) for a, b in pairs],
            magnitude=[rank_correlation(a.abs(), b.abs()) for a, b in pairs],
            brightness=[
                rank_correlation(b.abs(), x) for (_, b), x in zip(pairs, seen, strict=True)
            ],
        )
        row: dict[str, Any] = dict(method=method)
        for name, of_photographs in values.items():
            row[name], row[f"{name}_se"] = mean_and_error(torch.tensor(of_photographs))
        rows.append(row)
    return rows


def cells(attribution: Tensor) -> Tensor:
    """Return the sum of ``(3, H, W)`` over the colours, and its mean over each cell."""
    pooled = nn.functional.adaptive_avg_pool2d(attribution.double().sum(0)[None], CELLS)
    return pooled.flatten()


def rank_correlation(a: Tensor, b: Tensor) -> float:
    """Return Spearman's coefficient."""
    from scipy.stats import spearmanr

    return float(spearmanr(a.numpy(), b.numpy()).statistic)


def draw(
    subject: Subject,
    inputs: Mapping[str, Tensor],
    trained: Maps,
    randomised: Maps,
    path: Path,
) -> None:
    """Draw magnitudes of both nets' maps, one below the other."""
    lines = {}
    for name, x in inputs.items():
        image = Panel(displayed(subject.classifier, x[0]))
        for state, maps in (("trained", trained), ("random", randomised)):
            panels = [image]
            for attribution in maps[name].values():
                picture = cells(attribution).reshape(CELLS).numpy()
                panels.append(Panel(diverging_colors(picture, symmetric_limit(picture, 0.99))))
            lines[f"{name}, {state}"] = panels
    draw_panels(lines, ["image", *next(iter(trained.values()))], path)


if __name__ == "__main__":
    main()
