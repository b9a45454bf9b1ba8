"""Infidelity at points that are not the inputs themselves, and its gradient there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hessx.perturb import Perturbation
from hessx.query import ExplanationQuery, GradientQuery
from hessx.query.joined import Joined
from hessx.query.row_arguments import RowArguments
from hessx.run import Run
from hessx.score.answers import Answers, answers_by_number, answers_of_calls, called
from hessx.score.infidelity import black_box_of, law_of
from hessx.score.perturb_call import PerturbCall


class NearbyInfidelity:
    """The infidelity of an explanation function at any point, with one set of perturbations.

    Args:
        forward_func: As for `hessx.infidelity`.
        perturb_func: As for `hessx.infidelity`.
        explain: The explanation function, bound to the inputs.
        baselines: As for `hessx.infidelity`.
        additional_forward_args: As for `hessx.infidelity`.
        target: As for `hessx.infidelity`, one.
        n: Perturbations, or None for all that are listed.
        normalize: Whether explanations are scaled optimally at each point.
        run: The call's common arguments.
    """

    def __init__(
        self,
        forward_func: Callable[..., Any],
        perturb_func: Perturbation | Callable[..., Any],
        explain: ExplanationQuery,
        *,
        baselines: Any,
        additional_forward_args: Any,
        target: Any,
        n: int | None,
        normalize: bool,
        run: Run,
    ):
        self._forward = forward_func
        self._perturb = perturb_func
        self._explain = explain
        self._arguments = RowArguments(dict(baselines=baselines, target=target), explain.inputs)
        self._additional = RowArguments(
            dict(additional_forward_args=additional_forward_args), explain.inputs
        )
        self._n = n
        self._normalize = normalize
        self._run = run
        self._joined = Joined(explain.inputs)

    def __call__(self, x: tuple[Tensor, ...], rows: Tensor) -> Tensor:
        """Return the infidelity ``(N,)`` at ``x``, ``(N, *shape)`` each.

        Args:
            x: The points.
            rows: ``(N,)``: whose arguments each of them takes.

        Raises:
            ValueError: If explanations are not shaped like the inputs.
        """
        # Copies: it may work in place.
        attributions = self._explain(tuple(t.clone() for t in x), rows)
        _check_shapes(attributions, x)
        answers = self._answers(x, attributions, rows)
        scale = answers.scale() if self._normalize else None
        return answers.mean(answers.errors(scale).square())[:, 0, 0]

    def gradient(self, x: tuple[Tensor, ...], rows: Tensor) -> Tensor:
        """Return the gradient at ``x`` of half the infidelity, ``(N, D)`` over all its numbers.

        With errors r, and answers s of the explanation scaled by beta, it is
        ``E[r (beta grad s - grad f(x) + grad f(x - I))]``; the gradient of beta drops out, as beta
        is the best scale there is.

        Raises:
            ValueError: Also if the gradient of ``forward_func`` does not reach its input.
        """
        leaves, attributions = self._explained(x, rows)
        _check_shapes(attributions, x)
        fixed = tuple(a.detach() for a in attributions)
        answers = self._answers(x, fixed, rows)
        scale = answers.scale() if self._normalize else None
        weights = answers.errors(scale)[:, :, 0, 0]
        weights = weights * (1 / weights.shape[1] if answers.weights is None else answers.weights)
        beta = torch.ones(len(rows), 1).to(weights) if scale is None else scale[:, :, 0]
        at = self._joined.join(x)
        query = self._gradient_query(at, rows)
        every = torch.arange(len(rows), device=rows.device)
        total = -weights.sum(1, keepdim=True) * _gradients(query, at, every)
        explanation = torch.cat([a.flatten(1).double() for a in fixed], 1)
        to_explanation = torch.zeros_like(explanation)
        for piece in self._pieces(at, rows, query.examples_per_batch):
            owner = piece.rows.repeat_interleave(piece.perturbed.shape[1])
            slopes = _gradients(query, piece.perturbed.detach().flatten(0, 1), owner)
            with torch.enable_grad():
                a = explanation[piece.rows].requires_grad_()
                answer = beta[piece.rows] * (piece.perturbations * a[:, None]).sum(-1)
                moved = (piece.perturbed * slopes.reshape(piece.perturbed.shape)).sum(-1)
                loss = (weights[piece.rows, piece.part] * (answer + moved)).sum()
            to_x, to_a = torch.autograd.grad(
                loss, (piece.leaf, a), retain_graph=True, allow_unused=True
            )
            if to_x is not None:
                total += to_x
            to_explanation[piece.rows] += to_a
        return total + _through(leaves, attributions, to_explanation)

    def split(self, joined: Tensor) -> tuple[Tensor, ...]:
        """Return what is joined as in :meth:`gradient` in the shapes and types of the inputs."""
        return self._joined.split(joined)

    def _explained(
        self, x: tuple[Tensor, ...], rows: Tensor
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Return leaves equal to ``x`` and their explanation, with its graph if it has one."""
        leaves = tuple(t.detach().clone().requires_grad_() for t in x)
        try:
            return leaves, self._explain(leaves, rows, keep_graph=True)
        except RuntimeError:
            # Functions that work in place refuse leaves: such an explanation is held fixed.
            return leaves, self._explain(tuple(t.detach().clone() for t in x), rows)

    def _answers(
        self, x: tuple[Tensor, ...], attributions: tuple[Tensor, ...], rows: Tensor
    ) -> Answers:
        arguments, run = self._arguments(rows), self._run_of(rows)
        query = black_box_of(self._forward_of, x, arguments["target"], run)
        law = law_of(self._perturb, x, arguments["baselines"], self._n, run.seed)
        explanations = [
            a.flatten(1)[:, None, None].to(torch.promote_types(a.dtype, torch.float32))
            for a in attributions
        ]
        if law is not None:
            return answers_by_number(query, law, explanations[0], self._n, run)
        assert self._n is not None
        call = PerturbCall(self._perturb, x, arguments["baselines"])
        return answers_of_calls(query, call, explanations, self._n, run.seed, run)

    def _gradient_query(self, at: Tensor, rows: Tensor) -> GradientQuery:
        forward = self._joined.wrap(self._forward_of)
        target = self._arguments(rows)["target"]
        return GradientQuery(forward, at, target, self._run_of(rows))

    def _forward_of(self, *args: Any) -> Any:
        """Ask the model with the rows' own additional arguments; rows come last."""
        extra = self._additional(args[-1])["additional_forward_args"]
        extra = () if extra is None else extra if isinstance(extra, tuple) else (extra,)
        return self._forward(*args[:-1], *extra)

    def _run_of(self, rows: Tensor) -> Run:
        """Return how to ask the model about points that belong to these rows."""
        run = self._run
        # A run takes note of the autocast that it is made under.
        with run.callers_autocast(rows.device):
            return Run(run.seed, rows, run.max_examples_per_batch, run.memory_limit)

    def _pieces(self, at: Tensor, rows: Tensor, size: int) -> Iterator[_Piece]:
        """Yield the perturbations of joined points, with the graph that leads back to them."""
        baselines, run = self._arguments(rows)["baselines"], self._run_of(rows)
        every = torch.arange(len(rows), device=rows.device)
        leaf = at.detach().clone().requires_grad_()
        with torch.enable_grad():
            x = self._joined.split(leaf)
            law = law_of(self._perturb, x, baselines, self._n, run.seed)
        if law is None:
            assert self._n is not None
            call = PerturbCall(self._perturb, x, baselines)
            with torch.enable_grad():
                for some, part, pairs in called(call, self._n, run.seed, run):
                    perturbations, perturbed = (
                        torch.cat([t.reshape(len(some), part.stop - part.start, -1) for t in ts], 2)
                        for ts in zip(*pairs, strict=True)
                    )
                    if not (perturbations.requires_grad or perturbed.requires_grad):
                        # Not made from x by torch: taken as I added to x.
                        perturbed = perturbed + (leaf - leaf.detach())[some][:, None]
                    yield _Piece(leaf, some, part, perturbations, perturbed)
            return
        total = law.size if self._n is None else self._n
        assert total is not None
        step = max(1, size // len(rows))
        for first in range(0, total, step):
            count = min(step, total - first)
            u = law.draw(first, count) if self._n else law.enumerated(first, count)[0]
            with torch.enable_grad():
                perturbations, perturbed = (
                    made(u[:, None], every).flatten(2).transpose(0, 1)
                    for made in (law.perturbations, law.perturbed)
                )
            yield _Piece(leaf, every, slice(first, first + count), perturbations, perturbed)


@dataclass(frozen=True)
class _Piece:
    """Some perturbations of some joined points.

    Attributes:
        leaf: All points ``(N, D)``, where their graph ends.
        rows: Which of them.
        part: Which perturbations.
        perturbations: ``(len(rows), count, D)``.
        perturbed: ``(len(rows), count, D)``.
    """

    leaf: Tensor
    rows: Tensor
    part: slice
    perturbations: Tensor
    perturbed: Tensor


def _gradients(query: GradientQuery, x: Tensor, rows: Tensor) -> Tensor:
    """Return the gradients at any number of points, float64."""
    places = torch.arange(len(x), device=x.device).split(query.examples_per_batch)
    return torch.cat([query.gradient(x[some], rows[some]).double() for some in places])


def _through(leaves: tuple[Tensor, ...], attributions: tuple[Tensor, ...], slope: Tensor) -> Tensor:
    """Return the gradient at the leaves from that at the explanation, 0 where it has no graph."""
    sizes = [a[0].numel() for a in attributions]
    parts = [
        (a, part.reshape(a.shape).to(a.dtype))
        for a, part in zip(attributions, slope.split(sizes, 1), strict=True)
        if a.requires_grad
    ]
    if not parts:
        return torch.zeros_like(slope)
    outputs, cotangents = zip(*parts, strict=True)
    found = torch.autograd.grad(outputs, leaves, cotangents, allow_unused=True)
    return torch.cat(
        [
            torch.zeros_like(leaf).flatten(1).double() if g is None else g.flatten(1).double()
            for leaf, g in zip(leaves, found, strict=True)
        ],
        1,
    )


def _check_shapes(attributions: tuple[Tensor, ...], x: tuple[Tensor, ...]) -> None:
    found, expected = ([tuple(t.shape) for t in tensors] for tensors in (attributions, x))
    if found != expected:
        raise ValueError(
            f"explanation_func must return explanations shaped like the inputs, {expected}, got "
            f"{found}"
        )
