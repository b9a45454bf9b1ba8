"""Where to write a number on a line, so that the numbers of several lines stay apart."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

# Along the line first, then beside it; earlier places are preferred.
_ALONG = (0.5, 0.38, 0.62, 0.28, 0.72)
_ASIDE = (0.0, -9.0, 9.0, -18.0, 18.0)


def place_labels(
    lines: Sequence[tuple[tuple[float, float], tuple[float, float]]],
    width: float,
    height: float,
    bounds: tuple[float, float],
    obstacles: Sequence[tuple[float, float]] = (),
    radius: float = 0.0,
) -> list[tuple[float, float]]:
    """Return a label's centre for each line, greedily with the least overlap.

    Args:
        lines: Pairs of end points ``(x, y)``; lines are placed in this order.
        width: Of each label.
        height: Of each label.
        bounds: Width and height of the picture; labels are pushed inside.
        obstacles: Points that labels should not cover.
        radius: Size of the obstacles.

    Returns:
        One centre ``(x, y)`` for each line.
    """
    placed: list[tuple[float, float]] = []
    for (x1, y1), (x2, y2) in lines:
        best, best_cost = (0.0, 0.0), float("inf")
        for rank, (aside, along) in enumerate(itertools.product(_ASIDE, _ALONG)):
            x = x1 + along * (x2 - x1)
            y = y1 + along * (y2 - y1) + aside
            x = min(max(x, width / 2 + 1), bounds[0] - width / 2 - 1)
            y = min(max(y, height / 2 + 1), bounds[1] - height / 2 - 1)
            cost = sum(_overlap(x - a, y - b, width, height) for a, b in placed)
            reach = width / 2 + radius, height / 2 + radius
            cost += sum(_overlap(x - a, y - b, *reach) for a, b in obstacles)
            # A rank costs less than any visible overlap.
            cost += rank * 0.02 * height
            if cost < best_cost:
                best, best_cost = (x, y), cost
        placed.append(best)
    return placed


def _overlap(dx: float, dy: float, width: float, height: float) -> float:
    return max(0.0, width - abs(dx)) * max(0.0, height - abs(dy))
