"""Pictures of least total variation: the network simplex against HiGHS on two forms.

Run with ``python -m bench.tv_flow``; ``--full`` adds 224 x 224 pixels, where HiGHS on the sparse
form takes up to a minute a picture. Estimates are those of LEG: means of n noisy outputs of a
tanh unit times grid noise of variance .1, and smooth pictures with noise. The radius is a share K
of |D estimate|_inf.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np
import scipy.fft
import scipy.optimize
import scipy.sparse
import torch

import hessx
from bench.common import compare, machine, parser, print_row
from hessx.ops import tv_flow
from tests.references.tv_flow import difference_matrix, differences, objective

SHARES = (0.05, 0.1, 0.3)
PATH = torch.from_numpy(np.geomspace(0.9, 0.05, 20))
SIGMA = 0.1**0.5


def inverse_laplacian(b: np.ndarray) -> np.ndarray:
    """Give (D^T D)^+ b."""
    rows, columns = (2 - 2 * np.cos(np.pi * np.arange(p) / p) for p in b.shape)
    eigenvalues = rows[:, None] + columns
    eigenvalues[0, 0] = np.inf
    return scipy.fft.idctn(scipy.fft.dctn(b, norm="ortho") / eigenvalues, norm="ortho")


def leg_estimate(p: int, n: int, generator: np.random.Generator) -> np.ndarray:
    """LEG's (D^T D)^+ mean(y z) / sigma^2 for y = tanh(z . pattern) + noise."""
    pattern = np.zeros((p, p))
    pattern[p // 4 : p // 2, p // 4 : p // 2] = 1
    pattern[p // 2 : 3 * p // 4, p // 2 : -2] = -0.5
    total = np.zeros((p, p))
    for start in range(0, n, 100):
        k = min(100, n - start)
        across = generator.standard_normal((k, p, p - 1))
        down = generator.standard_normal((k, p - 1, p))
        z = np.zeros((k, p, p)) + generator.standard_normal((k, 1, 1)) / p
        z[:, :, 1:] += across
        z[:, :, :-1] -= across
        z[:, 1:] += down
        z[:, :-1] -= down
        z *= SIGMA
        response = np.tanh((z * pattern).sum((1, 2)) * 2.8 / p)
        response += 0.05 * generator.standard_normal(k)
        total += np.einsum("k,kij->ij", response, z)
    return inverse_laplacian(total / n) / SIGMA**2


def smooth_estimate(p: int, generator: np.random.Generator) -> np.ndarray:
    """A smooth picture with noise of a tenth of its size."""
    smooth = inverse_laplacian(generator.standard_normal((p, p)))
    return smooth / smooth.std() + 0.1 * generator.standard_normal((p, p))


def estimates(p: int, count: int) -> dict[str, torch.Tensor]:
    generator = np.random.default_rng(0)
    kinds = {
        "n=500": lambda: leg_estimate(p, 500, generator),
        "n=3000": lambda: leg_estimate(p, 3000, generator),
        "smooth": lambda: smooth_estimate(p, generator),
    }
    return {
        name: torch.from_numpy(np.stack([make() for _ in range(count)]))
        for name, make in kinds.items()
    }


def steepest(estimate: torch.Tensor) -> torch.Tensor:
    """|D estimate|_inf of each picture, (N, 1)."""
    return differences(estimate).abs().amax(1, keepdim=True)


def split_program(estimate: np.ndarray, radius: float) -> float:
    """Give the objective by HiGHS on the quickest sparse form in pixels.

    min 1^T (s + t) subject to D g = s - t, with bounds on s and t that keep s - t in its own.
    """
    matrix = difference_matrix(*estimate.shape)
    m, pixels = matrix.shape
    centre = matrix @ estimate.ravel()
    low, high = centre - radius, centre + radius
    identity = scipy.sparse.eye_array(m)
    free = np.tile([-np.inf, np.inf], (pixels, 1))
    positive = np.stack([low.clip(0), high.clip(0)], axis=1)
    negative = np.stack([(-high).clip(0), (-low).clip(0)], axis=1)
    result = scipy.optimize.linprog(
        np.concatenate([np.zeros(pixels), np.ones(2 * m)]),
        A_eq=scipy.sparse.hstack([matrix, -identity, identity], format="csc"),
        b_eq=np.zeros(m),
        bounds=np.concatenate([free, positive, negative]),
        method="highs-ds",
    )
    return result.fun


def with_reference(call: Callable[[], object]) -> object:
    with hessx.backend("reference"):
        return call()


def against_highs(label: str, estimate: torch.Tensor, share: float, seconds: float) -> None:
    """One picture after the other, all three ways in turn."""
    radius = steepest(estimate) * share
    turn = {"sparse": -1, "face": -1, "hessx": -1}

    def next_of(name: str) -> slice:
        turn[name] = (turn[name] + 1) % len(estimate)
        return slice(turn[name], turn[name] + 1)

    def sparse() -> object:
        k = next_of("sparse")
        return split_program(estimate[k][0].numpy(), radius[k].item())

    def face() -> object:
        k = next_of("face")
        return with_reference(lambda: tv_flow(estimate[k], radius[k]))

    def simplex() -> object:
        k = next_of("hessx")
        return tv_flow(estimate[k], radius[k])

    # No speed is reported unless they agree.
    value = objective(tv_flow(estimate[:1], radius[:1])[0]).item()
    expected = split_program(estimate[0].numpy(), radius[0].item())
    assert abs(value - expected) <= 1e-8 * expected
    pivots = tv_flow(estimate, radius)[2].double().mean()
    times = compare({"HiGHS sparse": sparse, "HiGHS face": face, "hessx": simplex}, seconds)
    print_row(f"{label} K={share}", times, 1e-3, f"{pivots:.0f} pivots")


def median_ms(call: Callable[[], object], repetitions: int) -> float:
    call()
    times = []
    for _ in range(repetitions):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times)


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--full", action="store_true", help="224 x 224 pixels too")
    full = arguments.parse_args().full
    print(machine())
    print("ms a picture, 1 thread; in brackets: times faster than HiGHS on the sparse form")
    torch.set_num_threads(1)
    small = estimates(28, 16)
    for name, estimate in small.items():
        for share in SHARES:
            against_highs(f"28x28 {name}", estimate, share, 1.5)
    for name, estimate in small.items():
        radii = steepest(estimate) * PATH
        path = median_ms(lambda e=estimate, r=radii: tv_flow(e, r), 5) / len(estimate)
        singles = median_ms(
            lambda e=estimate, r=radii: [tv_flow(e, r[:, k : k + 1]) for k in range(len(PATH))], 3
        ) / len(estimate)
        print(f"28x28 {name}: 20 radii in {path:.2f} ms a picture, one by one {singles:.2f} ms")
    many = small["n=500"].repeat(16, 1, 1)
    for n_threads in (1, 2):
        torch.set_num_threads(n_threads)
        batch = median_ms(lambda: tv_flow(many, 0.1 * steepest(many)), 5)
        print(f"256 pictures of 28x28, n=500 K=0.1, {n_threads} threads: {batch:.0f} ms")
    torch.set_num_threads(1)
    large = estimates(224, 1)
    for name, estimate in large.items():
        for share in SHARES:
            if full:
                against_highs(f"224x224 {name}", estimate, share, 0.0)
            else:
                one = median_ms(lambda e=estimate, s=share: tv_flow(e, s * steepest(e)), 3)
                print(f"224x224 {name} K={share}: {one:.0f} ms")


if __name__ == "__main__":
    main()
