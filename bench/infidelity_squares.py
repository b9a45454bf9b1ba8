"""What does removing squares of a picture do? The optimal explanation against those of Captum.

``python -m bench.infidelity_squares`` fits the optimal explanation of squares to draws of them and
scores it on other draws, beside global explanations of Captum: squares of sides 1 to 15 of 32 x 32
pixels for a CIFAR-10 net, of sides 10 to 30 of 112 x 112 superpixels (of 2 x 2 pixels) for
EfficientNet-Lite0. Removed is what is 0 to the net: black for the first, mid-grey for the second.
Every explanation is scaled optimally, on the draws that score it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import hessx
from bench.cifar import CLASSES, cifar_net, small_photograph
from bench.classifiers import SUBJECTS, predicted
from bench.common import machine
from bench.infidelity_scores import infidelities, mean_and_error, mean_square_answer
from bench.photographs import displayed
from bench.picture_explanations import Asked, picture_explanations
from bench.pictures import OUT, Panel, draw_panels, write_table
from hessx.plot import diverging_colors, symmetric_limit

SMALL_PHOTOGRAPHS = ("chelsea", "astronaut", "motorcycle", "flower", "rocket", "china")
LARGE_PHOTOGRAPHS = ("coffee", "chelsea", "motorcycle")
OPTIMAL = "Square"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nets", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--samples", nargs="+", type=int, help="that optima are fitted to")
    parser.add_argument("--ridges", nargs="+", type=float, help="beside fits without one")
    parser.add_argument("--draws", type=int, help="held out, that score")
    parser.add_argument("--photographs", nargs="+")
    parser.add_argument("--out", type=Path, default=OUT, help="folder of tables and pictures")
    options = parser.parse_args()
    print(machine())
    # What is missing is missed before the work begins.
    settings = {name: SETTINGS[name]() for name in options.nets}
    for name, setting in settings.items():
        found = []
        for photograph in options.photographs or setting.photographs:
            start = time.perf_counter()
            samples = options.samples or setting.samples
            ridges = setting.ridges if options.ridges is None else options.ridges
            draws = options.draws or setting.draws
            found.append(explained(setting, photograph, samples, ridges, draws))
            print(f"{found[-1].title}: {time.perf_counter() - start:.0f} s", flush=True)
        write_table(every(found), options.out / f"infidelity_squares_{name}_all.csv", show=False)
        write_table(table(found), options.out / f"infidelity_squares_{name}.csv")
        draw(found, options.out / f"infidelity_squares_{name}.png")


@dataclass(frozen=True, eq=False)
class Setting:
    """A net, its pictures and the squares that are removed from them.

    Attributes:
        asked: The net.
        guided: Whether guided back-propagation applies.
        law: The squares.
        inputs: Reads a photograph, ``(1, 3, H, W)``.
        shown: From one input to RGB.
        class_names: Of its classes.
        photographs: Their names.
        samples: Numbers of squares that optima are fitted to.
        ridges: Of optima beside those without one.
        draws: Number of squares that score.
    """

    asked: Asked
    guided: bool
    law: hessx.perturb.Square
    inputs: Callable[[str], Tensor]
    shown: Callable[[Tensor], Any]
    class_names: Sequence[str]
    photographs: Sequence[str]
    samples: Sequence[int]
    ridges: Sequence[float]
    draws: int


def _cifar() -> Setting:
    net = cifar_net()
    return Setting(
        # The last convolutions see the picture as one point, these as 10 x 10.
        Asked(net, net.features[12], 1.0),
        guided=True,
        law=hessx.perturb.Square(sides=range(1, 16)),
        inputs=small_photograph,
        shown=lambda x: (255 * x).round().byte().permute(1, 2, 0).numpy(),
        class_names=CLASSES,
        photographs=SMALL_PHOTOGRAPHS,
        samples=(1000, 4000),
        ridges=(0.03,),
        draws=1000,
    )


def _efficientnet() -> Setting:
    subject = SUBJECTS["efficientnet"]()
    black, white = subject.range
    return Setting(
        Asked(subject.net, subject.last_convolution, white - black),
        guided=False,
        law=hessx.perturb.Square(sides=range(10, 31), features=hessx.Grid((112, 112))),
        inputs=subject.inputs,
        shown=lambda x: displayed(subject.classifier, x),
        class_names=[name.partition(",")[0] for name in subject.classifier.class_names],
        photographs=LARGE_PHOTOGRAPHS,
        samples=(500, 2000),
        ridges=(0.3,),
        draws=500,
    )


SETTINGS: dict[str, Callable[[], Setting]] = {"cifar": _cifar, "efficientnet": _efficientnet}


@dataclass(frozen=True, eq=False)
class Explained:
    """One photograph's explanations.

    Attributes:
        title: Name, class and probability.
        image: RGB.
        maps: By method, ``(3, H, W)``.
        infidelity: By method, on held-out squares.
        answer: Mean square of what the net answers to them.
    """

    title: str
    image: Any
    maps: dict[str, Tensor]
    infidelity: dict[str, float]
    answer: float


def explained(
    setting: Setting, photograph: str, samples: Sequence[int], ridges: Sequence[float], draws: int
) -> Explained:
    """Explain a photograph by every method and score it on squares that none was fitted to."""
    net, x = setting.asked.net, setting.inputs(photograph)
    number, probability = predicted(net, x)
    target = torch.tensor([number])
    methods = picture_explanations(setting.asked, guided=setting.guided)
    maps = {name: explain(x, target) for name, explain in methods.items()}
    for n in samples:
        for ridge in ("auto", *ridges):
            best = hessx.optimal_explanation(
                net, x, target, perturb_func=setting.law, n_samples=n, ridge=ridge
            )
            name = f"{OPTIMAL}, n = {n}" + (f", ridge {ridge:g}" if ridge != "auto" else "")
            maps[name] = best.attributions.to(x)
    found = infidelities(net, setting.law, x, target, maps, draws)
    return Explained(
        f"{photograph}: {setting.class_names[number]} {probability:.2f}",
        setting.shown(x[0]),
        {name: attribution[0] for name, attribution in maps.items()},
        {name: values.item() for name, values in found.items()},
        mean_square_answer(net, setting.law, x, target, draws).item(),
    )


def every(found: Sequence[Explained]) -> list[dict[str, Any]]:
    """Return a row for each photograph and method."""
    return [
        dict(photograph=one.title, method=method, infidelity=value, share=value / one.answer)
        for one in found
        for method, value in one.infidelity.items()
    ]


def table(found: Sequence[Explained]) -> list[dict[str, Any]]:
    """Return a row for each method: means over photographs, and how often it is the best.

    "share" is infidelity over the mean square of the net's answer.
    """
    rows = []
    for method in found[0].infidelity:
        values = torch.tensor([one.infidelity[method] for one in found])
        shares = torch.tensor([one.infidelity[method] / one.answer for one in found])
        best = sum(min(one.infidelity, key=one.infidelity.__getitem__) == method for one in found)
        infidelity, infidelity_se = mean_and_error(values)
        share, share_se = mean_and_error(shares)
        rows.append(
            dict(
                method=method,
                infidelity=infidelity,
                infidelity_se=infidelity_se,
                share=share,
                share_se=share_se,
                best=f"{best} of {len(found)}",
            )
        )
    return rows


def draw(found: Sequence[Explained], path: Path) -> None:
    """Draw photographs and maps, the colours summed, the share of the answer missed below."""
    lines = {}
    for one in found:
        panels = [Panel(one.image)]
        for method, attribution in one.maps.items():
            picture = attribution.sum(0).numpy()
            colours = diverging_colors(picture, symmetric_limit(picture, 0.99))
            share = one.infidelity[method] / one.answer
            panels.append(Panel(colours, f"{share:.2f}"))
        lines[one.title.replace(": ", "\n")] = panels
    titles = [method.replace(", ", "\n") for method in found[0].maps]
    draw_panels(lines, ["image", *titles], path)


if __name__ == "__main__":
    main()
