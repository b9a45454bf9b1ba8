"""Max-sensitivity of the gradient: in batches, one point at a time, and by Captum.

``python -m bench.sensitivity`` takes 50 points around each of some Fashion-MNIST images, with the
paper's net of SmoothHess (784-500-300-250-250-250-10) and with a convolutional net, in one run.
"one by one" are the same points in calls of one example each. Captum draws its points anew in every
call, as we do with ``seed=None``.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from typing import Any

import torch
from captum import metrics
from captum.attr import Saliency
from torch import Tensor, nn

import hessx
from bench.common import compare, machine, parser, print_row, thread_counts
from bench.nets import fashion_mnist, fully_connected, squeeze_and_excitation

N_POINTS = 50
RADIUS = 0.1


def measure(label: str, net: nn.Module, x: Tensor, least: float, seconds: float) -> list[str]:
    """Print times and return what falls short of ``least`` times as fast as one by one."""
    with torch.no_grad():
        target = net(x).argmax(1)
    explain = Saliency(net).attribute
    settings: dict[str, Any] = {
        "perturb_radius": RADIUS,
        "n_perturb_samples": N_POINTS,
        "target": target,
    }

    def ours(**more: Any) -> Callable[[], Tensor]:
        return lambda: hessx.sensitivity_max(explain, x, **settings, **more)

    candidates = {
        "one by one": ours(seed=0, max_examples_per_batch=1),
        "Captum": lambda: metrics.sensitivity_max(explain, x, **settings),
        "hessx": ours(),
        "hessx, seed=0": ours(seed=0),
    }
    single, together = (candidates[name]() for name in ("one by one", "hessx, seed=0"))
    # Rounding may turn a ReLU of one of 50 float32 gradients.
    torch.testing.assert_close(single, together, rtol=1e-2, atol=0)
    times = compare(candidates, seconds, x.device)
    print_row(f"{label}, B = {len(x)}", times, 1e-3)
    faster = times["one by one"] / times["hessx, seed=0"]
    return [] if faster >= least else [f"{label}: {faster:.2f} times one by one, aim {least}"]


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--seconds", type=float, default=4.0, help="for each comparison")
    arguments.add_argument("--batches", type=int, nargs="+", default=[1, 8], help="of images")
    given = arguments.parse_args()
    warnings.filterwarnings("ignore", message=".*did not already require gradients")
    print(machine(given.device))
    print(f"{N_POINTS} points; ms; in brackets: times faster than one by one")
    images = fashion_mnist("t10k")[0].to(given.device)
    nets = {"fully connected": (fully_connected(), 3.0), "CNN": (squeeze_and_excitation(), 1.5)}
    missed = []
    for n_threads in thread_counts(given.device):
        torch.set_num_threads(n_threads)
        for name, (net, least) in nets.items():
            net.to(given.device)
            for batch in given.batches:
                label = f"{name}, {n_threads} threads"
                missed += measure(label, net, images[:batch], least, given.seconds)
    sys.exit("; ".join(missed) or None)


if __name__ == "__main__":
    main()
