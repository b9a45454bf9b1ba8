"""Points around inputs, drawn by number and shared by all of them."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from hessx import ops

KERNELS = ("uniform", "gaussian")


class Neighbours:
    """Points ``x + radius e_i`` around each input, with the same ``e_i`` for all inputs.

    Several tensors are one input: their numbers are those of one draw.

    Args:
        inputs: ``(B, *shape)`` each, floating point.
        kernel: "uniform": every number of ``e_i`` uniform in ``[-1, 1)``, so that points are
            uniform in the L_inf ball; "gaussian": standard normal.
        radius: That of the ball, or the standard deviation.
        seed: Key of the draws.
        stream: Of the generator.
    """

    def __init__(
        self,
        inputs: tuple[Tensor, ...],
        kernel: Literal["uniform", "gaussian"],
        radius: float,
        seed: int,
        stream: int,
    ):
        self._inputs = inputs
        self._kernel = kernel
        self._radius = radius
        self._seed = seed
        self._stream = stream
        self._sizes = [math.prod(x.shape[1:]) for x in inputs]
        double = any(x.dtype == torch.float64 for x in inputs)
        self._dtype = torch.float64 if double else torch.float32
        self._last: tuple[int, int, tuple[Tensor, ...]] = (0, 0, ())

    def __call__(self, rows: Tensor, first: int, count: int) -> tuple[Tensor, ...]:
        """Return points ``first ...`` of some rows, ``(len(rows) count, *shape)`` each."""
        return tuple(
            (x[rows][:, None] + change).flatten(0, 1)
            for x, change in zip(self._inputs, self.displacements(first, count), strict=True)
        )

    def displacements(self, first: int, count: int) -> tuple[Tensor, ...]:
        """Return ``radius e_i`` for ``i = first ...``, ``(count, *shape)`` each."""
        # Batches of several rows go through the same numbers one after another.
        if self._last[:2] != (first, count):
            self._last = first, count, self._drawn(first, count)
        return self._last[2]

    def _drawn(self, first: int, count: int) -> tuple[Tensor, ...]:
        draw = ops.uniform if self._kernel == "uniform" else ops.normal
        drawn = draw(
            count,
            sum(self._sizes),
            seed=self._seed,
            first_sample=first,
            stream=self._stream,
            dtype=self._dtype,
            device=self._inputs[0].device,
        )
        if self._kernel == "uniform":
            drawn = drawn.mul_(2).sub_(1)
        drawn *= self._radius
        return tuple(
            part.reshape(count, *x.shape[1:]).to(x.dtype)
            for part, x in zip(drawn.split(self._sizes, 1), self._inputs, strict=True)
        )
