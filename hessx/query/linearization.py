"""The first and second derivatives of a classifier's cross-entropy at some examples."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import torch
from torch import Tensor

from hessx import ops
from hessx.query.model import DETACHED, Model, check_finite
from hessx.query.route import Route
from hessx.query.scaling import scaled
from hessx.query.softmax import softmax_factor, softmax_residual
from hessx.run import accumulation_dtype


class Linearization:
    """A classifier's Jacobian J and the Hessian of its cross-entropy at N examples.

    One graph is kept; nothing but gradients with respect to the inputs is computed. d is the
    number of entries of one example, c of its logits, m of vectors an example. Vectors are scaled
    by powers of two on their way through the model, so tiny ones keep their digits.

    Args:
        model: The model.
        route: How its directional derivatives are taken.
        x: ``(N, *shape)``.
        rows: ``(N,)``: whose additional arguments each example takes.
        target: ``(N,)``: the classes.
        vectors_at_once: How many vectors an example are taken together.
        products: Prepare for JVPs and products, which may also be asked for otherwise.

    Attributes:
        probabilities: ``(N, c)`` float64.

    Raises:
        ValueError: If a logit is not finite or the gradient does not reach ``x``.
    """

    def __init__(
        self,
        model: Model,
        route: Route,
        x: Tensor,
        rows: Tensor,
        target: Tensor,
        vectors_at_once: int,
        products: bool = True,
    ):
        self._model = model
        self._route = route
        self._at_once = vectors_at_once
        self._x = x.detach().clone().requires_grad_()
        self._logits, self._derivative = route.record(self._x, rows, products)
        if not self._logits.requires_grad:
            raise ValueError(DETACHED)
        check_finite(self._logits.detach(), rows)
        self._target = target
        self._dtype = accumulation_dtype(x)
        self.probabilities, self._residual = softmax_residual(self._logits.detach(), target)

    @cached_property
    def gradient(self) -> Tensor:
        """The gradients J^T (p - e_y) ``(N, d)``, in float32, or float64 for such inputs.

        p - e_y is formed in float64, its entry y as minus the sum of the others.
        """
        return self.vjp(self._residual[:, None])[:, 0]

    def jvp(self, tangents: Tensor) -> Tensor:
        """Return J t ``(N, m, c)``, float64, for ``tangents (N, m, d)``."""
        return self._few_at_a_time(self._jvp, tangents)

    def vjp(self, cotangents: Tensor) -> Tensor:
        """Return J^T u ``(N, m, d)`` for ``cotangents (N, m, c)``."""
        return self._few_at_a_time(self._vjp, cotangents)

    def product(self, vectors: Tensor) -> Tensor:
        """Return H v ``(N, m, d)`` for ``vectors (N, m, d)``.

        H = J^T (diag p - p p^T) J: the Hessian of the cross-entropy where the model is piecewise
        linear, its Gauss-Newton part elsewhere; the whole Hessian when the query is exact.

        Source: CASO, Proposition 1.
        """
        self._route.n_products += vectors.shape[0] * vectors.shape[1]
        if self._route.name == "double-backward":
            return self._few_at_a_time(self._whole_product, vectors)
        return self._few_at_a_time(self._gauss_newton_product, vectors)

    def factor(self) -> Tensor:
        """Return ``(N, c, d)``, rows sqrt(p_i) (W_i - wbar), with H = factor^T factor.

        W_i is the gradient of logit i and wbar their mean under p.

        Source: CASO, Proposition 1 and Theorem 2.
        """
        return self.vjp(softmax_factor(self.probabilities))

    def _few_at_a_time(self, function: Callable[[Tensor], Tensor], vectors: Tensor) -> Tensor:
        if vectors.shape[1] <= self._at_once:
            return function(vectors)
        out = None
        for start in range(0, vectors.shape[1], self._at_once):
            few = slice(start, start + self._at_once)
            part = function(vectors[:, few])
            if out is None:
                out = part.new_empty(len(part), vectors.shape[1], *part.shape[2:])
            out[:, few] = part
        assert out is not None
        return out

    def _jvp(self, tangents: Tensor) -> Tensor:
        t, scale = scaled(tangents, self._x.dtype)
        t = t.reshape(*tangents.shape[:2], *self._x.shape[1:])
        with self._model.clock(), torch.no_grad():
            out = [self._derivative(t[:, i]) for i in range(t.shape[1])]
        return torch.stack(out, 1).double() * scale

    def _gauss_newton_product(self, vectors: Tensor) -> Tensor:
        return self._vjp(ops.softmax_product(self.probabilities, self._jvp(vectors)))

    def _vjp(self, cotangents: Tensor) -> Tensor:
        u, scale = scaled(cotangents, self._logits.dtype)
        return self._pulled_back(self._logits, u, scale)

    @cached_property
    def _gradient_on_graph(self) -> tuple[Tensor, Tensor]:
        """The gradient with a graph through p - e_y too, divided by its scale, and the scale."""
        _, scale = scaled(self._residual, self._dtype)
        with self._model.clock(), torch.enable_grad():
            _, residual = softmax_residual(self._logits, self._target)
            u = (residual / scale).to(self._logits.dtype)
            (gradient,) = torch.autograd.grad(self._logits, self._x, u, create_graph=True)
        return gradient, scale

    def _whole_product(self, vectors: Tensor) -> Tensor:
        gradient, scale = self._gradient_on_graph
        v, length = scaled(vectors, gradient.dtype)
        v = v.reshape(*v.shape[:2], *gradient.shape[1:])
        return self._pulled_back(gradient, v, length * scale[:, None])

    def _pulled_back(self, outputs: Tensor, cotangents: Tensor, scale: Tensor) -> Tensor:
        """Return VJPs ``(N, m, d)`` of ``cotangents (N, m, ...)``, times ``scale (N, m, 1)``."""
        with self._model.clock():
            # One by one: on a CPU as fast as a batched pass, and it works for any operation.
            parts = [
                torch.autograd.grad(
                    outputs, self._x, cotangents[:, i], retain_graph=True, allow_unused=True
                )[0]
                for i in range(cotangents.shape[1])
            ]
        if any(part is None for part in parts):
            raise ValueError(DETACHED)
        return (torch.stack(parts, 1).flatten(2) * scale).to(self._dtype)
