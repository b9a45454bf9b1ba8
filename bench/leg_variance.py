"""The variance of LEG as printed, centred and antithetic, on a known function and a photograph.

``python -m bench.leg_variance`` prints ``n`` times the mean squared standard error of gamma for
Eq. (3) with ``f(x0)`` subtracted as in the paper, with the mean of ``f(x0 + z)`` in its place
(``centred``, the default of :func:`hessx.leg`) and for pairs ``x0 + z``, ``x0 - z``
(``antithetic``), at an equal number of evaluations. Where f at the perturbed inputs has mean mu and
standard deviation s, Eq. (3) should have ``1 + ((mu - f(x0)) / s)^2`` times the variance of the
centred form; that is printed beside what was found.

The functions are those of ``bench/leg_convergence.py`` and EfficientNet-Lite0's probability of its
class for a photograph on a 28 x 28 grid of features, with sigma for pixels in [0, 1].
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import hessx
from bench.common import machine
from bench.leg_convergence import SIGMA, functions
from bench.leg_laws import laws
from bench.photographs import PHOTOGRAPHS, photograph_inputs
from bench.pictures import OUT, write_table
from hessx.demo.classifier import Classifier, efficientnet_lite0

VARIANTS: dict[str, dict[str, bool]] = {
    "Eq. (3)": dict(centred=False),
    "centred": dict(centred=True),
    "antithetic": dict(antithetic=True),
}
VARIANCES = (0.0005, 0.005, 0.05)
WHITE = 255


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--photograph", choices=PHOTOGRAPHS, default="coffee")
    parser.add_argument("--samples", type=int, default=300, help="of the photograph, even")
    parser.add_argument("--out", type=Path, default=OUT, help="folder of tables and pictures")
    options = parser.parse_args()
    print(machine())
    start = time.perf_counter()
    proposed, independent = laws(SIGMA, (16, 16))
    zero = torch.zeros(1, 16, 16, dtype=torch.float64)
    table = []
    for name, f in functions(independent).items():
        found = compare(f, zero, 10_000, sigma=proposed.sigma)
        table += [dict(function=name, variance=SIGMA**2) | row for row in found]
    classifier = efficientnet_lite0()
    x = photograph_inputs(classifier, options.photograph)
    f, features = probability(classifier, x), hessx.Grid((28, 28))
    for variance in VARIANCES:
        sigma = variance**0.5 * WHITE / classifier.scale
        found = compare(
            f, x, options.samples, sigma=sigma, features=features, max_examples_per_batch=50
        )
        table += [dict(function=options.photograph, variance=variance) | row for row in found]
    write_table(table, options.out / "leg_variance.csv")
    print(f"{time.perf_counter() - start:.0f} s")


def probability(classifier: Classifier, x: Tensor) -> Callable[[Tensor], Tensor]:
    """Return the probability of the class that is predicted for ``x (1, *shape)``."""
    with torch.no_grad():
        target = int(classifier.model(x).argmax(1))
    return lambda z: classifier.model(z).softmax(1)[:, target]


def compare(
    f: Callable[[Tensor], Tensor], x: Tensor, n_samples: int, **options: Any
) -> list[dict[str, Any]]:
    """Return a row for each variant, for ``x (1, *shape)`` and the options of ``hessx.leg``."""
    rows = []
    for variant, choice in VARIANTS.items():
        recorded = Recorded(f)
        result = hessx.leg(recorded, x, n_samples=n_samples, **choice, **options)
        values = recorded.values[-n_samples:]
        offset = values.mean() - result.value.double()
        row = dict(
            variant=variant,
            n=n_samples,
            value=result.value.item(),
            mean=values.mean().item(),
            deviation=values.std().item(),
            scaled_variance=n_samples * result.stderr.double().square().mean().item(),
            expected=(1 + (offset / values.std()).square()).item() if variant == "Eq. (3)" else "",
        )
        rows.append(row)
    centred = next(row for row in rows if row["variant"] == "centred")
    return [row | dict(ratio=row["scaled_variance"] / centred["scaled_variance"]) for row in rows]


class Recorded:
    """A function that keeps the values it has returned.

    Attributes:
        values: All of them, ``(N,)`` float64.
    """

    def __init__(self, f: Callable[[Tensor], Tensor]) -> None:
        self._f = f
        self.values = torch.empty(0, dtype=torch.float64)

    def __call__(self, x: Tensor) -> Tensor:
        """Return f, detached."""
        with torch.no_grad():
            y = self._f(x)
        self.values = torch.cat([self.values, y.double()])
        return y


if __name__ == "__main__":
    main()
