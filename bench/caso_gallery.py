"""Seven saliency maps beside each other: Figure 4 of the CASO paper.

``python -m bench.caso_gallery`` draws, for EfficientNet-Lite0 and its predicted class, the gradient
of the cross-entropy, CAFO, CASO, integrated gradients (by Captum), SmoothGrad, Smooth CAFO and
Smooth CASO, all through ``hessx.saliency_map``. The paper leaves three things open, chosen here:

- Noise of .15 is .15 of the range of a pixel, from black to white, as SmoothGrad has it and as it
  is for inputs in [0, 1]. This net's inputs are (rgb - 127) / 128: .15 of them is .30.
- Integrated gradients start from a black picture, in 50 steps, and are not multiplied by the input:
  appendix D argues against that.
- SmoothGrad is the mean of the same noisy gradients that Smooth CAFO thresholds.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

import hessx
from bench.common import machine
from bench.photographs import PHOTOGRAPHS, displayed, photograph_inputs
from bench.pictures import OUT, Panel, draw_panels, write_table
from hessx import SparseSaliency
from hessx.demo.classifier import efficientnet_lite0

STEPS = 50
STEPS_AT_ONCE = 10
WHITE = 255


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--photographs", nargs="+", choices=PHOTOGRAPHS, default=["chelsea"])
    parser.add_argument("--samples", type=int, default=50, help="noisy copies, n in the paper")
    parser.add_argument("--sigma", type=float, default=0.15, help="of the range of a pixel")
    parser.add_argument("--out", type=Path, default=OUT, help="folder of tables and pictures")
    options = parser.parse_args()
    print(machine())
    classifier = efficientnet_lite0()
    sigma = options.sigma * WHITE / classifier.scale
    lines, table = {}, []
    for name in options.photographs:
        x = photograph_inputs(classifier, name)
        black = torch.full_like(x, -classifier.mean / classifier.scale)
        maps = gallery(classifier.model, x, black, sigma, options.samples)
        table += [row(name, found) for found in maps]
        panels = [Panel(found.map.cpu().numpy(), found.caption) for found in maps]
        lines[name] = [Panel(displayed(classifier, x[0])), *panels]
    write_table(table, options.out / "caso_gallery.csv")
    titles = ["image", *(found.method for found in maps)]
    draw_panels(lines, titles, options.out / "caso_gallery.png")


@dataclass(frozen=True, eq=False)
class Explained:
    """One method's answer for one input.

    Attributes:
        method: Its name in the paper.
        map: ``(H, W)`` in [0, 1].
        result: What CAFO or CASO returned, None for the other methods.
        seconds: Wall clock.
    """

    method: str
    map: Tensor
    result: SparseSaliency | None
    seconds: float

    @property
    def caption(self) -> str:
        """The sparsity ratio of a sparse map."""
        return f"η {self.result.sparsity.item():.3f}" if self.result else ""


def gallery(
    net: Callable[[Tensor], Tensor], x: Tensor, black: Tensor, sigma: float, samples: int
) -> list[Explained]:
    """Explain ``x (1, *shape)`` by every method.

    Args:
        net: The classifier.
        x: One input.
        black: The baseline of integrated gradients.
        sigma: Standard deviation of the noise, in the units of ``x``.
        samples: Noisy copies.
    """
    with torch.no_grad():
        target = int(net(x).argmax(1))
    smooth = dict(smooth_sigma=sigma, n_samples=samples)
    # Without a threshold CAFO is the gradient; lambda2 scales it and no more.
    gradient = partial(hessx.cafo, net, x, target, lambda1=0.0, lambda2=0.5)
    first_order = partial(hessx.cafo, net, x, target, lambda2=0.5)
    second_order = partial(hessx.caso, net, x, target)
    methods: dict[str, Callable[[], Tensor | SparseSaliency]] = {
        "Gradient": lambda: gradient().delta,
        "CAFO": first_order,
        "CASO": second_order,
        "IntegratedGrad": lambda: integrated_gradients(net, x, target, black),
        "SmoothGrad": lambda: gradient(**smooth).delta,
        "SmoothCAFO": lambda: first_order(**smooth),
        "SmoothCASO": lambda: second_order(**smooth),
    }
    # The first calls of a process import and set up what later ones reuse.
    gradient()
    integrated_gradients(net, x, target, black, steps=1)
    found = []
    for method, explain in methods.items():
        start = time.perf_counter()
        answer = explain()
        seconds = time.perf_counter() - start
        result = answer if isinstance(answer, SparseSaliency) else None
        delta = answer.delta if isinstance(answer, SparseSaliency) else answer
        found.append(Explained(method, hessx.saliency_map(delta)[0], result, seconds))
    return found


def integrated_gradients(
    net: Callable[[Tensor], Tensor], x: Tensor, target: int, black: Tensor, steps: int = STEPS
) -> Tensor:
    """Return the mean gradient of the cross-entropy on the way from a black picture."""
    from captum.attr import IntegratedGradients

    def loss(z: Tensor) -> Tensor:
        return cross_entropy(net(z), torch.full((len(z),), target), reduction="none")

    method = IntegratedGradients(loss, multiply_by_inputs=False)
    found = method.attribute(x, black, n_steps=steps, internal_batch_size=STEPS_AT_ONCE)
    return found.detach()


def row(photograph: str, found: Explained) -> dict[str, Any]:
    """Return a row of the table; empty where a method has no such number."""
    result = found.result
    numbers = {
        name: getattr(result, name).item() if result else ""
        for name in ("lambda1", "lambda2", "sparsity", "gap", "loss_change")
    }
    return dict(photograph=photograph, method=found.method, seconds=found.seconds, **numbers)


if __name__ == "__main__":
    main()
