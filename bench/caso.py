"""CASO and the input Hessian end to end: against the paper's algorithm, and against the truth.

``python -m bench.caso`` explains photographs with EfficientNet-Lite0 by ``hessx.caso_path`` and by
``tests/references/caso_paper.py``, our transcription of the paper's algorithm (10 power iterations,
10 steps of FISTA, products by double backward), side by side in this process; the baseline solves
one lambda1 unless ``--full`` asks for all four. Then the 10 largest eigenpairs of six input
Hessians against 30 Lanczos steps, and with ``--full`` all of one by the classes' Gram matrix, with
the peak memory of a process that does nothing else. Then Fashion-MNIST in float64 against exact
solutions. Ends with an error where a promise is missed.
"""

from __future__ import annotations

import argparse
import copy
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from scipy.linalg import eigh_tridiagonal
from torch import Tensor, nn

import hessx
from bench.common import compare, machine
from bench.nets import fashion_mnist, fully_connected
from bench.photographs import PHOTOGRAPHS, photograph_inputs
from hessx.demo.classifier import Classifier, efficientnet_lite0
from hessx.query import LossQuery
from hessx.run import Run
from tests.references.caso_paper import DifferentiatedLoss, objective, paper_caso, reference_caso
from tests.references.cross_entropy import gradient_and_hessian

TIMED = ("coffee", "chelsea", "astronaut")
DECOMPOSED = ("coffee", "chelsea", "astronaut", "motorcycle", "rocket", "china")
# lambda1 as shares of |g|_inf: from most pixels to few.
SHARES = (0.05, 0.1, 0.2, 0.4)
ONE_SHARE = (0.2,)
FASHION_SHARES = (0.02, 0.1, 0.4)
TOL = 1e-4
LANCZOS_STEPS = 30
MOST_BYTES = 2e9
SPEEDUP = 25
# A Lanczos vector this small, relative to L, is rounding of float32: the Hessian has no more rank.
RANK_TOLERANCE = 1e-5
# Objectives in float64 by two programs agree to about this.
ROUNDING = 1e-11


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--full", action="store_true", help="the baseline at all four lambda1")
    parser.add_argument("--images", type=int, default=20, help="of Fashion-MNIST")
    parser.add_argument("--all-classes", choices=PHOTOGRAPHS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    classifier = efficientnet_lite0()
    if options.all_classes:
        print_all_classes(classifier, options.all_classes)
        return
    print(machine())
    print(f"{torch.get_num_threads()} threads")
    missed = [*against_the_paper(classifier, SHARES if options.full else ONE_SHARE)]
    missed += decompositions(classifier)
    if options.full:
        # Sizes of other results would count in this process's peak.
        subprocess.run([sys.executable, "-m", "bench.caso", "--all-classes", TIMED[1]], check=True)
    net = fully_connected()
    missed += against_the_truth(net, fashion_mnist("t10k")[0][: options.images])
    sys.exit("; ".join(missed) or None)


@dataclass(frozen=True)
class Timing:
    """One image by hessx and by the paper's algorithm.

    Attributes:
        seconds: Of ``hessx.caso_path`` for the same lambda1s as the baseline, median of three.
        path_seconds: For all of SHARES.
        baseline_seconds: Of the baseline, once.
        calls: Gradients and products of the baseline.
        gap: The largest that is reported over the path.
        short: By how much the baseline's objectives fall short of hessx's for the same program,
            relative to them, for each lambda1.
    """

    seconds: float
    path_seconds: float
    baseline_seconds: float
    calls: int
    gap: float
    short: list[float]


def against_the_paper(classifier: Classifier, shares: tuple[float, ...]) -> Iterator[str]:
    """Print times and objectives for the photographs; yield what is not as promised."""
    net = classifier.model
    contiguous = copy.deepcopy(net).to(memory_format=torch.contiguous_format)
    x = photograph_inputs(classifier, TIMED[0])
    losses = {
        "channels_last": DifferentiatedLoss(net, x[0], 0),
        "contiguous": DifferentiatedLoss(contiguous, x[0].contiguous(), 0),
    }
    direction = torch.ones_like(x[0])
    products = {name: partial(loss.product, direction) for name, loss in losses.items()}
    times = compare(products, seconds=0.0)
    layout = min(times, key=lambda name: times[name])
    print("\ndouble backward", *(f"{name} {1e3 * t:.0f} ms" for name, t in times.items()), sep="  ")
    print(
        f"CASO, EfficientNet-Lite0, gap {TOL}; the baseline in {layout}, {len(shares)} of the "
        f"{len(SHARES)} lambda1, seconds:"
    )
    head = ("", "baseline", "a lambda", "calls", "hessx", "ratio", "all 4", "gap", "short by")
    print(f"{head[0]:<11}", *(f"{name:>9}" for name in head[1:]))
    for name in TIMED:
        x = photograph_inputs(classifier, name)
        baseline_net = net if layout == "channels_last" else contiguous
        found = time_both(net, baseline_net, x, SHARES, shares)
        ratio = found.baseline_seconds / found.seconds
        print(
            f"{name:<11} {found.baseline_seconds:9.2f}",
            f"{found.baseline_seconds / len(shares):9.2f} {found.calls:9}",
            f"{found.seconds:9.2f} {ratio:8.0f}x {found.path_seconds:9.2f} {found.gap:9.1e}",
            *(f"{short:9.1e}" for short in found.short),
            flush=True,
        )
        if found.gap > TOL:
            yield f"{name}: gap {found.gap:.1e}"
        # With one lambda1 the products for L and for the space are not shared by four.
        if len(shares) == len(SHARES) and ratio < SPEEDUP:
            yield f"{name}: less than {SPEEDUP} times faster"
        if min(found.short) < -TOL:
            yield f"{name}: the baseline's objective is higher"


def time_both(
    net: nn.Module,
    baseline_net: nn.Module,
    x: Tensor,
    path_shares: tuple[float, ...],
    shares: tuple[float, ...],
) -> Timing:
    """Explain ``x (1, *shape)`` by both, in turn."""
    first = hessx.cafo(net, x, lambda1=0.0, lambda2=1.0)
    largest, target = first.gradient.abs().max().item(), int(first.target)
    lambda1s = [share * largest for share in shares]
    path = [share * largest for share in path_shares]

    def ours() -> object:
        return hessx.caso_path(net, x, target, lambda1s=lambda1s, tol=TOL)

    ours()
    times = [timed(ours)]
    z = x[0] if baseline_net is net else x[0].contiguous()
    start = time.perf_counter()
    paper = paper_caso(baseline_net, z, target, lambda1s)
    baseline_seconds = time.perf_counter() - start
    times += [timed(ours), timed(ours)]
    start = time.perf_counter()
    whole = hessx.caso_path(net, x, target, lambda1s=path, tol=TOL)
    path_seconds = time.perf_counter() - start
    # The same program: lambda2 follows from the estimate of L, which differs.
    same = hessx.caso_path(net, x, target, lambda1s=lambda1s, lambda2=paper.lambda2, tol=TOL)
    loss = DifferentiatedLoss(baseline_net, z, target)
    short = []
    for lambda1, mine, theirs in zip(lambda1s, same.delta[0], paper.delta, strict=True):
        best = loss.objective(mine.to(z), lambda1, paper.lambda2)
        short.append(1 - loss.objective(theirs, lambda1, paper.lambda2) / best)
    return Timing(
        statistics.median(times),
        path_seconds,
        baseline_seconds,
        paper.n_calls,
        whole.gap.max().item(),
        short,
    )


def timed(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def decompositions(classifier: Classifier) -> Iterator[str]:
    """Print the largest eigenvalues of the photographs' Hessians; yield what is not as promised."""
    print(f"\n10 eigenpairs to 1 %, and L by {LANCZOS_STEPS} Lanczos steps")
    head = ("", "p", "seconds", "products", "L", "Lanczos", "L differs", "product differs")
    print(f"{head[0]:<11}", *(f"{name:>9}" for name in head[1:]))
    for name in DECOMPOSED:
        x = photograph_inputs(classifier, name)
        found = hessx.input_hessian(classifier.model, x, rank=10)
        top = found.eigenvalues[0, 0].item()
        exact, difference = lanczos(classifier.model, x)
        print(
            f"{name:<11} {found.probabilities.max().item():9.3f} {found.seconds:9.2f}",
            f"{found.n_products:9} {top:9.4g} {exact:9.4g} {abs(top / exact - 1):9.1e}",
            f"{difference:15.1e}",
            flush=True,
        )
        if abs(top / exact - 1) > 0.01:
            yield f"{name}: L is {top}, Lanczos gives {exact}"
        if difference > 1e-4:
            yield f"{name}: products differ by {difference:.1e}"


def lanczos(net: nn.Module, x: Tensor) -> tuple[float, float]:
    """Return L after LANCZOS_STEPS steps from a random vector, and how far a product is off.

    The products are hessx's; one is compared with double backward.
    """
    with Run().own_arithmetic(x.device):
        query = LossQuery(net, x, None, Run())
        linearization = query.linearize(x, torch.zeros(1, dtype=torch.long))
        vector = torch.randn(x[0].numel(), generator=torch.Generator().manual_seed(0))
        basis: list[Tensor] = []
        diagonal, beside = [], []
        for _ in range(LANCZOS_STEPS):
            basis.append(vector / vector.norm())
            image = linearization.product(basis[-1][None, None])[0, 0]
            diagonal.append(image.dot(basis[-1]).item())
            known = torch.stack(basis)
            vector = image - (known @ image) @ known
            # Rounding undoes one orthogonalisation.
            vector = vector - (known @ vector) @ known
            beside.append(vector.norm().item())
            if beside[-1] <= RANK_TOLERANCE * max(diagonal):
                break
    top = eigh_tridiagonal(diagonal, beside[:-1], eigvals_only=True)[-1]
    truth = DifferentiatedLoss(net, x[0], int(query.target)).product(image.view(x[0].shape))
    with Run().own_arithmetic(x.device):
        mine = linearization.product(image[None, None]).view(x[0].shape)
    return float(top), ((mine - truth).norm() / truth.norm()).item()


def print_all_classes(classifier: Classifier, name: str) -> None:
    """Print the time and the peak memory of the whole decomposition of one Hessian."""
    x = photograph_inputs(classifier, name)
    before = peak_bytes()
    found = hessx.input_hessian(classifier.model, x, rank=999)
    print(
        f"{name}: {found.eigenvalues.shape[1]} eigenpairs by all {found.n_classes} classes in "
        f"{found.seconds:.1f} s, peak memory {peak_bytes() / 1e9:.2f} GB, {before / 1e9:.2f} GB "
        "of it before",
        flush=True,
    )
    if peak_bytes() > MOST_BYTES:
        sys.exit(f"{name}: more than {MOST_BYTES / 1e9:.0f} GB")


def peak_bytes() -> int:
    """Return the most memory that this process held at a time."""
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def against_the_truth(net: nn.Module, x: Tensor) -> Iterator[str]:
    """Print gaps against exact solutions in float64; yield what is not as promised."""
    net, x = copy.deepcopy(net).double(), x.double()
    with torch.no_grad():
        target = net(x).argmax(1)
    gradient, hessian = gradient_and_hessian(net, x, target)
    lambda1s = gradient.abs().amax(1)[:, None] * gradient.new_tensor(FASHION_SHARES)
    path = hessx.caso_path(net, x, target, lambda1s=lambda1s, tol=TOL)
    true = torch.empty_like(lambda1s)
    for row, (g, H) in enumerate(zip(gradient, hessian, strict=True)):
        lambda2 = path.lambda2[row].item()
        exact = reference_caso(g, H, lambda1s[row], lambda2)
        best, mine = (
            objective(g, H, delta, lambda1s[row], lambda2) for delta in (exact, path.delta[row])
        )
        true[row] = best / mine - 1
    found = hessx.input_hessian(net, x, target)
    rebuilt = (found.eigenvectors * found.eigenvalues[:, None]) @ found.eigenvectors.mT
    error = ((rebuilt - hessian).flatten(1).norm(dim=1) / hessian.flatten(1).norm(dim=1)).max()
    print(f"\nFashion-MNIST, {len(x)} images, {1e3 * path.seconds / len(x):.1f} ms each")
    print(f"input_hessian against autograd: {error:.1e} of |H|")
    if error > 1e-9:
        yield f"Fashion-MNIST: the Hessian is off by {error:.1e}"
    print("lambda1 / |g|_inf  largest true gap  largest reported gap")
    for place, share in enumerate(FASHION_SHARES):
        print(f"{share:17} {true[:, place].max():17.1e} {path.gap[:, place].max():21.1e}")
    if (path.gap > TOL).any():
        yield f"Fashion-MNIST: gap {path.gap.max():.1e}"
    if (true > path.gap + ROUNDING).any():
        yield f"Fashion-MNIST: a true gap is above the reported one by {(true - path.gap).max()}"


if __name__ == "__main__":
    main()
