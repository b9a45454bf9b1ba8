"""Infidelity of one and of six explanations against Captum's function, called once and six times.

``python -m bench.infidelity`` scores 8 Fashion-MNIST images with the paper's net of SmoothHess
(784-500-300-250-250-250-10) and a photograph with EfficientNet-Lite0, 500 perturbations each, in
one run; ``--samples`` takes another number for the photograph. The perturbation is Gaussian noise;
Captum draws it anew in every call, and so do we in one (``seed=None``). "shared" is our other way,
``seed=0``, where all images share their perturbations.
"""

from __future__ import annotations

import statistics
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
from captum import metrics
from torch import Tensor, nn

import hessx
from bench.common import machine, parser, print_row
from bench.nets import fashion_mnist, fully_connected
from bench.photographs import photograph_inputs
from hessx.demo.classifier import efficientnet_lite0

N_PERTURBATIONS = 500
N_EXPLANATIONS = 6
SIGMA = 0.1


def noise(x: Tensor) -> tuple[Tensor, Tensor]:
    """Draw Gaussian noise, as a Captum ``perturb_func``."""
    step = SIGMA * torch.randn_like(x)
    return step, x - step


def measure(
    label: str, net: nn.Module, x: Tensor, target: Tensor, n: int, batch: int, repetitions: int
) -> list[str]:
    """Print times and return what falls short."""
    phi = torch.stack(
        [x * torch.randn(x.shape, generator=torch.Generator().manual_seed(k)) for k in range(6)]
    )
    settings: dict[str, Any] = {
        "target": target,
        "n_perturb_samples": n,
        "max_examples_per_batch": batch,
    }

    def captum(count: int) -> None:
        for k in range(count):
            metrics.infidelity(net, noise, x, phi[k], **settings)

    law = hessx.perturb.Gaussian(SIGMA)
    candidates: dict[str, Callable[[], object]] = {
        "Captum x 6": lambda: captum(N_EXPLANATIONS),
        "hessx, 6": lambda: hessx.infidelity(net, noise, x, phi, **settings),
        "shared, 6": lambda: hessx.infidelity(net, law, x, phi, seed=0, **settings),
        "Captum x 1": lambda: captum(1),
        "hessx, 1": lambda: hessx.infidelity(net, noise, x, phi[0], **settings),
        "shared, 1": lambda: hessx.infidelity(net, law, x, phi[0], seed=0, **settings),
    }
    times = medians(candidates, repetitions)
    names = list(times)
    for some in (names[:3], names[3:]):
        print_row(f"{label} n={n}", {name: times[name] for name in some}, 1e-3)
    missed = []
    if times["Captum x 6"] < 5 * times["hessx, 6"]:
        missed.append(f"{label}: six explanations less than 5 times faster than six calls")
    if times["hessx, 1"] > 1.05 * times["Captum x 1"]:
        missed.append(f"{label}: one explanation more than 5 % slower")
    return missed


def medians(candidates: dict[str, Callable[[], object]], repetitions: int) -> dict[str, float]:
    """Return median seconds of calls in turn."""
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(repetitions):
        for name, call in candidates.items():
            start = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--samples", type=int, default=N_PERTURBATIONS, help="on the photograph")
    samples = arguments.parse_args().samples
    warnings.filterwarnings("ignore", message=".*max_examples_per_batch.*")
    print(machine())
    print("ms; in brackets: times faster than Captum")
    net = fully_connected()
    x = fashion_mnist("t10k")[0][:8]
    with torch.no_grad():
        target = net(x).argmax(1)

    missed = measure("Fashion-MNIST, B = 8", net, x, target, N_PERTURBATIONS, 1000, 21)
    classifier = efficientnet_lite0()
    x = photograph_inputs(classifier, "coffee")
    with torch.no_grad():
        target = classifier.model(x).argmax(1)
    missed += measure("EfficientNet-Lite0, B = 1", classifier.model, x, target, samples, 16, 1)
    sys.exit("; ".join(missed) or None)


if __name__ == "__main__":
    main()
