"""Directional derivatives of a model by autograd: dual numbers, or the VJP of a VJP."""

from __future__ import annotations

import threading

import torch
from torch import Tensor
from torch.autograd import forward_ad

from hessx.query.model import Model

# The level of dual numbers is one for the whole process.
_LEVEL = threading.RLock()


def forward_derivative(model: Model, x: Tensor, rows: Tensor, tangent: Tensor) -> Tensor:
    """Return ``J t (N, c)`` at ``x (N, *shape)`` along ``tangent`` of the same shape.

    Raises:
        NotImplementedError: If an operation of the model has no forward-mode derivative.
    """
    with _LEVEL, forward_ad.dual_level():
        out = model(forward_ad.make_dual(x.detach(), tangent), rows)
        derivative = forward_ad.unpack_dual(out).tangent
        return torch.zeros_like(out) if derivative is None else derivative.detach()


class TransposedTwice:
    """J t as the derivative with respect to u of <t, J^T u>: two passes back, no rule forward.

    Args:
        x: The inputs, a leaf of the graph.
        out: The outputs on a graph that is kept.
    """

    def __init__(self, x: Tensor, out: Tensor):
        with torch.enable_grad():
            self._cotangent = torch.zeros_like(out, requires_grad=True)
            (self._pulled,) = torch.autograd.grad(out, x, self._cotangent, create_graph=True)

    def __call__(self, tangent: Tensor) -> Tensor:
        """Return ``J t (N, c)``."""
        (derivative,) = torch.autograd.grad(
            self._pulled, self._cotangent, tangent, retain_graph=True
        )
        return derivative
