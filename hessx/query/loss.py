"""The cross-entropy of a classifier: its losses, probabilities and linearizations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from hessx.query.linearization import Linearization
from hessx.query.model import Model, check_finite, count_saved
from hessx.query.route import Route
from hessx.query.softmax import cross_entropy
from hessx.query.tape import Tape
from hessx.query.target import target_index
from hessx.run import Run


class LossQuery:
    """The cross-entropy -log p_y of a classifier, asked in batches that fit in memory.

    Directional derivatives of a piecewise-linear model (ReLU, ReLU6, LeakyReLU, max-pooling, batch
    normalisation in evaluation, ...) in float32 or float64 replay the recorded pass with its gates
    frozen, which costs less than a plain pass; the first is compared with autograd. Any other
    model falls back to forward-mode differentiation with one RuntimeWarning that says why. Half
    types and autocast have forward mode without a warning.

    Example:
        >>> import torch
        >>> from hessx.query import LossQuery
        >>> from hessx.run import Run
        >>> x = torch.zeros(1, 2, dtype=torch.float64)
        >>> query = LossQuery(lambda x: 2 * x, x, 0, Run())
        >>> at = query.linearize(x, torch.tensor([0]))
        >>> at.gradient.tolist(), at.product(torch.eye(2, dtype=torch.float64)[None]).tolist()
        ([[-1.0, 1.0]], [[[1.0, -1.0], [-1.0, 1.0]]])

    Args:
        forward_func: From ``(N, *shape)`` to logits ``(N, c)``, c >= 2; a module or any callable.
        inputs: ``(B, *shape)``.
        target: The class y: an int for all examples, a tensor or list of B ints, or None for the
            predicted class.
        run: The call's common arguments.
        exact: Products with the whole Hessian of the loss also where the model is not piecewise
            linear, instead of its Gauss-Newton part J^T (diag p - p p^T) J.

    Attributes:
        target: ``(B,)``, the classes.
        n_classes: c.
        probabilities: ``(B, c)`` float64, the softmax of the logits.
        loss: ``(B,)`` float64.
        examples_per_batch: How many examples one :meth:`linearize` takes to stay within memory.

    Raises:
        TypeError: If ``forward_func`` does not return a floating-point tensor, or ``target`` is of
            a wrong type.
        ValueError: If the output is not logits ``(N, c)``, a logit is not finite, ``target`` is
            unfit, the gradient does not reach the inputs, or the model is in training mode with
            layers that behave differently there.
    """

    def __init__(
        self,
        forward_func: Callable[..., Tensor],
        inputs: Tensor,
        target: Any,
        run: Run,
        *,
        exact: bool = False,
    ):
        self._model = Model(forward_func, inputs, run)
        first = torch.zeros(1, dtype=torch.long, device=inputs.device)
        x = inputs[:1].detach().clone().requires_grad_()
        self._route = Route(self._model, exact, _is_full_precision(inputs, run))
        with count_saved() as saved:
            with self._model.explained():
                out, derivative = self._route.record(x, first)
            _check_shape(out)
            check_finite(out.detach(), first)
            self._route.verify(x, out, derivative)
            if isinstance(derivative, Tape):
                for gate in derivative.gates:
                    saved.add(gate)
        self.examples_per_batch = self._model.examples_per_batch(saved.bytes)
        batches = self._model.batches_after_first(self.examples_per_batch)
        logits = torch.cat([out.detach(), *(self._model(x, rows) for x, rows in batches)])
        check_finite(logits, torch.arange(len(inputs), device=inputs.device))
        _check_logits(logits)
        self.n_classes = logits.shape[1]
        self.target = (
            logits.argmax(1)
            if target is None
            else target_index(target, len(inputs), logits.shape[1:])[:, 0].to(logits.device)
        )
        self.probabilities = logits.double().softmax(1)
        self.loss = cross_entropy(logits, self.target)
        self._route.warn()

    @property
    def method(self) -> str:
        """How products are computed: "frozen", "forward" or "double-backward"."""
        return self._route.name

    @property
    def hessian(self) -> str:
        """Which Hessian products are with: "exact" or "gauss-newton"."""
        return "gauss-newton" if self.method == "forward" else "exact"

    @property
    def n_products(self) -> int:
        """Hessian-vector products so far, one an example and vector."""
        return self._route.n_products

    @property
    def seconds(self) -> float:
        """Host time spent in the model so far, forward and backward."""
        return self._model.seconds

    def losses(self, x: Tensor, rows: Tensor) -> Tensor:
        """Return the losses ``(N,)``, float64, at ``x (N, *shape)``.

        Args:
            x: Any number of examples; the model is asked in batches.
            rows: ``(N,)``: whose target and additional arguments each one takes.

        Raises:
            ValueError: If a logit is not finite.
        """
        parts = []
        for some, owner in zip(
            x.detach().split(self.examples_per_batch),
            rows.split(self.examples_per_batch),
            strict=True,
        ):
            # A copy: a black box may work in place.
            logits = self._model(some.clone(), owner)
            check_finite(logits, owner)
            parts.append(cross_entropy(logits, self._target_of(owner)))
        return torch.cat(parts)

    def linearize(self, x: Tensor, rows: Tensor, *, products: bool = True) -> Linearization:
        """Return the model's linearization at ``x (N, *shape)``.

        Args:
            x: Any number of examples, at most ``examples_per_batch`` to stay within memory.
            rows: ``(N,)``: whose target and additional arguments each one takes.
            products: Prepare for JVPs and products. False saves some of the time where only
                gradients and VJPs are asked for.

        Raises:
            ValueError: If a logit is not finite or the gradient does not reach ``x``.
        """
        at_once = max(1, self.examples_per_batch // len(x))
        found = Linearization(
            self._model, self._route, x, rows, self._target_of(rows), at_once, products
        )
        self._route.warn()
        return found

    def _target_of(self, rows: Tensor) -> Tensor:
        return self.target[rows.to(self.target.device)]


def _check_shape(out: Tensor) -> None:
    if out.dim() != 2 or out.shape[1] < 2:
        raise ValueError(
            "forward_func must return logits (N, c) of c >= 2 classes, got shape "
            f"{tuple(out.shape)}"
        )


def _check_logits(logits: Tensor) -> None:
    rounding = 4 * torch.finfo(logits.dtype).eps * logits.shape[1] ** 0.5
    sums = logits.double().sum(1)
    if (logits >= 0).all() and ((sums - 1).abs() <= min(rounding, 0.05)).all():
        raise ValueError(
            "forward_func must return logits, not probabilities: every row is non-negative and "
            "sums to 1"
        )


def _is_full_precision(inputs: Tensor, run: Run) -> bool:
    return inputs.dtype in (torch.float32, torch.float64) and not run.uses_autocast(inputs.device)
