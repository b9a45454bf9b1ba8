"""How a model's directional derivatives are taken, decided once and kept for later calls."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from hessx.query.directional import TransposedTwice, forward_derivative
from hessx.query.model import DETACHED, Model
from hessx.query.rules import NotPiecewiseLinearError
from hessx.query.tape import Recorder, Tape

# From a tangent of the inputs (N, *shape) to that of the outputs (N, c).
Derivative = Callable[[Tensor], Tensor]
# Relative disagreement of a tape with autograd beyond which it is not used: far above rounding,
# far below what a wrong rule does.
_AGREEMENT = {torch.float32: 1e-3, torch.float64: 1e-8}
# Torch keeps "a dispatch mode is active" for the whole process: modes that threads enter and leave
# in turns would leave it set, and torch.compile off.
_RECORDING = threading.RLock()


class Route:
    """The way from a model to its directional derivatives.

    A piecewise-linear model in float32 or float64 is replayed from a tape ("frozen"), after one
    comparison with autograd. Any other has dual numbers ("forward"), or, where one of its
    operations has no forward-mode derivative, the VJP of a VJP.

    Args:
        model: The model.
        exact: Whether products are with the whole Hessian.
        may_freeze: Whether to try a tape.

    Attributes:
        name: "frozen", "forward" or "double-backward".
        n_products: Hessian-vector products so far.
    """

    def __init__(self, model: Model, exact: bool, may_freeze: bool):
        self.n_products = 0
        self._model = model
        self._otherwise = "double-backward" if exact else "forward"
        self.name = "frozen" if may_freeze else self._otherwise
        self._has_forward_mode = True
        self._unsaid: str | None = None

    def record(self, x: Tensor, rows: Tensor, tape: bool = True) -> tuple[Tensor, Derivative]:
        """Return the outputs at the leaf ``x`` on a graph, and their derivative.

        Without a tape, the derivative is autograd's.
        """
        if tape and self.name == "frozen":
            with _RECORDING, Recorder(x) as recorder:
                out = self._model(x, rows)
            try:
                return out, recorder.tape(out)
            except NotPiecewiseLinearError as problem:
                self._leave_frozen(f"{problem} is not piecewise linear or has no rule")
        else:
            out = self._model(x, rows)
        return out, self._by_autograd(x, rows, out)

    def verify(self, x: Tensor, out: Tensor, derivative: Derivative) -> None:
        """Compare a tape with the graph of the same pass, and leave it if they disagree.

        For a random u and t = J^T u/|J^T u| + noise, <u, J t> = <J^T u, t>. The pass back keeps
        a graph where products will.

        Raises:
            ValueError: If the gradient of ``out`` does not reach ``x``.
        """
        generator = torch.Generator().manual_seed(0)
        u, noise = (
            torch.randn(like.shape, generator=generator, dtype=like.dtype).to(like.device)
            for like in (out, x)
        )
        pulled = None
        if out.requires_grad:
            with self._model.clock():
                (pulled,) = torch.autograd.grad(
                    out,
                    x,
                    u,
                    retain_graph=True,
                    create_graph=self.name == "double-backward",
                    allow_unused=True,
                )
        if pulled is None:
            raise ValueError(DETACHED)
        if not isinstance(derivative, Tape):
            return
        length = pulled.norm().clamp(min=torch.finfo(x.dtype).tiny)
        t = pulled / length + noise
        with self._model.clock(), torch.no_grad():
            found = (derivative(t).double() * u).sum()
        expected = (pulled.double() * t).sum()
        # A model may compute in less than the precision of its inputs.
        agreement = max(_AGREEMENT[x.dtype], _AGREEMENT.get(out.dtype, 0.0))
        # Written so that NaN disagrees.
        if not (found - expected).abs() <= agreement * length:
            self._leave_frozen("replaying it with frozen gates disagrees with autograd")

    def warn(self) -> None:
        """Warn, once, if a model turned out not to be piecewise linear."""
        if self._unsaid is not None and self.name == "forward":
            warnings.warn(
                f"forward_func cannot be taken as piecewise linear: {self._unsaid}; "
                "Hessian-vector products are Gauss-Newton ones by forward-mode differentiation, "
                "which is slower",
                RuntimeWarning,
                stacklevel=3,
            )
        self._unsaid = None

    def _leave_frozen(self, reason: str) -> None:
        self.name = self._otherwise
        self._unsaid = reason

    def _by_autograd(self, x: Tensor, rows: Tensor, out: Tensor) -> Derivative:
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

        return derivative
