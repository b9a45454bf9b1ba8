"""CASO with a bound on the number of non-zeros by enumeration, and its L1 relaxation exactly.

Both maximise ``g^T D - D^T Q D / 2`` with ``Q = 2 lambda2 I - H`` positive definite: appendix E of
the CASO paper in Definition 3's terms (its least-squares form is the same up to a constant).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

# Events of the path closer together than this are one event, seen from both of its sides.
_SAME = 1e-10


def support_values(gradient: Tensor, Q: Tensor, supports: Tensor) -> Tensor:
    """Return the maxima ``g_S^T Q_SS^-1 g_S / 2`` over D with support S, for S ``(n, k)``: (n,)."""
    g = gradient[supports]
    block = Q[supports[:, :, None], supports[:, None, :]]
    return (g * torch.linalg.solve(block, g)).sum(1) / 2


def all_supports(d: int, k: int) -> Tensor:
    """Return all sets of ``k`` of ``d`` coordinates, ``(n, k)``.

    The best support of at most k coordinates is among them: the maximum grows with the support.
    """
    return torch.tensor(list(itertools.combinations(range(d), k)))


@dataclass(frozen=True)
class Segment:
    """A range of lambda1 over which the solution has one support, on which it is affine.

    Attributes:
        low: End of the range.
        high: Its start.
        support: ``(k,)``, sorted.
    """

    low: float
    high: float
    support: Tensor


def l1_path(gradient: Tensor, Q: Tensor) -> Iterator[Segment]:
    """Follow the solution of ``max g^T D - D^T Q D / 2 - lambda1 |D|_1`` from |g|_inf down to 0.

    The homotopy of Osborne, Presnell and Turlach: on the support A with signs s, ``D_A = Q_AA^-1
    (g_A - lambda1 s)``; a coordinate joins when its slope reaches lambda1 and leaves when it
    reaches 0, one at a time where numbers are generic.
    """
    d = len(gradient)
    high = gradient.abs().max().item()
    sign = torch.zeros_like(gradient)
    first = gradient.abs().argmax()
    sign[first] = gradient[first].sign()
    while high > 0:
        active = sign.nonzero()[:, 0]
        rest = (sign == 0).nonzero()[:, 0]
        ends = torch.stack([gradient[active], sign[active]], 1)
        a, b = torch.linalg.solve(Q[active][:, active], ends).unbind(1)
        u = gradient[rest] - Q[rest][:, active] @ a
        v = Q[rest][:, active] @ b
        # Rows: joins with a positive sign, joins with a negative one, leaves.
        events = gradient.new_zeros(3, d)
        events[0, rest], events[1, rest] = u / (1 - v), -u / (1 + v)
        events[2, active] = a / b
        events[~(events < high * (1 - _SAME))] = 0
        low, place = events.flatten().max(0)
        yield Segment(max(low.item(), 0.0), high, active)
        kind, coordinate = divmod(int(place), d)
        sign[coordinate] = (1.0, -1.0, 0.0)[kind]
        high = low.item()


def l1_supports(gradient: Tensor, Q: Tensor, most: int) -> dict[int, Tensor]:
    """Return the first support of each size up to ``most`` on the path of the L1 program."""
    found: dict[int, Tensor] = {}
    for segment in l1_path(gradient, Q):
        found.setdefault(len(segment.support), segment.support)
        if len(found) == most:
            break
    return found
