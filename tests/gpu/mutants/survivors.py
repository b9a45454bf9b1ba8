"""The list of mutants that no check catches, each with the reason."""

from __future__ import annotations

import csv
from pathlib import Path

LIST = Path(__file__).with_name("survivors.csv")
EQUIVALENT = "equivalent: "
UNDETECTABLE = "undetectable here: "

Key = tuple[str, str, str]


def read(path: Path = LIST) -> dict[Key, str]:
    """Reasons by (kernel, operator, site).

    Args:
        path: A file of comma-separated values with these three columns and "reason".

    Raises:
        ValueError: If a reason is not of one of the two kinds, or a mutant is listed twice.
    """
    reasons: dict[Key, str] = {}
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            key = row["kernel"], row["operator"], row["site"]
            if key in reasons:
                raise ValueError(f"{path.name} lists {key} twice")
            kinds = (EQUIVALENT, UNDETECTABLE)
            if not row["reason"].startswith(kinds):
                raise ValueError(
                    f"reason must begin with one of {kinds}, got {row['reason']!r} for {key}"
                )
            reasons[key] = row["reason"]
    return reasons
