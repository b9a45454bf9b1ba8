"""Which maps find the pixels that count? Section 5.2 of the LEG paper.

``python -m bench.leg_deletion`` explains photographs by LEG, LEG-TV and the methods that the paper
compares with, paints the most important cells of a grid black, more and more of them, and
averages the log-odds of the class over the photographs. "random" is a random order of the cells.

Maps are ranked twice: by magnitude, summed over channels, as the paper ranks LEG; and signed, which
is what Shapley values and LIME are made for, since they tell what speaks against the class.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import hessx
from bench.baselines import BASELINES, Question
from bench.classifiers import GRID, SUBJECTS, Subject, predicted, telling_variance
from bench.common import machine
from bench.photographs import RECOGNISED, displayed
from bench.pictures import OUT, Panel, draw_panels, save_png, write_table
from hessx.score.cells import cells_of

RANKINGS = ("magnitude", "signed")
SPARSE, NOISY = 0.3, 0.05
FRACTIONS = torch.linspace(0, 0.5, 21).tolist()
SHOWN_FRACTIONS = (0.0, 0.05, 0.1, 0.2, 0.5)
MASKED_SHARE = 0.1
_MOST_SHOWN = 4


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--net", choices=SUBJECTS, default="efficientnet")
    parser.add_argument("--photographs", nargs="+", default=list(RECOGNISED))
    parser.add_argument("--samples", type=int, default=1000, help="evaluations for each map")
    parser.add_argument("--grid", type=int, default=GRID.size[0], help="cells along a side")
    parser.add_argument("--out", type=Path, default=OUT, help="folder of tables and pictures")
    options = parser.parse_args()
    print(machine())
    subject = SUBJECTS[options.net]()
    # What is missing is missed before the work begins.
    inputs = {name: subject.inputs(name) for name in options.photographs}
    found = []
    for name, x in inputs.items():
        start = time.perf_counter()
        grid = hessx.Grid((options.grid, options.grid), channels=GRID.channels)
        found.append(Explained.of(subject, name, x, options.samples, grid))
        print(f"{found[-1].title}: {time.perf_counter() - start:.0f} s", flush=True)
    stem = f"leg_deletion_{options.net}"
    write_table(curves(found), options.out / f"{stem}_curves.csv", show=False)
    write_table(table(found), options.out / f"{stem}.csv")
    draw_curves(found, options.out / f"{stem}.png")
    draw_masked(subject, found[:_MOST_SHOWN], options.out / f"{stem}_masked.png")


@dataclass(frozen=True, eq=False)
class Explained:
    """One photograph, its maps and their deletion curves.

    Attributes:
        photograph: Its name.
        title: With class, probability and noise.
        x: ``(1, 3, H, W)``.
        maps: By method, ``(1, 3, H, W)`` each.
        seconds: By method.
        scores: By ranking, ``(K, F)``: log-odds of each method.
        auc: By ranking, ``(K,)``.
        grid: The cells.
    """

    photograph: str
    title: str
    x: Tensor
    maps: Mapping[str, Tensor]
    seconds: Mapping[str, float]
    scores: Mapping[str, Tensor]
    auc: Mapping[str, Tensor]
    grid: hessx.Grid

    @classmethod
    def of(
        cls, subject: Subject, photograph: str, x: Tensor, samples: int, grid: hessx.Grid
    ) -> Explained:
        """Explain a photograph by every method and delete by every map."""
        target, probability = predicted(subject.net, x)
        variance = telling_variance(subject, x, target, grid)
        black, white = subject.range
        question = Question(
            subject.net,
            x,
            target,
            black,
            white,
            subject.last_convolution,
            grid=grid.size,
            n_samples=samples,
        )
        maps, seconds = leg_maps(question, subject.sigma(variance), grid)
        for name, method in BASELINES.items():
            start = time.perf_counter()
            maps[name] = method(question).expand_as(x).float()
            seconds[name] = time.perf_counter() - start
        maps["random"] = _random_order(question)
        seconds["random"] = 0.0
        scores, auc = {}, {}
        for ranking in RANKINGS:
            curve = hessx.deletion_curve(
                subject.net,
                x,
                torch.stack(list(maps.values())),
                target,
                baseline=black,
                fractions=FRACTIONS,
                ranking=ranking,
                grid=grid.size,
            )
            scores[ranking], auc[ranking] = curve.scores[:, 0], curve.auc[:, 0]
        title = (
            f"{photograph}: {subject.classifier.class_names[target].partition(',')[0]} "
            f"{probability:.2f}, variance {variance:g}"
        )
        return cls(photograph, title, x, maps, seconds, scores, auc, grid)


def leg_maps(
    question: Question, sigma: float, grid: hessx.Grid
) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Return LEG's and LEG-TV's maps, on the pixels, and the seconds they took."""
    start = time.perf_counter()
    estimate = hessx.leg(
        lambda x: question.net(x).softmax(1),
        question.x,
        question.target,
        sigma=sigma,
        features=grid,
        n_samples=question.n_samples,
        clip=(question.black, question.white),
        seed=question.seed,
    )
    asked = time.perf_counter() - start
    found = {"LEG": estimate.gamma}
    seconds = {"LEG": asked}
    for name, k_l in (("LEG-TV noisy", NOISY), ("LEG-TV sparse", SPARSE)):
        start = time.perf_counter()
        found[name] = hessx.leg_tv_from(estimate, K_L=k_l).gamma
        seconds[name] = asked + time.perf_counter() - start
    on_pixels = grid.bind(question.x.shape[1:])
    return {name: on_pixels.lift(gamma.flatten(1)) for name, gamma in found.items()}, seconds


def _random_order(question: Question) -> Tensor:
    cells = question.grid[0] * question.grid[1]
    generator = torch.Generator().manual_seed(question.seed)
    order = torch.rand(cells, generator=generator)
    return order[question.cell_of_pixel()].expand_as(question.x)


def curves(found: Sequence[Explained]) -> list[dict[str, Any]]:
    """Return mean log-odds and the standard error of their fall, for every share masked."""
    rows = []
    for ranking in RANKINGS:
        scores = torch.stack([one.scores[ranking] for one in found])
        fall = scores - scores[:, :, :1]
        for k, method in enumerate(found[0].maps):
            for place, fraction in enumerate(FRACTIONS):
                rows.append(
                    dict(
                        ranking=ranking,
                        method=method,
                        masked=fraction,
                        log_odds=scores[:, k, place].mean().item(),
                        stderr_of_fall=stderr(fall[:, k, place]),
                    )
                )
    return rows


def table(found: Sequence[Explained]) -> list[dict[str, Any]]:
    """Return a row for each method: mean log-odds at some shares, the area, evaluations, time."""
    rows = []
    for ranking in RANKINGS:
        scores = torch.stack([one.scores[ranking] for one in found]).mean(0)
        auc = torch.stack([one.auc[ranking] for one in found])
        random = auc[:, -1:]
        for k, method in enumerate(found[0].maps):
            rows.append(
                dict(
                    ranking=ranking,
                    method=method,
                    **{
                        f"{fraction:.0%}": scores[k, _place(fraction)].item()
                        for fraction in SHOWN_FRACTIONS
                    },
                    area=auc[:, k].mean().item(),
                    less_than_random=(random[:, 0] - auc[:, k]).mean().item(),
                    stderr=stderr(random[:, 0] - auc[:, k]),
                    seconds=sum(one.seconds[method] for one in found) / len(found),
                )
            )
    return rows


def _place(fraction: float) -> int:
    return min(range(len(FRACTIONS)), key=lambda i: abs(FRACTIONS[i] - fraction))


def stderr(values: Tensor) -> float:
    """Return the standard error of a mean over photographs, nan of one."""
    return (values.std() / len(values) ** 0.5).item() if len(values) > 1 else float("nan")


def draw_curves(found: Sequence[Explained], path: Path) -> None:
    """Draw mean log-odds over the share masked, with bars of one standard error of the fall."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    canvas = Figure(figsize=(10, 4.2), layout="constrained")
    axes = canvas.subplots(1, 2, sharey=True)
    colours = colormaps["tab10"].colors
    lines = curves(found)
    for place, ranking in zip(axes, RANKINGS, strict=True):
        for k, method in enumerate(found[0].maps):
            rows = [row for row in lines if (row["ranking"], row["method"]) == (ranking, method)]
            place.errorbar(
                [100 * row["masked"] + 0.08 * k for row in rows],
                [row["log_odds"] for row in rows],
                [row["stderr_of_fall"] for row in rows],
                label=method,
                color=colours[k % len(colours)],
                linestyle="--" if method == "random" else "-",
                linewidth=1.2,
                elinewidth=0.5,
            )
        place.set_title(f"ranked by {ranking} value" if ranking == "signed" else "by magnitude")
        place.set_xlabel("cells masked, %")
    axes[0].set_ylabel("mean log-odds of the class")
    axes[1].legend(fontsize=7)
    save_png(canvas, path)


def draw_masked(subject: Subject, found: Sequence[Explained], path: Path) -> None:
    """Draw photographs with what each method calls the most important tenth painted black."""
    lines = {}
    for one in found:
        panels = [Panel(displayed(subject.classifier, one.x[0]))]
        for method, attribution in one.maps.items():
            masked = mask(one.x, attribution, subject.range[0], _ranking_of(method), one.grid)
            panels.append(Panel(displayed(subject.classifier, masked[0])))
        lines[one.photograph] = panels
    draw_panels(lines, ["image", *found[0].maps], path)


def _ranking_of(method: str) -> str:
    """Return the ranking that a method's maps are made for."""
    return "signed" if method in ("KernelSHAP", "LIME", "C-Shapley") else "magnitude"


def mask(x: Tensor, attribution: Tensor, black: float, ranking: str, grid: hessx.Grid) -> Tensor:
    """Return the picture that `hessx.deletion_curve` asks the net about at MASKED_SHARE."""
    cells = cells_of(attribution, x, grid.size, signed=ranking == "signed")
    first = torch.zeros(1, dtype=torch.long)
    count = torch.tensor([round(MASKED_SHARE * cells.number)])
    return torch.where(cells.masked(first, first, count), black, x)


if __name__ == "__main__":
    main()
