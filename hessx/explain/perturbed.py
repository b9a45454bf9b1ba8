"""Perturbations in blocks with the answers of a model: what a least-squares explanation fits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from hessx.perturb import BoundPerturbation
from hessx.query import BlackBoxQuery
from hessx.query.generators import seeded_generators
from hessx.score.perturb_call import PerturbCall

# Draws are added in blocks of so many, fewer where a draw is long, whatever the batch sizes: sums
# are rounded in the same places.
_BLOCK = 1024
_NUMBERS_IN_BLOCK = 2**22
# What `hessx.infidelity` asks a function for at once with a seed: the same draws.
_CALL_BLOCK = 256


@dataclass(frozen=True)
class Draws:
    """A block of perturbations.

    Attributes:
        u: ``(count, k)``, what the coordinates of an explanation are multiplied by.
        weights: ``(count,)``, float64, or None where all have the same.
        law: Makes them into perturbed inputs, or
        perturbed: ``(count, *shape)``, those of a single input.
    """

    u: Tensor
    weights: Tensor | None
    law: BoundPerturbation | None = None
    perturbed: Tensor | None = None

    def differences(self, query: BlackBoxQuery, rows: Tensor, progress: Any) -> Tensor:
        """Return ``f(x) - f(x - I)`` of some inputs, ``(count, len(rows), T)``, float64."""
        values = query.values_at_draws(self._points, len(self.u), rows, progress)
        return query.value[rows].double() - values

    def _points(self, part: slice) -> Callable[[Tensor], Tensor]:
        if self.law is not None:
            law, u = self.law, self.u[part, None]
            return lambda rows: law.perturbed(u, rows)
        assert self.perturbed is not None
        # A copy: the model may write to it, and one example may stand for all.
        points = self.perturbed[part, None].clone()
        return lambda rows: points


def block_size(k: int) -> int:
    """Return how many draws of ``k`` numbers are taken together."""
    return max(1, min(_BLOCK, _NUMBERS_IN_BLOCK // k))


def draws_of_law(law: BoundPerturbation, n: int | None) -> Iterator[Draws]:
    """Yield the first n draws of a law, or, with None, all perturbations that it lists."""
    total = law.size if n is None else n
    assert total is not None
    step = block_size(law.n_coordinates)
    for first in range(0, total, step):
        count = min(step, total - first)
        if n is None:
            u, weights = law.enumerated(first, count)
        else:
            u, weights = law.draw(first, count), None
        yield Draws(u, weights, law)


def draws_of_call(call: PerturbCall, row: Tensor, n: int, seed: int) -> Iterator[Draws]:
    """Yield the n perturbations that a function draws for one input.

    Args:
        call: The function.
        row: ``(1,)``: the number of the input.
        n: How many.
        seed: Of the global generators, which are put back.
    """
    for first in range(0, n, _CALL_BLOCK):
        count = min(_CALL_BLOCK, n - first)
        with seeded_generators(seed, row.device, first):
            ((perturbations, perturbed),) = call(row, count)
        u = perturbations.reshape(count, -1)
        if not u.is_floating_point():
            u = u.double()
        yield Draws(u, None, perturbed=perturbed.to(call.inputs[0].dtype))
