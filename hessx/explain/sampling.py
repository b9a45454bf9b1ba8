"""Sample gradients, accumulate their moments, and stop each row of a batch when it is done."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hessx.moments import KEPT_SAMPLES, Moments
from hessx.operators import SymmetricOperator
from hessx.perturb import Noise
from hessx.query import GradientQuery
from hessx.run import Run, accumulation_dtype, check_int
from hessx.solve.symmetrize import symmetrize

DEFAULT_SAMPLES = 256
DEFAULT_SAMPLE_CAP = 12_800
# Draws are added in blocks that begin at multiples of this, whatever the batch sizes, so that
# sums are rounded in the same places.
_BLOCK = 256
_FIRST_CHECK = 128


def sample_counts(n_samples: int | None, rtol: float | None, sampling: str) -> list[int]:
    """Return the numbers of gradients at which rows may stop, the last one the cap."""
    if n_samples is None:
        n_samples = DEFAULT_SAMPLES if rtol is None else DEFAULT_SAMPLE_CAP
    pair = 2 if sampling == "antithetic" else 1
    check_int("n_samples", n_samples, 2 * pair)
    if n_samples % pair:
        raise ValueError(f'n_samples must be even for sampling="antithetic", got {n_samples}')
    if rtol is None:
        return [n_samples]
    if not (isinstance(rtol, (int, float)) and 0 < rtol < math.inf):
        raise ValueError(f"rtol must be > 0 and finite, got {rtol!r}")
    # 128, 192, 256, 384, 512, ...: one list for all rows, so that a row stops where it would alone.
    points = [_FIRST_CHECK * 2**j * step // 2 for j in range(40) for step in (2, 3)]
    return [*(p for p in points if p < n_samples), n_samples]


def rows_in_memory(inputs: Tensor, law: Noise, n_samples: int, run: Run) -> int:
    """Return how many rows' moments and estimates fit in the half that queries leave.

    Raises:
        ValueError: If not even one row fits in a ``memory_limit``.
    """
    size = accumulation_dtype(inputs).itemsize
    kept = min(n_samples, max(law.dim, KEPT_SAMPLES))
    rank = min(n_samples, law.dim)
    # Gradients as they arrive, joined, centred and in the basis; small matrices in float64.
    row = 6 * kept * law.dim * size + 24 * rank * rank * 8
    what = f"{n_samples} samples in {law.dim} dimensions"
    return run.rows_in_memory(row, inputs.device, what)


@dataclass(frozen=True)
class Part:
    """Finished rows of the batch."""

    rows: Tensor
    operator: SymmetricOperator
    mean_gradient: Tensor
    mean_shift: Tensor
    n_samples: int
    converged: Tensor


class Sampler:
    """Draws, queries and accumulates for some rows of the batch; all share their draws."""

    def __init__(
        self,
        inputs: Tensor,
        rows: Tensor,
        law: Noise,
        query: GradientQuery,
        antithetic: bool,
        progress: Any,
    ):
        self.rows = rows
        self.moments = Moments(law.coordinates, law.dim)
        self._inputs, self._law, self._query = inputs, law, query
        self._signs = (1.0, -1.0) if antithetic else (1.0,)
        self._progress = progress
        self._dtype = accumulation_dtype(inputs)
        self._total = torch.zeros(
            len(rows), *inputs.shape[1:], dtype=torch.float64, device=inputs.device
        )

    @property
    def n_gradients(self) -> int:
        """Gradients of each row so far."""
        return self.moments.n * len(self._signs)

    def extend(self, n_gradients: int) -> None:
        """Append draws until each row has ``n_gradients`` gradients."""
        stop = n_gradients // len(self._signs)
        while (first := self.moments.n) < stop:
            count = min(stop, first - first % _BLOCK + _BLOCK) - first
            self.moments.add(first, *self._block(first, count))

    def solve(self, estimator: str, rows: Tensor) -> tuple[SymmetricOperator, Tensor]:
        """Return the estimate of some rows in features, and the correction of their gradients."""
        noise = self._law.covariance_noise(self.moments.n)
        estimate = symmetrize(
            self.moments, self._law.sigma, estimator, noise, None if rows.all() else rows
        )
        basis = self._law.expand(estimate.basis.mT).mT.to(self._dtype)
        operator = SymmetricOperator(
            basis,
            estimate.core.to(self._dtype),
            estimate.variance.to(self._dtype),
            estimate.contributions,
        )
        shift = estimate.mean_shift.double()
        if len(self._signs) == 2:
            # The draws of antithetic pairs have mean 0: nothing to correct.
            shift = torch.zeros_like(shift)
        return operator, shift

    def finished(
        self, operator: SymmetricOperator, shift: Tensor, converged: Tensor, done: Tensor
    ) -> Part:
        """Return the rows that are done, with their estimate."""
        n = self.n_gradients
        return Part(self.rows[done], operator, self._total[done] / n, shift, n, converged)

    def select(self, mask: Tensor) -> None:
        """Go on with these rows only."""
        self.rows = self.rows[mask]
        self._total = self._total[mask]
        self.moments.select(mask)

    def _block(self, first: int, count: int) -> tuple[Tensor, Tensor]:
        n_rows, dim = len(self.rows), self._law.dim
        device = self._inputs.device
        z = torch.empty(count, dim, dtype=self._dtype, device=device)
        g = torch.empty(n_rows, count, dim, dtype=self._dtype, device=device)
        draws_at_once = min(count, self._query.examples_per_batch)
        rows_at_once = self._query.examples_per_batch // draws_at_once
        for d in range(0, count, draws_at_once):
            taken = min(draws_at_once, count - d)
            z[d : d + taken], displacement = self._law.draw(first + d, taken)
            for r in range(0, n_rows, rows_at_once):
                part = slice(r, min(r + rows_at_once, n_rows))
                g[part, d : d + taken] = self._gradients(part, displacement)
        return z, g

    def _gradients(self, part: slice, displacement: Tensor) -> Tensor:
        """Query some rows at some displacements: ``(rows, count, dim)``.

        For antithetic pairs that is the odd part ``(g(delta) - g(-delta)) / 2``: the even part
        cancels in ``E[z g^T]`` and counts for the mean gradient alone.
        """
        rows = self.rows[part]
        shape = (len(rows), len(displacement), *self._inputs.shape[1:])
        owner = rows.repeat_interleave(len(displacement))
        odd = None
        for sign in self._signs:
            x = self._inputs[rows][:, None] + sign * displacement
            x = x.to(self._inputs.dtype).reshape(-1, *shape[2:])
            gradient = self._query.gradient(x, owner).reshape(shape).to(self._dtype)
            total = gradient.sum(1, dtype=torch.float64)
            _check_gradient(total, rows)
            self._total[part] += total
            pulled = self._law.pull(gradient)
            odd = pulled if odd is None else (odd - pulled) / 2
            self._progress.update(len(x))
        assert odd is not None
        return odd


def _check_gradient(total: Tensor, rows: Tensor) -> None:
    bad = ~total.isfinite().flatten(1).all(1)
    if bad.any():
        raise ValueError(
            f"the gradient of forward_func is not finite for input row {int(rows[bad][0])}"
        )


def estimate_rows(
    sampler: Sampler, counts: list[int], rtol: float | None, estimator: str
) -> Iterator[Part]:
    """Sample until every row is done; yield rows as they stop.

    A row is looked at where its last error predicts it will have reached ``rtol``, between 1.2 and
    4 times the samples it had.
    """
    due = torch.full((len(sampler.rows),), counts[0], device=sampler.rows.device)
    for n in counts:
        sampler.extend(n)
        look = (due <= n) | (n == counts[-1])
        if not look.any():
            continue
        operator, shift = sampler.solve(estimator, look)
        if rtol is None:
            yield sampler.finished(operator, shift, look, look)
            return
        error = operator.relative_error
        stop = (error <= rtol) | (n == counts[-1])
        done = look.clone()
        done[look] = stop
        if stop.any():
            yield sampler.finished(operator.rows(stop), shift[stop], error[stop] <= rtol, done)
        if done.all():
            return
        growth = (1.05 * (error / rtol).square()).nan_to_num(nan=4.0, posinf=4.0).clamp(1.2, 4.0)
        due[look] = (n * growth).long()
        due = due[~done]
        sampler.select(~done)
