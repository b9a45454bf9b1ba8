"""Rules of the operations that are linear piece by piece: their gates are kept as they were."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from hessx.query.rules import Call, Linear, NotPiecewiseLinearError, Rule, registrar, result_of

aten = torch.ops.aten
GATE_RULES: dict[str, Rule] = {}
_rule = registrar(GATE_RULES)


@_rule("maximum minimum")
def _larger(call: Call) -> Linear:
    a, b = call.args
    # As autograd has it, ties are shared.
    share = ((a > b).to(result_of(a, b)[1]) + (a >= b)) / 2
    share = share if call.name == "maximum" else 1 - share
    shares = [s for v, s in ((a, share), (b, 1 - share)) if call.depends(v)]
    return Linear(
        call.sources(a, b),
        lambda *tangents: sum(t * s for t, s in zip(tangents, shares, strict=True)),
    )


@_rule("max_pool2d_with_indices max_pool3d_with_indices adaptive_max_pool2d adaptive_max_pool3d")
def _max_pool(call: Call) -> Linear:
    first = -3 if "3d" in call.name else -2

    def at(result: tuple[Tensor, Tensor]) -> Callable[[Tensor], Tensor]:
        indices = result[1]
        flat = indices.flatten(first)
        return lambda t: t.flatten(first).gather(-1, flat).reshape(indices.shape)

    return Linear(call.sources(call.args[0]), at=at)


@_rule("amax amin")
def _extremum(call: Call) -> Linear:
    x = call.args[0]
    axes, keep = call.get(1, "dim", ()), call.get(2, "keepdim", False)
    axes = axes or list(range(x.dim()))
    chosen = x == call.function(x, axes, True)
    # As autograd has it, ties are shared.
    share = chosen / chosen.sum(axes, keepdim=True)
    return Linear(call.sources(x), lambda t: (t * share).sum(axes, keepdim=keep))


@_rule("max min")
def _extremum_with_index(call: Call) -> Linear:
    if len(call.args) < 2:
        raise NotPiecewiseLinearError(call.name)
    axis, keep = call.args[1], call.get(2, "keepdim", False)

    def at(result: tuple[Tensor, Tensor]) -> Callable[[Tensor], Tensor]:
        index = result[1] if keep else result[1].unsqueeze(axis)

        def apply(t: Tensor) -> Tensor:
            found = t.gather(axis, index)
            return found if keep else found.squeeze(axis)

        return apply

    return Linear(call.sources(call.args[0]), at=at)


@_rule("relu")
def _relu(call: Call) -> Linear:
    return _gate(call, lambda t, out: aten.threshold_backward(t, out, 0))


@_rule("hardtanh")
def _hardtanh(call: Call) -> Linear:
    low, high = call.get(1, "min_val", -1), call.get(2, "max_val", 1)
    return _gate(call, lambda t, out: aten.hardtanh_backward(t, out, low, high))


@_rule("leaky_relu")
def _leaky_relu(call: Call) -> Linear:
    slope = call.get(1, "negative_slope", 0.01)
    if slope < 0:
        x = call.args[0]
        return _by_slope(call, torch.where(x > 0, x.new_ones(()), slope))
    return _gate(call, lambda t, out: aten.leaky_relu_backward(t, out, slope, True))


def _gate(call: Call, derivative: Callable[[Tensor, Tensor], Tensor]) -> Linear:
    """A map gated by the operation's own output, which the next layer mostly keeps anyway."""
    return Linear(call.sources(call.args[0]), gate=derivative)


@_rule("threshold")
def _threshold(call: Call) -> Linear:
    x, threshold = call.args[:2]
    return _by_slope(call, x > threshold)


@_rule("clamp clamp_min clamp_max")
def _clamp(call: Call) -> Linear:
    x = call.args[0]
    low = call.get(1, "min") if call.name != "clamp_max" else None
    high = call.get(2, "max") if call.name == "clamp" else call.get(1, "max")
    high = None if call.name == "clamp_min" else high
    inside = torch.ones_like(x, dtype=torch.bool)
    for bound, kept in ((low, x.__ge__), (high, x.__le__)):
        if bound is not None:
            inside = inside & kept(bound)
    return _by_slope(call, inside)


@_rule("abs")
def _abs(call: Call) -> Linear:
    return _by_slope(call, call.args[0].sign())


@_rule("_prelu_kernel")
def _prelu(call: Call) -> Linear:
    x, weight = call.args
    return _by_slope(call, torch.where(x > 0, 1.0, weight))


@_rule("softshrink hardshrink")
def _shrink(call: Call) -> Linear:
    x = call.args[0]
    return _by_slope(call, x.abs() > call.get(1, "lambd", 0.5))


def _by_slope(call: Call, slope: Tensor) -> Linear:
    x = call.args[0]
    # In x's own type: a product with a mask of bools takes four times as long.
    slope = slope.to(x.dtype)
    return Linear(call.sources(x), lambda t: t * slope)
