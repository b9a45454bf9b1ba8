"""When curvature changes an explanation: section 3.3, F.2 and F.3 of the CASO paper.

``python -m bench.caso_first_against_second`` takes the solutions of CASO and CAFO at lambda1 = 0,
each divided by its L2 norm, and writes the norm of their difference beside the confidence in the
predicted class: a number from 0 (parallel) to sqrt 2 (orthogonal). The paper's Figure 1 has 1000
images of ImageNet, and so many photographs are at hand in no package. Three sets stand in:

- ``photographs``, EfficientNet-Lite0: seven, each as it is, its four quarters at twice the size,
  with noise of .1 and .25 of the pixels' range, and half and half with the next one;
- ``fashion-mnist``: test images, the fully connected ReLU net of 10 classes;
- ``gated``: test images, the squeeze-and-excitation net, which is not piecewise linear; CASO with
  the whole Hessian, and with its Gauss-Newton part beside it.

Twice: with the paper's ``lambda2 = L / 2 + 10``, and with ``lambda2 = .55 L``. Where L is far
below 10 the first makes the two parallel whatever the Hessian is; the second does not.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from scipy.stats import spearmanr
from torch import Tensor, nn

import hessx
from bench.common import machine
from bench.nets import fashion_mnist, fully_connected, squeeze_and_excitation
from bench.photographs import PHOTOGRAPHS, displayed, photograph
from bench.pictures import GREEN, OUT, Panel, draw_panels, save_png, write_table
from hessx.demo.classifier import Classifier, efficientnet_lite0

NAME = "caso_first_against_second"
SETS = ("photographs", "fashion-mnist", "gated")
BINS = (0.0, 0.3, 0.5, 0.7, 0.9, 0.99, 0.9999, 1.0)
AT_LIMIT = 0.55
# Below 1e-6 the gap of a float32 net is rounding.
TOL = 1e-6
NOISE = (0.1, 0.25)
WHOLE_HESSIAN = dict(exact=True, solver="fista-constant")
# What is drawn last lies above.
SERIES = (("lambda2 = .55 L", "at_limit", "#d8b878"), ("lambda2 = L/2 + 10", "difference", GREEN))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=SETS, default=SETS, help="sets of inputs")
    parser.add_argument("--photographs", type=int, default=len(PHOTOGRAPHS), help="the first so")
    parser.add_argument("--images", type=int, default=1000, help="of Fashion-MNIST")
    parser.add_argument("--gated-images", type=int, default=300, help="for the gated net")
    parser.add_argument("--out", type=Path, default=OUT, help="folder of tables and pictures")
    options = parser.parse_args()
    print(machine())
    found: dict[str, Comparison] = {}
    if "photographs" in options.only:
        found |= of_photographs(list(PHOTOGRAPHS)[: options.photographs], options.out)
    x = fashion_mnist("t10k")[0]
    if "fashion-mnist" in options.only:
        found["Fashion-MNIST"] = compare(fully_connected(), x[: options.images])
    if "gated" in options.only:
        net, some = squeeze_and_excitation(), x[: options.gated_images]
        found["gated net, whole Hessian"] = compare(net, some, **WHOLE_HESSIAN)
        found["gated net, Gauss-Newton"] = compare(net, some)
    inputs, bins = [], []
    for name, comparison in found.items():
        summarise(name, comparison)
        inputs += by_input(name, comparison)
        bins += by_confidence(name, comparison)
    write_table(inputs, options.out / f"{NAME}_inputs.csv", show=False)
    write_table(bins, options.out / f"{NAME}.csv")
    draw(found, options.out / f"{NAME}.png")


@dataclass(frozen=True, eq=False)
class Comparison:
    """First-order against second-order solutions of N inputs.

    Attributes:
        confidence: ``(N,)``, in the predicted class.
        difference: ``(N,)``, of the solutions divided by their norms; lambda2 = L / 2 + 10.
        at_limit: ``(N,)``, the same with lambda2 = .55 L.
        gap: ``(N,)``, the larger one that was reported.
        first: ``(N, *shape)``, CAFO.
        second: ``(N, *shape)``, CASO.
    """

    confidence: Tensor
    difference: Tensor
    at_limit: Tensor
    gap: Tensor
    first: Tensor
    second: Tensor


def compare(net: nn.Module, x: Tensor, **solver: Any) -> Comparison:
    """Explain inputs to first and second order at lambda1 = 0."""
    with torch.no_grad():
        confidence = net(x).double().softmax(1).amax(1)
    paper = hessx.caso(net, x, lambda1=0.0, tol=TOL, **solver)
    # The bound is 0 where rounding leaves nothing of a certain prediction's Hessian.
    lambda2 = AT_LIMIT * paper.curvature_bound.clamp(min=torch.finfo(torch.float32).tiny)
    limit = hessx.caso(net, x, lambda1=0.0, lambda2=lambda2, tol=TOL, **solver)
    # CAFO at lambda1 = 0, but for its length.
    first = paper.gradient
    return Comparison(
        confidence,
        (direction(paper.delta) - direction(first)).norm(dim=1),
        (direction(limit.delta) - direction(first)).norm(dim=1),
        torch.maximum(paper.gap, limit.gap),
        first,
        paper.delta,
    )


def direction(delta: Tensor) -> Tensor:
    """Return ``(N, d)`` float64, each row of unit norm, however small it was."""
    rows = delta.double().flatten(1)
    rows = rows / rows.abs().amax(1, keepdim=True)
    return rows / rows.norm(dim=1, keepdim=True)


def of_photographs(names: Sequence[str], out: Path) -> dict[str, Comparison]:
    """Compare on variants of photographs, and draw the most and the least confident original."""
    classifier = efficientnet_lite0()
    made = variants(classifier, names)
    found = [compare(classifier.model, x) for x in made.values()]
    joined = Comparison(*(torch.cat([getattr(c, f.name) for c in found]) for f in fields(found[0])))
    originals = [row for row, name in enumerate(made) if name in names]
    by_doubt = sorted(originals, key=lambda row: joined.confidence[row].item())
    pairs = {}
    for row in (by_doubt[0], by_doubt[-1]):
        name = list(made)[row]
        maps = [hessx.saliency_map(d[row : row + 1])[0] for d in (joined.first, joined.second)]
        captions = (f"p = {joined.confidence[row]:.3f}", "", f"{joined.difference[row]:.3f}")
        pictures = (displayed(classifier, made[name][0]), *(m.numpy() for m in maps))
        pairs[name] = [Panel(p, c) for p, c in zip(pictures, captions, strict=True)]
    titles = ("image", "first order", "second order")
    draw_panels(pairs, titles, out / f"{NAME}_maps.png")
    return {"photographs": joined}


def variants(classifier: Classifier, names: Sequence[str]) -> dict[str, Tensor]:
    """Return inputs ``(1, 3, 224, 224)`` made of photographs, by what was done to them."""
    generator = torch.Generator().manual_seed(0)
    seen = {name: photograph(name) for name in names}
    inputs = {name: classifier.inputs(picture.pixels) for name, picture in seen.items()}
    low, high = (0 - classifier.mean) / classifier.scale, (255 - classifier.mean) / classifier.scale
    made = {}
    for place, (name, x) in enumerate(inputs.items()):
        made[name] = x
        side = x.shape[-1]
        for top in (0, side):
            for left in (0, side):
                quarter = seen[name].shown[top : top + side, left : left + side]
                made[f"{name}, quarter at {top} {left}"] = classifier.inputs(quarter)
        for sigma in NOISE:
            noise = sigma * (high - low) * torch.randn(x.shape, generator=generator)
            made[f"{name}, noise {sigma}"] = (x + noise).clamp(low, high)
        other = names[(place + 1) % len(names)]
        made[f"{name} and {other}"] = (x + inputs[other]) / 2
    return made


def by_input(name: str, found: Comparison) -> list[dict[str, Any]]:
    """Return a row for each input, by its place in the set."""
    columns = ("confidence", "difference", "at_limit", "gap")
    values = zip(*(getattr(found, column).tolist() for column in columns), strict=True)
    return [
        dict(inputs=name, place=place, **dict(zip(columns, row, strict=True)))
        for place, row in enumerate(values)
    ]


def by_confidence(name: str, found: Comparison) -> list[dict[str, Any]]:
    """Return quantiles of the differences in each bin of confidence that has inputs."""
    rows = []
    for low, high in pairwise(BINS):
        # The last bin has its upper end: a confidence can be 1 to the last digit.
        inside = (found.confidence >= low) & (
            (found.confidence < high) | torch.tensor(high == BINS[-1])
        )
        if not inside.any():
            continue
        row: dict[str, Any] = dict(inputs=name, p_from=low, p_to=high, n=int(inside.sum()))
        for label, values in (("", found.difference), (" at .55 L", found.at_limit)):
            row[f"median{label}"] = values[inside].quantile(0.5).item()
            row[f"9 in 10 below{label}"] = values[inside].quantile(0.9).item()
        rows.append(row)
    return rows


def summarise(name: str, found: Comparison) -> None:
    ranks = [
        spearmanr(found.confidence, values).statistic
        for values in (found.difference, found.at_limit)
    ]
    print(
        f"{name}: {len(found.confidence)} inputs, rank correlation of confidence and difference "
        f"{ranks[0]:.2f}, at .55 L {ranks[1]:.2f}; gap at most {found.gap.max():.1e}",
        flush=True,
    )


def draw(found: dict[str, Comparison], path: Path) -> None:
    """Draw the paper's Figures 1 and 6: confidence across, difference up."""
    from matplotlib.figure import Figure

    canvas = Figure(figsize=(3.2 * len(found), 3.0), layout="constrained")
    panels = canvas.subplots(1, len(found), sharey=True, squeeze=False)[0]
    for panel, (name, comparison) in zip(panels, found.items(), strict=True):
        for label, attribute, colour in SERIES:
            values = getattr(comparison, attribute)
            panel.plot(comparison.confidence, values, ".", ms=3, color=colour, label=label)
        panel.set(title=name, xlabel="confidence", xlim=(0, 1.02))
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("|CASO - CAFO|, unit norms")
    panels[0].legend(frameon=False, fontsize=8)
    save_png(canvas, path)


if __name__ == "__main__":
    main()
