"""Does LEG-TV vanish as a network forgets? Section 5.1 of the LEG paper.

``python -m bench.leg_cascade`` re-initialises the layers of EfficientNet-Lite0 and of SqueezeNet
one after another, from the output down, and explains every state by LEG-TV. The bounds L are those
of the trained network, ``K_L L_max``, for each photograph: with an L made of the random
network's own L_max, zero would never be a solution. It prints, for each state, the share of
neighbours that differ in the estimate, how many photographs have none, and the smallest K_L for
which that would be so: the largest L_max of this state over the trained network's.

The paper leaves the noise to the user. Here its variance is the one of a few that changes the
probability of the trained network most, for each photograph; perturbed pixels are clipped to black
and white.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import hessx
from bench.classifiers import GRID, SUBJECTS, Subject, predicted, telling_variance
from bench.common import machine
from bench.photographs import displayed
from bench.pictures import OUT, Panel, draw_panels, write_table
from hessx import Cascade, LegTV

PHOTOGRAPHS = ("coffee", "chelsea", "motorcycle", "rocket", "china")
# Neighbours differ if they do so beyond rounding.
_ROUNDING = 1e-9


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nets", nargs="+", choices=SUBJECTS, default=list(SUBJECTS))
    parser.add_argument("--photographs", nargs="+", default=list(PHOTOGRAPHS))
    parser.add_argument("--samples", type=int, default=500, help="evaluations for each estimate")
    parser.add_argument("--k-l", type=float, default=0.3, help="K_L of the trained network")
    parser.add_argument("--out", type=Path, default=OUT, help="folder of tables and pictures")
    options = parser.parse_args()
    print(machine())
    table: list[dict[str, Any]] = []
    # What is missing is missed before the work begins.
    subjects = {name: SUBJECTS[name]() for name in options.nets}
    for name, subject in subjects.items():
        start = time.perf_counter()
        cases = [Case.of(subject, photograph) for photograph in options.photographs]
        cascade = forget(subject, cases, options.samples, options.k_l)
        table += rows(subject, name, cases, cascade)
        draw(subject, cases, cascade, options.out / f"leg_cascade_{name}.png")
        print(f"{name}: {time.perf_counter() - start:.0f} s")
    write_table(table, options.out / "leg_cascade.csv", show=False)
    summary = summarised(table)
    write_table(summary, options.out / "leg_cascade_summary.csv")


@dataclass(frozen=True, eq=False)
class Case:
    """A photograph with what is asked about it.

    Attributes:
        photograph: Its name.
        x: ``(1, 3, H, W)``.
        target: The class that the trained network predicts.
        variance: Of the noise, in units of the range of a pixel.
    """

    photograph: str
    x: Tensor
    target: int
    variance: float

    @classmethod
    def of(cls, subject: Subject, photograph: str) -> Case:
        """Read a photograph and choose its noise."""
        x = subject.inputs(photograph)
        target, probability = predicted(subject.net, x)
        variance = telling_variance(subject, x, target, GRID)
        print(
            f"{subject.classifier.name}, {photograph}: "
            f"{subject.classifier.class_names[target]} {probability:.2f}, variance {variance:g}",
            flush=True,
        )
        return cls(photograph, x, target, variance)


def forget(
    subject: Subject, cases: Sequence[Case], samples: int, k_l: float
) -> Cascade[list[LegTV]]:
    """Explain all cases by every state of a copy of the network."""
    bounds: list[Tensor] = []

    def explain(net: nn.Module) -> list[LegTV]:
        found = []
        for place, case in enumerate(cases):
            estimate = hessx.leg(
                lambda x: net(x).softmax(1),
                case.x,
                case.target,
                sigma=subject.sigma(case.variance),
                features=GRID,
                n_samples=samples,
                clip=subject.range,
            )
            # The first state is the trained one.
            bound = dict(L=bounds[place]) if place < len(bounds) else dict(K_L=k_l)
            found.append(hessx.leg_tv_from(estimate, mean="zero", **bound))
        if not bounds:
            bounds.extend(result.L for result in found)
        return found

    return hessx.cascading_randomization(
        subject.net, explain, layers=subject.layers, show_progress=sys.stderr.isatty()
    )


def rows(
    subject: Subject, name: str, cases: Sequence[Case], cascade: Cascade[list[LegTV]]
) -> list[dict[str, Any]]:
    """Return a row for each state and photograph."""
    states = [("trained", cascade.trained), *zip(cascade.names, cascade.results, strict=True)]
    table = []
    for step, (layer, results) in enumerate(states):
        for place, (case, result) in enumerate(zip(cases, results, strict=True)):
            trained = cascade.trained[place]
            table.append(
                dict(
                    net=name,
                    step=step,
                    layer=layer,
                    photograph=case.photograph,
                    target=subject.classifier.class_names[case.target].partition(",")[0],
                    variance=case.variance,
                    probability=result.empirical.value.item(),
                    differing=differing(result, trained),
                    total_variation=(result.objective.sum() / trained.objective.sum()).item(),
                    least_K_L=(result.L_max / trained.L_max).item(),
                    largest_gap=result.gap.max().item(),
                )
            )
    return table


def differing(result: LegTV, trained: LegTV) -> float:
    """Return the share of neighbours that differ in an estimate."""
    differences = hessx.ops.grid_difference(result.gamma[0].double())
    scale = trained.gamma.double().abs().max()
    return (differences.abs() > _ROUNDING * scale).double().mean().item()


def summarised(table: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a row for each state: the shares by photograph, and how many are zero."""
    states: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for row in table:
        states.setdefault((row["net"], row["step"]), []).append(row)
    return [
        dict(
            net=net,
            layer=found[0]["layer"],
            **{row["photograph"]: row["differing"] for row in found},
            zero=f"{sum(row['differing'] == 0 for row in found)} of {len(found)}",
            least_K_L=max(row["least_K_L"] for row in found),
        )
        for (net, _), found in states.items()
    ]


def draw(
    subject: Subject, cases: Sequence[Case], cascade: Cascade[list[LegTV]], path: Path
) -> None:
    """Draw the estimates of a few states on the scale of the trained network's."""
    count = len(cascade.names)
    shown = sorted({0, min(1, count - 1), min(2, count - 1), count // 2, count - 1})
    lines = {}
    for place, case in enumerate(cases):
        states = [cascade.trained, *(cascade.results[i] for i in shown)]
        sizes = [results[place].gamma[0].double().abs().sum(0) for results in states]
        scale = torch.quantile(sizes[0], 0.99)
        panels = [Panel((size / scale).clamp(max=1).numpy()) for size in sizes]
        lines[case.photograph] = [Panel(displayed(subject.classifier, case.x[0])), *panels]
    layers = [cascade.names[i].removeprefix("features.").strip("_") for i in shown]
    draw_panels(lines, ["image", "trained", *layers], path)


if __name__ == "__main__":
    main()
