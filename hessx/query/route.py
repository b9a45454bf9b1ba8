"""How a model's directional derivatives are taken, decided once and kept for later calls."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from hessx.query.directional import TransposedTwice, forward_derivative
from hessx.query.model import Model

# From a tangent of the inputs (N, *shape) to that of the outputs (N, c).
Derivative = Callable[[Tensor], Tensor]


class Route:
    """The way from a model to its directional derivatives.

    Args:
        model: The model.
        exact: Whether products are with the whole Hessian.

    Attributes:
        name: "forward" or "double-backward".
        n_products: Hessian-vector products so far.
    """

    def __init__(self, model: Model, exact: bool):
        self.name = "double-backward" if exact else "forward"
        self.n_products = 0
        self._model = model
        self._has_forward_mode = True

    def record(self, x: Tensor, rows: Tensor) -> tuple[Tensor, Derivative]:
        """Return the outputs at the leaf ``x`` on a graph, and their derivative."""
        out = self._model(x, rows)
        transposed: list[TransposedTwice] = []

        def derivative(tangent: Tensor) -> Tensor:
            if self._has_forward_mode:
                try:
                    return forward_derivative(self._model, x, rows, tangent)
                except NotImplementedError:
                    self._has_forward_mode = False
            if not transposed:
                transposed.append(TransposedTwice(x, out))
            return transposed[0](tangent)

        return out, derivative
