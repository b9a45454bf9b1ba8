"""Which entries of H stand clear of their standard error."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# Of two standard errors: chance alone puts 5 % of all pairs beyond, too many to list, few enough
# to colour. Of three: 0.3 %.
FAINT_BELOW = 2.0
STRONG_FROM = 3.0


@dataclass(frozen=True)
class Interaction:
    """One entry of H: how two features act together.

    Attributes:
        first: A feature.
        second: Another one, larger.
        value: ``H[first, second]``.
        stderr: Its standard error.
    """

    first: int
    second: int
    value: float
    stderr: float

    @property
    def z(self) -> float:
        """The value in standard errors."""
        return self.value / self.stderr if self.stderr > 0 else 0.0


def strongest(
    hessian: np.ndarray, stderr: np.ndarray, count: int, *, sign: int
) -> list[Interaction]:
    """Return the pairs of one sign with the largest ``|H_ij|`` of those clear of 0.

    Args:
        hessian: ``(k, k)``, symmetric.
        stderr: ``(k, k)``, standard errors of its entries.
        count: The most pairs to return.
        sign: 1 or -1.

    Returns:
        Pairs ``i < j`` with ``|H_ij|`` at least :data:`STRONG_FROM` standard errors, largest
        first.
    """
    pairs = zip(*np.triu_indices(len(hessian), 1), strict=True)
    found = [
        Interaction(int(i), int(j), float(hessian[i, j]), float(stderr[i, j])) for i, j in pairs
    ]
    clear = [pair for pair in found if sign * pair.z >= STRONG_FROM]
    return sorted(clear, key=lambda pair: -abs(pair.value))[:count]
