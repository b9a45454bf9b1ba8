"""How often the L1 program of CASO finds the best group of k inputs: appendix E of its paper.

``python -m bench.caso_relaxation`` enumerates all groups of at most k of 12 inputs and compares the
best one (``max g^T D + D^T H D / 2 - lambda2 |D|_2^2`` with ``|D|_0 <= k``) with the support of the
L1 program at the lambda1 whose solution has k non-zeros, for k from 1 to 5. It prints, for every
kind of Hessian and every ``c1 = lambda2 - L / 2``, how often the two agree and how much of the best
value the other group loses (after a refit without the L1 penalty). ``lambda2 I - H / 2`` is
positive definite in all of them, so that the restricted eigenvalue condition holds with some
gamma > 0: what varies is gamma.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, cross_entropy

from bench.common import machine
from bench.pictures import OUT, save_png, write_table
from tests.references.caso_relaxation import all_supports, l1_supports, support_values
from tests.references.digits import digits, train

D = 12
SIZES = range(1, 6)
# In units of L, the largest eigenvalue.
DISTANCES = (0.01, 0.1, 0.5, 2.0, 10.0)
CORRELATIONS = (0.0, 0.2, 0.5, 0.9)
RANKS = (1, 3)
SUPPORTS = {k: all_supports(D, k) for k in SIZES}

Problem = tuple[Tensor, Tensor]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--draws", type=int, default=40, help="problems of each kind")
    parser.add_argument("--out", type=Path, default=OUT, help="folder of tables and pictures")
    options = parser.parse_args()
    print(machine())
    start = time.perf_counter()
    print(f"groups of 1 to {SIZES[-1]} of {D} inputs that agree (value lost), by c1 / L")
    print(" " * 34, *(f"{c1:<14g}" for c1 in DISTANCES))
    print(f"{'condition number of lambda2 I - H/2':<34}", "at most", end=" ")
    print(*(f"{(1 + 2 * c1) / (2 * c1):<14.3g}" for c1 in DISTANCES))
    rows, agreements = [], {}
    for name, problems in kinds(options.draws).items():
        cells = [compare(problems, c1) for c1 in DISTANCES]
        agreements[name] = [agree for agree, _ in cells]
        for c1, (agree, lost) in zip(DISTANCES, cells, strict=True):
            rows.append(dict(kind=name, c1_over_L=c1, agree=agree, value_lost=lost))
        texts = [f"{agree:4.0%} ({lost:.1e})" for agree, lost in cells]
        print(f"{name:<34}", *(f"{text:<14}" for text in texts), flush=True)
    print(f"{time.perf_counter() - start:.0f} s")
    write_table(rows, options.out / "caso_relaxation.csv", show=False)
    draw(agreements, options.out / "caso_relaxation.png")


def draw(agreements: dict[str, list[float]], path: Path) -> None:
    """Draw how often the groups agree, over c1 / L."""
    from matplotlib.figure import Figure

    canvas = Figure(figsize=(6.4, 3.2), layout="constrained")
    panel = canvas.subplots()
    for name, shares in agreements.items():
        panel.semilogx(DISTANCES, shares, "o-", ms=3, label=name)
    panel.set(xlabel="c1 / L", ylabel="best group found", ylim=(0, 1.02))
    panel.legend(frameon=False, fontsize=7)
    panel.spines[["top", "right"]].set_visible(False)
    save_png(canvas, path)


def compare(problems: list[Problem], distance: float) -> tuple[float, float]:
    """Return the share of best groups found, and the mean share of the best value that is lost."""
    agree, lost = [], []
    for g, H in problems:
        top = torch.linalg.eigvalsh(H)[-1]
        Q = (1 + 2 * distance) * top * torch.eye(D, dtype=torch.float64) - H
        found = l1_supports(g, Q, SIZES[-1])
        for k, supports in SUPPORTS.items():
            values = support_values(g, Q, supports)
            place = (supports == found[k]).all(1).nonzero().item()
            agree.append(place == values.argmax().item())
            lost.append(1 - (values[place] / values.max()).item())
    return sum(agree) / len(agree), sum(lost) / len(lost)


def kinds(draws: int) -> dict[str, list[Problem]]:
    """Return pairs of g and H by what they are."""
    made = {}
    for rank in RANKS:
        made[f"random directions, rank {rank}"] = [low_rank(rank, seed) for seed in range(draws)]
    for rho in CORRELATIONS:
        made[f"equal correlations {rho}"] = [correlated(rho, seed) for seed in range(draws)]
    made["ReLU net on 4 x 3 pixels of digits"] = list(of_digits(draws))
    return made


def low_rank(rank: int, seed: int) -> Problem:
    """H = B B^T and g, both Gaussian."""
    generator = torch.Generator().manual_seed(seed)
    B, g = (torch.randn(D, n, generator=generator, dtype=torch.float64) for n in (rank, 1))
    return g[:, 0], B @ B.T


def correlated(rho: float, seed: int) -> Problem:
    """H = (1 - rho) I + rho 1 1^T and a Gaussian g."""
    generator = torch.Generator().manual_seed(seed)
    g = torch.randn(D, generator=generator, dtype=torch.float64)
    H = torch.full((D, D), rho, dtype=torch.float64)
    return g, H.fill_diagonal_(1.0)


def of_digits(draws: int) -> Iterator[Problem]:
    """Yield g and H of the least certain digits for a 12-64-64-10 net trained on averages."""
    x, y = digits()
    x = adaptive_avg_pool2d(x.view(-1, 1, 28, 28), (4, 3)).flatten(1)
    net = train((D, 64, 64, 10), x[:4000], y[:4000], epochs=8, weight_decay=0).double()
    x = x[4000:].double()
    with torch.no_grad():
        confidence, predicted = net(x).softmax(1).max(1)
    for row in confidence.argsort()[:draws].tolist():
        yield derivatives(net, x[row], predicted[row])


def derivatives(net: nn.Module, x: Tensor, y: Tensor) -> Problem:
    """Return the gradient and the Hessian of the cross-entropy at ``x (d,)``."""

    def loss(x: Tensor) -> Tensor:
        return cross_entropy(net(x[None]), y[None])

    functional = torch.autograd.functional
    return functional.jacobian(loss, x), functional.hessian(loss, x)


if __name__ == "__main__":
    main()
