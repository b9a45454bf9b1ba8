"""SmoothHess on Fashion-MNIST as in the paper: P_MSE and wall clock against reflected gradients.

``python -m bench.fashion_mnist`` trains the paper's net (784-500-300-250-250-250-10, appendix E;
the weights are kept in ``out/``) on Debian's ``dataset-fashion-mnist`` and compares, on 20 test
images, the Taylor model of ``hessx.smooth_hess`` from 256 gradients with that of 100,000 reflected
gradients (our transcription of the paper's estimator), sigma = radius / sqrt(784).
"""

from __future__ import annotations

import argparse
import gzip
import statistics
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import hessx
from bench.common import machine
from tests.references.reflected import reflected_smooth_hess

DATA = Path("/usr/share/datasets/fashion-mnist")
WEIGHTS = Path("out/fashion_mnist.pt")
WIDTHS = (784, 500, 300, 250, 250, 250, 10)
RADII = (0.25, 0.5, 1.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=20)
    parser.add_argument("--reflected", type=int, default=100_000, help="gradients of the baseline")
    arguments = parser.parse_args()
    if not DATA.exists():
        sys.exit(f"{DATA} is missing: install Debian's package dataset-fashion-mnist")
    print(machine())
    net = trained()
    x, y = load("t10k")
    with torch.no_grad():
        print(f"test accuracy {(net(x).argmax(1) == y).float().mean():.3f}")
        x = x[: arguments.images]
        target = net(x).argmax(1)
    missed = []
    for radius in RADII:
        scores, times = compare(net, x, target, radius, arguments.reflected)
        if radius <= 0.5 and scores["gls 256 frames"] > 1.05 * scores["reflected"]:
            missed.append(f"P_MSE at radius {radius} above 1.05 times the reflected one")
        if times["reflected"] < 60 * times["gls 256 frames"]:
            missed.append(f"less than 60 times faster at radius {radius}")
    sys.exit("; ".join(missed) or None)


def compare(
    net: nn.Sequential, x: Tensor, target: Tensor, radius: float, n_reflected: int
) -> tuple[dict[str, float], dict[str, float]]:
    """Print and return P_MSE, averaged over the images, and median times at one radius."""
    sigma = hessx.sigma_for_radius(radius, 784)
    scores: dict[str, list[float]] = {}
    times: dict[str, list[float]] = {}
    for row in range(len(x)):
        x0, c = x[row : row + 1], int(target[row])

        def model(z: Tensor, c: int = c) -> Tensor:
            return net(z)[:, c]

        def score(gradient: Tensor, hessian: Any, x0: Tensor = x0, c: int = c) -> float:
            return hessx.perturbation_mse(net, x0, c, gradient, hessian, radius=radius).item()

        start = time.perf_counter()
        gradient, hessian = reflected_smooth_hess(model, x0[0], sigma, n_reflected, seed=row)
        times.setdefault("reflected", []).append(time.perf_counter() - start)
        scores.setdefault("reflected", []).append(score(gradient[None], hessian[None]))
        for n, sampling in ((256, "iid"), (256, "frames"), (784, "iid")):
            name = f"gls {n} {sampling}"
            start = time.perf_counter()
            result = hessx.smooth_hess(
                net, x0, c, sigma=sigma, n_samples=n, sampling=sampling, seed=row
            )
            times.setdefault(name, []).append(time.perf_counter() - start)
            scores.setdefault(name, []).append(score(result.gradient, result))
        scores.setdefault("SmoothGrad alone", []).append(score(result.gradient, None))
    start = time.perf_counter()
    whole = hessx.smooth_hess(net, x, target, sigma=sigma)
    batched = (time.perf_counter() - start) / len(x)
    print(
        f"radius {radius}: reported relative error at 256 {whole.relative_error.median():.3f}; "
        f"{batched * 1e3:.1f} ms a point in a batch of {len(x)}"
    )
    means = {name: statistics.mean(values) for name, values in scores.items()}
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, mean in means.items():
        line = f"  {name:<17} P_MSE {mean:.3e}  ratio {mean / means['reflected']:5.2f}"
        if name in medians:
            faster = medians["reflected"] / medians[name]
            line += f"  {medians[name] * 1e3:8.1f} ms a point {faster:6.0f}x"
        print(line, flush=True)
    return means, medians


def trained() -> nn.Sequential:
    """Return the net of the paper's appendix E, trained once and kept in ``out/``."""
    layers: list[nn.Module] = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for fan_in, fan_out in pairwise(WIDTHS):
            layers += [nn.Linear(fan_in, fan_out), nn.ReLU()]
        net = nn.Sequential(*layers[:-1])
        if WEIGHTS.exists():
            net.load_state_dict(torch.load(WEIGHTS, weights_only=True))
        else:
            train(net)
            WEIGHTS.parent.mkdir(exist_ok=True)
            torch.save(net.state_dict(), WEIGHTS)
    return net.eval()


def train(net: nn.Sequential) -> None:
    """Train by SGD: 30 epochs, batches of 128, lr 1e-2 divided by 10 at iterations 4,000 and 8,000.

    With momentum .9 and weight decay 5e-4, which the paper does not mention: they end at 93 % on
    the training set and 89 % on the test set, the paper reports 93 and 88. By plain SGD the same
    schedule ends at 76 % on the test set.
    """
    x, y = load("train")
    x, y = x[:50_000], y[:50_000]
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-2, momentum=0.9, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [4000, 8000])
    for epoch in range(30):
        for rows in torch.randperm(len(x)).split(128):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(x[rows]), y[rows]).backward()
            optimizer.step()
            schedule.step()
        print(f"\rtraining, epoch {epoch + 1} of 30", end="", flush=True)
    print()
    optimizer.zero_grad()


def load(part: str) -> tuple[Tensor, Tensor]:
    """Read images ``(N, 784)`` in [0, 1] and labels."""
    with gzip.open(DATA / f"{part}-images-idx3-ubyte.gz") as f:
        images = torch.frombuffer(bytearray(f.read()[16:]), dtype=torch.uint8)
    with gzip.open(DATA / f"{part}-labels-idx1-ubyte.gz") as f:
        labels = torch.frombuffer(bytearray(f.read()[8:]), dtype=torch.uint8)
    return images.reshape(-1, 784).float() / 255, labels.long()


if __name__ == "__main__":
    main()
