"""Rules of the operations that are linear in what depends on the input."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import torch
from torch import Tensor

from hessx.query.rules import Call, Linear, NotPiecewiseLinearError, Rule, registrar, result_of

aten = torch.ops.aten
LINEAR_RULES: dict[str, Rule] = {}
_rule = registrar(LINEAR_RULES)


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
    function, kwargs = call.function, call.kwargs
    return Linear(call.sources(first), lambda t: function(t, *rest, **kwargs))


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
    return Linear(call.sources(x), lambda t: aten.constant_pad_nd(t, pad))


@_rule("convolution")
def _convolution(call: Call) -> Linear:
    x, weight, _, stride, padding, dilation, transposed, output_padding, groups = call.args
    geometry = stride, padding, dilation, transposed, output_padding, groups

    def with_weight(weight: Tensor) -> Callable[[Tensor], Tensor]:
        return lambda t: aten.convolution(t, weight, None, *geometry)

    def scaled(factors: Tensor) -> Callable[[Tensor], Tensor]:
        return with_weight(weight * factors.reshape(-1, *[1] * (weight.dim() - 1)))

    return Linear(call.sources(x), with_weight(weight), scaled=None if transposed else scaled)


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
    shape, dtype = result_of(a, b)
    signed = [f for value, f in zip((a, b), factors, strict=True) if call.depends(value)]

    def apply(*tangents: Tensor) -> Tensor:
        parts = [_times(t, f) for t, f in zip(tangents, signed, strict=True)]
        # A constant of a larger shape spreads the tangent.
        return parts[0] + parts[1] if len(parts) == 2 else parts[0].to(dtype).expand(shape)

    return Linear(call.sources(a, b), apply)


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
    function = call.function
    constants = [None if call.depends(part) else torch.zeros_like(part) for part in parts]

    def apply(*tangents: Tensor) -> Tensor:
        given = iter(tangents)
        return function([next(given) if c is None else c for c in constants], axis)

    return Linear(call.sources(*parts), apply)


@_rule("where")
def _choose(call: Call) -> Linear:
    if len(call.args) != 3:
        raise NotPiecewiseLinearError(call.name)
    condition, a, b = call.args
    shape, dtype = result_of(a, b)
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
    shape, _ = result_of(x, mask)
    return Linear(call.sources(x), lambda t: t.expand(shape).masked_fill(mask, 0))


@_rule("native_dropout")
def _dropout(call: Call) -> Linear:
    if call.get(2, "train"):
        raise NotPiecewiseLinearError(call.name)
    return Linear(call.sources(call.args[0]), lambda t: t)
