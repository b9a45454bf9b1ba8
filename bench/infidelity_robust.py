"""Does adversarial training lower infidelity and sensitivity? Appendix B.4 and Table 4.

``python -m bench.infidelity_robust`` scores the global explanations of the digits net and of the
same net trained with PGD, on the same digits, with the settings of appendix B.1. A robust net's
logits are smaller: the table also gives infidelity as a share of the mean square of the net's
answer, which does not depend on their scale.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.common import machine
from bench.infidelity_scores import Method, Scores, mean_and_error, score
from bench.infidelity_tables import SMOOTHED, Optima, explanations, global_laws, global_methods
from bench.pictures import OUT, write_table
from bench.strided_nets import (
    ATTACK_RADIUS,
    accuracy,
    attacked_accuracy,
    digits_net,
    held_out_digits,
    robust_digits_net,
)

NOT_IN_TABLE_4 = ("SmoothGrad", "SmoothGrad" + SMOOTHED)
NETS = {"plain": digits_net, "robust": robust_digits_net}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=25, help="for infidelity")
    parser.add_argument("--sensitive", type=int, default=4, help="of them, for sensitivity")
    parser.add_argument("--samples", type=int, default=20_000, help="of optimal explanations")
    parser.add_argument("--out", type=Path, default=OUT, help="folder of tables and pictures")
    options = parser.parse_args()
    print(machine())
    x, y = held_out_digits()
    nets = {name: made() for name, made in NETS.items()}
    for name, net in nets.items():
        attacked = attacked_accuracy(net, x, y, ATTACK_RADIUS)
        print(f"{name}: accuracy {accuracy(net, x, y):.3f}, attacked {attacked:.3f}", flush=True)
    x = x[: options.images]
    found: dict[str, Scores] = {}
    for name, net in nets.items():
        start = time.perf_counter()
        optima = Optima(options.samples, draws=0)
        basic = {name: e for name, e in explanations(net).items() if name not in NOT_IN_TABLE_4}
        methods = global_methods(net, basic, optima)
        target = net(x).argmax(1)
        found[name] = score(
            net, x, target, methods, global_laws(), sensitive=options.sensitive, label=name
        )
        print(f"{name}: {time.perf_counter() - start:.0f} s", flush=True)
    write_table(compared(found, methods), options.out / "infidelity_robust.csv")


def compared(found: dict[str, Scores], methods: Sequence[Method]) -> list[dict[str, Any]]:
    """Return a row for each method and net."""
    rows = []
    for method in methods:
        for name, scores in found.items():
            row: dict[str, Any] = dict(method=method.name, net=name)
            if scores.sensitivity:
                values = scores.sensitivity[method.name]
                row["sensitivity"], row["sensitivity_se"] = mean_and_error(values)
            for law, by_method in scores.infidelity.items():
                values = by_method[method.name]
                row[law], row[f"{law}_se"] = mean_and_error(values)
                share = values / scores.answers[law]
                row[f"{law}_share"], row[f"{law}_share_se"] = mean_and_error(share)
            rows.append(row)
    return rows


if __name__ == "__main__":
    main()
