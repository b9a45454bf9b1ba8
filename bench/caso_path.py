"""What lambda1 does to CAFO and CASO, beside a clipped gradient: Figure 3 of the CASO paper.

``python -m bench.caso_path`` solves both for multiples of the lambda1 that ``lambda1="auto"``
chooses (the smallest whose solution has at least three quarters of its pixels zero), and prints the
sparsity ratio eta of each, how far the two are apart, and how much of CASO's support the gradient
has that is clipped to the same number of pixels.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

import hessx
from bench.common import machine
from bench.photographs import PHOTOGRAPHS, photograph_inputs
from bench.pictures import OUT, Panel, draw_panels, write_table
from hessx import SparsePath, SparseSaliency
from hessx.demo.classifier import efficientnet_lite0

MULTIPLES = (0.1, 0.3, 0.6, 1.0, 2.0, 4.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--photograph", choices=PHOTOGRAPHS, default="chelsea")
    parser.add_argument("--out", type=Path, default=OUT, help="folder of tables and pictures")
    options = parser.parse_args()
    print(machine())
    classifier = efficientnet_lite0()
    x = photograph_inputs(classifier, options.photograph)
    swept = sweep(classifier.model, x)
    path = swept.second
    print(
        f"{options.photograph}, {classifier.class_names[int(path.target)]}: |g|_inf "
        f"{swept.gradient.abs().max():.4g}, bound of L {path.curvature_bound[0]:.4g}, lambda1="
        f'"auto" is {swept.chosen_first:.4g} for CAFO and {swept.chosen_second:.4g} for CASO; '
        f"{path.seconds:.2f} s for the {len(path)} of CASO"
    )
    write_table(rows(swept), options.out / "caso_path.csv")
    draw(swept, options.out / "caso_path.png")


@dataclass(frozen=True, eq=False)
class Sweep:
    """CAFO and CASO of one input for multiples of the lambda1 that each of them chooses itself.

    Attributes:
        gradient: ``(1, *shape)``.
        first: CAFO, an entry of the batch for each lambda1.
        second: CASO.
        clipped: ``(M, *shape)``, the gradient at CASO's sparsity ratios.
        chosen_first: The lambda1 of CAFO that ``"auto"`` chooses.
        chosen_second: That of CASO.
    """

    gradient: Tensor
    first: SparseSaliency
    second: SparsePath
    clipped: Tensor
    chosen_first: float
    chosen_second: float


def sweep(net: Callable[[Tensor], Tensor], x: Tensor) -> Sweep:
    """Solve for ``x (1, *shape)``."""
    chosen = hessx.caso(net, x)
    target, lambda2 = int(chosen.target), chosen.lambda2[0].item()
    first = hessx.cafo(net, x, target, lambda2=lambda2)
    multiples = chosen.lambda1.new_tensor(MULTIPLES)
    firsts = hessx.cafo(
        net,
        x.expand(len(MULTIPLES), *x.shape[1:]),
        target,
        lambda1=first.lambda1 * multiples,
        lambda2=lambda2,
    )
    second = hessx.caso_path(
        net, x, target, lambda1s=(chosen.lambda1 * multiples)[None], lambda2=lambda2
    )
    clipped = [clip(chosen.gradient, ratio) for ratio in second.sparsity[0].tolist()]
    return Sweep(
        chosen.gradient,
        firsts,
        second,
        torch.cat(clipped),
        first.lambda1.item(),
        chosen.lambda1.item(),
    )


def clip(gradient: Tensor, sparsity: float) -> Tensor:
    """Return the gradient ``(1, *shape)`` with only its largest pixels, at a sparsity ratio.

    A pixel is as large as the largest of its channels, as the soft threshold has it.
    """
    has_channels = gradient.dim() > 3
    sizes = gradient.abs().amax(1, keepdim=True) if has_channels else gradient.abs()
    n_pixels = sizes.numel()
    kept = round((1 - sparsity) * n_pixels)
    mask = torch.zeros(n_pixels, dtype=torch.bool, device=gradient.device)
    mask[sizes.flatten().topk(kept).indices] = True
    return gradient * mask.view_as(sizes)


def rows(swept: Sweep) -> list[dict[str, float]]:
    """Return one row for each multiple of lambda1."""
    first, second = swept.first, swept.second
    table = []
    for place, multiple in enumerate(MULTIPLES):
        cafo, caso = first.delta[place].flatten(), second.delta[0, place].flatten()
        both = (swept.clipped[place].flatten() != 0) & (caso != 0)
        table.append(
            dict(
                multiple=multiple,
                cafo_lambda1=first.lambda1[place].item(),
                cafo_eta=first.sparsity[place].item(),
                caso_lambda1=second.lambda1[0, place].item(),
                caso_eta=second.sparsity[0, place].item(),
                caso_gap=second.gap[0, place].item(),
                cosine=torch.cosine_similarity(cafo, caso, dim=0).item(),
                clipped_keeps=(both.sum() / (caso != 0).sum().clamp(min=1)).item(),
                cafo_loss_change=first.loss_change[place].item(),
                caso_loss_change=second.loss_change[0, place].item(),
            )
        )
    return table


def draw(swept: Sweep, path: Path) -> None:
    """Draw the paper's panels a to c as rows, the choice of ``"auto"`` framed."""

    def panels(deltas: Tensor, captions: Sequence[str], frame: bool) -> list[Panel]:
        maps = hessx.saliency_map(deltas).cpu().numpy()
        return [
            Panel(image, caption, frame and multiple == 1)
            for image, caption, multiple in zip(maps, captions, MULTIPLES, strict=True)
        ]

    def captions(result: SparseSaliency) -> list[str]:
        pairs = zip(result.lambda1.flatten().tolist(), result.sparsity.flatten(), strict=True)
        return [f"λ₁ {lambda1:.2g}, η {eta:.3f}" for lambda1, eta in pairs]

    ratios = [f"η {eta:.3f}" for eta in swept.second.sparsity[0]]
    lines = {
        "CAFO": panels(swept.first.delta, captions(swept.first), True),
        "CASO": panels(swept.second.delta[0], captions(swept.second), True),
        "clipped gradient": panels(swept.clipped, ratios, False),
    }
    draw_panels(lines, [f"{multiple:g} x auto" for multiple in MULTIPLES], path)


if __name__ == "__main__":
    main()
