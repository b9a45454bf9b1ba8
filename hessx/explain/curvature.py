"""The gradient and Hessian that CASO, CAFO and the input Hessian work on: at points, or averaged.

One object holds some rows of the batch and what is known of their cross-entropy: the gradient, and
products with the Hessian. Smooth CASO and CAFO (Definition 4) take both as means over noisy copies
of each input, with the target fixed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from hessx import ops
from hessx.query import Linearization, LossQuery
from hessx.run import accumulation_dtype, check_int, check_positive

# Up to here all class gradients cost no more than the products that a Krylov space takes.
FEW_CLASSES = 20

# Streams of the counter-based noise, apart from those of the perturbations.
START_STREAM = 101
SIGN_STREAM = 102
SMOOTH_STREAM = 103


class Curvature(Protocol):
    """What the explanations need to know about ``b`` rows of the batch.

    Attributes:
        rows: ``(b,)``, which ones.
        gradient: ``(b, d)``, of the cross-entropy.
        indefinite: Whether H may have negative eigenvalues.
        first_space: Vectors of the first Krylov space to solve in, half of them from the gradient
            and half from a random vector.
    """

    rows: Tensor
    gradient: Tensor
    indefinite: bool
    first_space: int

    def product(self, vectors: Tensor) -> Tensor:
        """Return H times each vector, ``(b, m, d)`` to ``(b, m, d)``."""
        ...

    def factor(self) -> Tensor | None:
        """Return ``(b, c, d)`` with ``H = factor^T factor``, or None where that is not cheap."""
        ...


class PointCurvature:
    """At the inputs themselves."""

    first_space = 8

    def __init__(self, query: LossQuery, inputs: Tensor, rows: Tensor, products: bool = True):
        self.rows = rows
        self.linearization = query.linearize(inputs[rows], rows, products=products)
        self.gradient = self.linearization.gradient
        self.indefinite = query.method == "double-backward"
        self._few = query.n_classes <= FEW_CLASSES and not self.indefinite

    def product(self, vectors: Tensor) -> Tensor:
        """Return H times each vector."""
        return self.linearization.product(vectors)

    def factor(self) -> Tensor | None:
        """Return all weighted, centred class gradients where the classes are few."""
        return self.linearization.factor() if self._few else None


@dataclass(frozen=True)
class Smoothing:
    """Average over noisy copies.

    Attributes:
        sigma: Standard deviation of the noise, in the units of the inputs.
        n_samples: Copies of each input; all rows share their noise.
    """

    sigma: float
    n_samples: int

    @classmethod
    def checked(cls, sigma: float | None, n_samples: int) -> Smoothing | None:
        """Return None for a sigma of None.

        Raises:
            TypeError: If an argument is not a number.
            ValueError: If sigma is not > 0 and finite, or n_samples not >= 1.
        """
        check_int("n_samples", n_samples, 1)
        if sigma is None:
            return None
        check_positive("smooth_sigma", sigma)
        return cls(float(sigma), n_samples)


class SmoothCurvature:
    """Averaged over noisy copies of each input (Definition 4 of CASO)."""

    # Averages of Hessians are small beside lambda2, and their products dear.
    first_space = 6

    def __init__(
        self,
        query: LossQuery,
        inputs: Tensor,
        rows: Tensor,
        smoothing: Smoothing,
        seed: int,
        products: bool = True,
    ):
        self.rows = rows
        self._query, self._smoothing, self._seed = query, smoothing, seed
        self._inputs = inputs[rows]
        at_once = max(1, query.examples_per_batch // len(rows))
        n = smoothing.n_samples
        self._parts = [(start, min(at_once, n - start)) for start in range(0, n, at_once)]
        # Graphs of all copies are kept where they fit, and built again for each product elsewhere:
        # the first pass then serves the gradient alone.
        fits = len(self._parts) == 1
        self._kept = self._linearized(*self._parts[0], products) if fits else None
        total = torch.zeros(len(rows), inputs[0].numel(), dtype=torch.float64, device=inputs.device)
        for part in self._linearizations(products=False):
            total += part.gradient.double().unflatten(0, (len(rows), -1)).sum(1)
        self.gradient = (total / n).to(accumulation_dtype(inputs))
        self.indefinite = query.method == "double-backward"

    def product(self, vectors: Tensor) -> Tensor:
        """Return the mean of H over the copies, times each vector."""
        total = torch.zeros_like(vectors, dtype=torch.float64)
        for part in self._linearizations(products=True):
            copies = len(part.gradient) // len(vectors)
            images = part.product(vectors.repeat_interleave(copies, dim=0))
            total += images.double().unflatten(0, (len(vectors), copies)).sum(1)
        return (total / self._smoothing.n_samples).to(vectors)

    def factor(self) -> Tensor | None:
        """Return None: there are as many class gradients as classes times copies."""
        return None

    def _linearizations(self, products: bool) -> Iterator[Linearization]:
        if self._kept is not None:
            yield self._kept
            return
        for start, count in self._parts:
            yield self._linearized(start, count, products)

    def _linearized(self, start: int, count: int, products: bool) -> Linearization:
        noise = ops.normal(
            count,
            self._inputs[0].numel(),
            seed=self._seed,
            first_sample=start,
            stream=SMOOTH_STREAM,
            dtype=accumulation_dtype(self._inputs),
            device=self._inputs.device,
        )
        x = self._inputs[:, None] + self._smoothing.sigma * noise.view(
            count, *self._inputs.shape[1:]
        )
        x = x.to(self._inputs.dtype).flatten(0, 1)
        owners = self.rows.repeat_interleave(count)
        return self._query.linearize(x, owners, products=products)


def curvatures(
    query: LossQuery,
    inputs: Tensor,
    smoothing: Smoothing | None,
    rows_at_once: int,
    seed: int,
    products: bool,
) -> Iterator[Curvature]:
    """Go through the batch, some rows at a time.

    Args:
        query: The model and the targets.
        inputs: ``(B, *shape)``.
        smoothing: None for the inputs themselves.
        rows_at_once: The most rows whose vectors fit in memory.
        seed: Key of the noise.
        products: Whether more than the gradient will be asked for.
    """
    most = min(query.examples_per_batch, rows_at_once)
    if smoothing is not None:
        most = max(1, most // smoothing.n_samples)
    for start in range(0, len(inputs), most):
        rows = torch.arange(start, min(start + most, len(inputs)), device=inputs.device)
        if smoothing is None:
            yield PointCurvature(query, inputs, rows, products)
        else:
            yield SmoothCurvature(query, inputs, rows, smoothing, seed, products)


def random_start(gradient: Tensor, seed: int) -> Tensor:
    """Return the first block of a Krylov space: the gradients, and a random vector for all.

    The gradient alone can miss the eigenvector of the largest eigenvalue.
    """
    noise = ops.normal(
        1,
        gradient.shape[1],
        seed=seed,
        stream=START_STREAM,
        dtype=gradient.dtype,
        device=gradient.device,
    )
    return torch.stack([gradient, noise.expand_as(gradient)], 1)
