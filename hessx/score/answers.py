"""What explanations and the model answer to perturbations: the numbers that infidelity compares."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from hessx import ops
from hessx.perturb import BoundPerturbation
from hessx.query import BlackBoxQuery, seeded_generators
from hessx.query.joined import Joined
from hessx.run import Run
from hessx.score.perturb_call import PerturbCall

# Perturbations that a function of the user's draws at once where a seed is given: the generators
# are seeded anew for each such block, whatever the batches.
_BLOCK = 256


@dataclass(frozen=True)
class Answers:
    """Answers to n perturbations of each of B inputs, float64.

    Attributes:
        dots: ``(B, n, T, K)``: ``I^T Phi`` of K explanations of T targets.
        differences: ``(B, n, T)``: ``f(x) - f(x - I)``.
        weights: ``(n,)`` adding up to 1 where all perturbations that there are were listed, else
            None: they were drawn.
    """

    dots: Tensor
    differences: Tensor
    weights: Tensor | None = None

    def scale(self) -> Tensor:
        """Return ``E[I^T Phi (f(x) - f(x - I))] / E[(I^T Phi)^2]``, ``(B, T, K)``."""
        size = self.mean(self.dots.square())
        products = self.mean(self.dots * self.differences[..., None])
        return products / torch.where(size > 0, size, 1.0)

    def errors(self, scale: Tensor | None = None) -> Tensor:
        """Return ``I^T Phi - (f(x) - f(x - I))``, ``(B, n, T, K)``, of explanations scaled."""
        dots = self.dots if scale is None else self.dots * scale[:, None]
        return dots - self.differences[..., None]

    def mean(self, values: Tensor) -> Tensor:
        """Return the mean over the perturbations of values ``(B, n, ...)``."""
        if self.weights is None:
            return values.mean(1)
        return torch.tensordot(self.weights, values, ([0], [1]))

    def stderr(self, values: Tensor) -> Tensor:
        """Return the standard error of their mean."""
        if self.weights is not None:
            return torch.zeros_like(values[:, 0])
        n = values.shape[1]
        if n == 1:
            return torch.full_like(values[:, 0], torch.nan)
        return values.std(1) / n**0.5


def answers_by_number(
    query: BlackBoxQuery, law: BoundPerturbation, explanations: Tensor, n: int | None, run: Run
) -> Answers:
    """Answer the first n draws of a law, or, with None, all perturbations that it lists.

    Args:
        query: The model.
        law: Of the perturbations.
        explanations: ``(B, T, K, d)``.
        n: How many.
        run: The call's common arguments.
    """
    n_rows, n_targets, n_kinds, _ = explanations.shape
    rows = torch.arange(n_rows, device=explanations.device)
    shaped = explanations.movedim(0, 2).reshape(n_targets, n_kinds, *law.inputs.shape)
    w = law.project(shaped, rows).movedim(2, 0)
    size = law.size if n is None else n
    assert size is not None
    dots = explanations.new_empty(n_rows, size, n_targets, n_kinds, dtype=torch.float64)
    differences = explanations.new_empty(n_rows, size, n_targets, dtype=torch.float64)
    weights = differences.new_empty(size) if n is None else None
    if n is None:
        dots.copy_(law.all_dots(w.flatten(0, 2)).unflatten(0, w.shape[:3]).movedim(-1, 1))
    with run.progress(n_rows * size, "infidelity", "call") as bar:
        for first in range(0, size, query.examples_per_batch):
            count = min(query.examples_per_batch, size - first)
            part = slice(first, first + count)
            if weights is None:
                u = law.draw(first, count)
                found = ops.perturbation_dots(u[None], w.flatten(0, 2)[None])[0]
                dots[:, part] = found.unflatten(1, w.shape[:3]).movedim(0, 1)
            else:
                u, weights[part] = law.enumerated(first, count)
            rows_at_once = max(1, query.examples_per_batch // count)
            for some in rows.split(rows_at_once):
                x = law.perturbed(u[:, None], some)
                values = query.values(x.flatten(0, 1), some.repeat(count)).double()
                change = query.value[some].double() - values.unflatten(0, (count, len(some)))
                differences[some, part] = change.transpose(0, 1)
                bar.update(len(values))
    shift = law.shift(rows)
    if shift is not None:
        dots += (w.double() * shift.double()[:, None, None]).sum(-1)[:, None]
    return Answers(dots, differences, weights)


def answers_of_calls(
    query: BlackBoxQuery,
    call: PerturbCall,
    explanations: list[Tensor],
    n: int,
    seed: int | None,
    run: Run,
) -> Answers:
    """Answer the perturbations that a function draws.

    Args:
        query: The model, of joined inputs where there are several.
        call: The function.
        explanations: ``(B, T, K, d)`` for each input.
        n: How many perturbations.
        seed: None: as Captum calls the function. An int: by input, in blocks with seeds of their
            own.
        run: The call's common arguments.
    """
    n_rows, n_targets, n_kinds, _ = explanations[0].shape
    joined = Joined(call.inputs)
    dots = explanations[0].new_zeros(n_rows, n, n_targets, n_kinds, dtype=torch.float64)
    differences = explanations[0].new_empty(n_rows, n, n_targets, dtype=torch.float64)
    with run.progress(n_rows * n, "infidelity", "call") as bar:
        for rows, part, pairs in called(call, n, seed, run):
            count = part.stop - part.start
            for (perturbations, _), a in zip(pairs, explanations, strict=True):
                change = perturbations.reshape(len(rows), count, -1)
                if not change.is_floating_point():
                    change = change.to(a.dtype)
                found = ops.perturbation_dots(change, a[rows].flatten(1, 2))
                dots[rows, part] += found.unflatten(2, (n_targets, n_kinds))
            perturbed = tuple(y for _, y in pairs)
            x = perturbed[0] if len(perturbed) == 1 else joined.join(perturbed)
            owner = rows.repeat_interleave(count)
            step, values = query.examples_per_batch, []
            for some, whose in zip(x.split(step), owner.split(step), strict=True):
                values.append(query.values(some, whose).double())
                bar.update(len(some))
            found = torch.cat(values).unflatten(0, (len(rows), count))
            differences[rows, part] = query.value[rows].double()[:, None] - found
    return Answers(dots, differences)


def called(
    call: PerturbCall, n: int, seed: int | None, run: Run
) -> Iterator[tuple[Tensor, slice, list[tuple[Tensor, Tensor]]]]:
    """Yield rows, the numbers of perturbations, and for each input perturbations and inputs."""
    device = call.inputs[0].device
    rows = torch.arange(len(call.inputs[0]), device=device)
    if seed is None:
        step = _captum_step(call, n, run)
        for first in range(0, n, step):
            count = min(step, n - first)
            yield rows, slice(first, first + count), call(rows, count)
        return
    for row in rows.split(1):
        for first in range(0, n, _BLOCK):
            count = min(_BLOCK, n - first)
            with seeded_generators(seed, device, first):
                found = call(row, count)
            yield row, slice(first, first + count), found


def _captum_step(call: PerturbCall, n: int, run: Run) -> int:
    """Return how many perturbations of each input Captum would ask for at once."""
    n_rows = len(call.inputs[0])
    step = n if run.max_examples_per_batch is None else run.max_examples_per_batch // n_rows
    if run.memory_limit is not None:
        # The inputs, the perturbations and the perturbed inputs.
        numbers = 3 * n_rows * sum(x[0].nbytes for x in call.inputs)
        step = min(step, run.memory_limit // 2 // numbers)
    return min(max(step, 1), n)
