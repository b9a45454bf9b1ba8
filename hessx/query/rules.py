"""The linear map of tangents that each piecewise-linear operation stands for at a point.

A rule takes a :class:`Call` before it runs and returns a :class:`Linear`, or raises
:class:`NotPiecewiseLinearError`. Names are those of ATen's operations, without the underscore of
those in place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

aten = torch.ops.aten


class NotPiecewiseLinearError(Exception):
    """The operation named cannot be replayed as a linear map."""


@dataclass
class Linear:
    """A linear map of the tangents of ``sources``.

    Attributes:
        sources: The arguments whose tangents it takes.
        apply: From their tangents to that of the result, or to those of several results.
        at: From the operation's result to ``apply``, where that depends on it.
        gate: The same as a function of the tangent and the result, which is kept by reference.
        scaled: For a convolution: from one factor a channel to the map followed by them.
        channel_scale: For a map that is one factor a channel (axis 1): the factors.
    """

    sources: Sequence[Tensor]
    apply: Callable[..., Any] | None = None
    at: Callable[[Any], Callable[..., Any]] | None = None
    gate: Callable[[Tensor, Tensor], Tensor] | None = None
    scaled: Callable[[Tensor], Linear] | None = None
    channel_scale: Callable[[], Tensor] | None = None


@dataclass(frozen=True)
class Call:
    """One operation about to run.

    Attributes:
        name: Its name.
        function: The operation, never the one in place.
        args: Its arguments.
        kwargs: Its keyword arguments.
        dependent: The tensors among them that depend on the input, as often as they occur.
    """

    name: str
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    dependent: Sequence[Tensor]

    def depends(self, value: Any) -> bool:
        """Return whether ``value`` is one of the tensors that depend on the input."""
        return any(value is tensor for tensor in self.dependent)

    def get(self, index: int, name: str, default: Any = None) -> Any:
        """Return the argument given at ``index`` or as ``name``."""
        return self.args[index] if len(self.args) > index else self.kwargs.get(name, default)

    def sources(self, *allowed: Any) -> list[Tensor]:
        """Return which of ``allowed`` depend on the input: all arguments that may.

        Raises:
            NotPiecewiseLinearError: If another argument depends on it.
        """
        found = [value for value in allowed if self.depends(value)]
        if len(found) != len(self.dependent):
            raise NotPiecewiseLinearError(self.name)
        return found


Rule = Callable[[Call], Linear]
_RULES: dict[str, Rule] = {}


def linear_map(call: Call) -> Linear:
    """Return what ``call`` does to tangents.

    Raises:
        NotPiecewiseLinearError: If there is no such linear map.
    """
    rule = _RULES.get(call.name)
    if rule is None:
        raise NotPiecewiseLinearError(call.name)
    return rule(call)


def _rule(names: str) -> Callable[[Rule], Rule]:
    def register(rule: Rule) -> Rule:
        _RULES.update(dict.fromkeys(names.split(), rule))
        return rule

    return register


@_rule("alias clone _to_copy contiguous _unsafe_view permute transpose t squeeze unsqueeze")
@_rule("slice select expand repeat flip roll unfold diagonal tril triu split split_with_sizes")
@_rule("unbind index index_select gather neg mean sum cumsum im2col col2im")
@_rule("avg_pool2d avg_pool3d _adaptive_avg_pool2d _adaptive_avg_pool3d")
@_rule("reflection_pad1d reflection_pad2d reflection_pad3d")
@_rule("replication_pad1d replication_pad2d replication_pad3d")
@_rule("pixel_shuffle pixel_unshuffle channel_shuffle")
@_rule("upsample_nearest1d upsample_nearest2d upsample_nearest3d _upsample_nearest_exact2d")
@_rule("upsample_linear1d upsample_bilinear2d upsample_bicubic2d upsample_trilinear3d")
def _linear_in_first(call: Call) -> Linear:
    first, *rest = call.args
    return Linear(call.sources(first), lambda t: call.function(t, *rest, **call.kwargs))


@_rule("view reshape")
def _view(call: Call) -> Linear:
    # A tangent's strides may differ from those of what was viewed.
    shape = call.args[1]
    if not isinstance(shape, Sequence):
        raise NotPiecewiseLinearError(call.name)
    return Linear(call.sources(call.args[0]), lambda t: t.reshape(shape))


@_rule("as_strided")
def _restride(call: Call) -> Linear:
    """Only strides of axes of size 1 may change: adaptive pooling to one pixel does that."""
    x, size, stride = call.args[:3]
    same = all(n == 1 or a == b for n, a, b in zip(x.shape, x.stride(), stride, strict=False))
    offset = call.get(3, "storage_offset")
    if tuple(size) != tuple(x.shape) or not same or offset not in (None, x.storage_offset()):
        raise NotPiecewiseLinearError(call.name)
    return Linear(call.sources(x), lambda t: t)


@_rule("constant_pad_nd")
def _pad(call: Call) -> Linear:
    x, pad = call.args[:2]
    return Linear(call.sources(x), lambda t: call.function(t, pad))


@_rule("convolution")
def _convolution(call: Call) -> Linear:
    x, weight, _, stride, padding, dilation, transposed, output_padding, groups = call.args
    geometry = stride, padding, dilation, transposed, output_padding, groups

    def with_weight(weight: Tensor, scaled: Callable[[Tensor], Linear] | None) -> Linear:
        return Linear(
            sources, lambda t: aten.convolution(t, weight, None, *geometry), scaled=scaled
        )

    def scaled(factors: Tensor) -> Linear:
        return with_weight(weight * factors.reshape(-1, *[1] * (weight.dim() - 1)), None)

    sources = call.sources(x)
    return with_weight(weight, None if transposed else scaled)


@_rule("native_batch_norm cudnn_batch_norm miopen_batch_norm")
def _batch_norm(call: Call) -> Linear:
    x, weight, _, _, variance, training, _, eps = call.args
    if training:
        raise NotPiecewiseLinearError(call.name)
    return _channel_scale(call, x, weight, variance, eps)


@_rule("_native_batch_norm_legit_no_training _batch_norm_no_update")
def _batch_norm_in_evaluation(call: Call) -> Linear:
    x, weight, _, _, variance, _, eps = call.args
    return _channel_scale(call, x, weight, variance, eps)


def _channel_scale(
    call: Call, x: Tensor, weight: Tensor | None, variance: Tensor, eps: float
) -> Linear:
    dtype, shape = x.dtype, [-1, *[1] * (x.dim() - 2)]

    @cache
    def factors() -> Tensor:
        found = (variance + eps).rsqrt()
        return (found if weight is None else found * weight).to(dtype)

    return Linear(call.sources(x), lambda t: t * factors().reshape(shape), channel_scale=factors)


@_rule("mm bmm mv dot linear")
def _product(call: Call) -> Linear:
    a, b = call.args[:2]
    product = aten.linear if call.name == "linear" else call.function
    if call.depends(a):
        return Linear(call.sources(a), lambda t: product(t, b))
    return Linear(call.sources(b), lambda t: product(a, t))


@_rule("addmm addmv baddbmm")
def _product_and_constant(call: Call) -> Linear:
    _, a, b = call.args
    alpha = call.kwargs.get("alpha", 1)
    product = {"addmm": aten.mm, "addmv": aten.mv, "baddbmm": aten.bmm}[call.name]
    if call.depends(a):
        return Linear(call.sources(a), lambda t: _times(product(t, b), alpha))
    return Linear(call.sources(b), lambda t: _times(product(a, t), alpha))


def _times(t: Tensor, factor: float) -> Tensor:
    return t if factor == 1 else factor * t


@_rule("add sub rsub")
def _sum(call: Call) -> Linear:
    a, b = call.args[:2]
    alpha = call.get(2, "alpha", 1)
    factors = {"add": (1, alpha), "sub": (1, -alpha), "rsub": (-alpha, 1)}[call.name]
    shape, dtype = _result(a, b)
    signed = [f for value, f in zip((a, b), factors, strict=True) if call.depends(value)]

    def apply(*tangents: Tensor) -> Tensor:
        parts = [_times(t, f) for t, f in zip(tangents, signed, strict=True)]
        # A constant of a larger shape spreads the tangent.
        return parts[0] + parts[1] if len(parts) == 2 else parts[0].to(dtype).expand(shape)

    return Linear(call.sources(a, b), apply)


def _result(a: Any, b: Any) -> tuple[torch.Size, torch.dtype]:
    shapes = [value.shape for value in (a, b) if isinstance(value, Tensor)]
    return torch.broadcast_shapes(*shapes), torch.result_type(a, b)


@_rule("mul")
def _scale(call: Call) -> Linear:
    a, b = call.args
    if call.depends(a):
        return Linear(call.sources(a), lambda t: t * b)
    return Linear(call.sources(b), lambda t: a * t)


@_rule("div")
def _divide(call: Call) -> Linear:
    a, b = call.args[:2]
    if call.get(2, "rounding_mode") is not None:
        raise NotPiecewiseLinearError(call.name)
    return Linear(call.sources(a), lambda t: t / b)


@_rule("cat stack")
def _join(call: Call) -> Linear:
    parts = call.args[0]
    axis = call.get(1, "dim", 0)
    sources = call.sources(*parts)
    constants = [None if call.depends(part) else torch.zeros_like(part) for part in parts]

    def apply(*tangents: Tensor) -> Tensor:
        given = iter(tangents)
        return call.function([next(given) if c is None else c for c in constants], axis)

    return Linear(sources, apply)


@_rule("where")
def _choose(call: Call) -> Linear:
    if len(call.args) != 3:
        raise NotPiecewiseLinearError(call.name)
    condition, a, b = call.args
    shape, dtype = _result(a, b)
    sources = call.sources(a, b)
    zero = torch.zeros((), dtype=dtype, device=condition.device)
    either = [call.depends(a), call.depends(b)]

    def apply(*tangents: Tensor) -> Tensor:
        given = iter(tangents)
        one, other = (next(given) if depends else zero for depends in either)
        return torch.where(condition, one, other).expand(shape)

    return Linear(sources, apply)


@_rule("masked_fill")
def _fill(call: Call) -> Linear:
    x, mask = call.args[:2]
    shape, _ = _result(x, mask)
    return Linear(call.sources(x), lambda t: t.expand(shape).masked_fill(mask, 0))


@_rule("maximum minimum")
def _larger(call: Call) -> Linear:
    a, b = call.args
    # As autograd has it, ties are shared.
    share = ((a > b).to(_result(a, b)[1]) + (a >= b)) / 2
    share = share if call.name == "maximum" else 1 - share
    shares = [s for v, s in ((a, share), (b, 1 - share)) if call.depends(v)]
    return Linear(
        call.sources(a, b),
        lambda *tangents: sum(t * s for t, s in zip(tangents, shares, strict=True)),
    )


@_rule("native_dropout")
def _dropout(call: Call) -> Linear:
    if call.get(2, "train"):
        raise NotPiecewiseLinearError(call.name)
    return Linear(call.sources(call.args[0]), lambda t: t)


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
