"""Ask a model for values and gradients, in batches that fit in memory, and leave it as found."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from hessx.run import Run

# Beside what the graph saves, a backward pass holds the gradients of the layer it is at, and the
# caller holds the perturbed inputs and their gradients.
_BACKWARD_FACTOR = 2
_INPUT_COPIES = 6
# Where autograd saves nothing (a black box), nothing is known of what an example takes.
_MOST_UNKNOWN_EXAMPLES = 1024
_RANDOM_IN_TRAINING = (
    nn.modules.dropout._DropoutNd,
    nn.RNNBase,
    nn.MultiheadAttention,
    nn.RReLU,
)


class ValueQuery:
    """One output of a model for each example, asked in batches that fit in memory.

    Args:
        forward_func: From ``(N, *shape)`` to ``(N,)`` or ``(N, c)`` (or more dimensions, with a
            tuple target); a module or any callable.
        inputs: ``(B, *shape)``.
        target: Which output, in Captum's convention: an int for all examples; a tensor or list
            of B ints, one an example; a tuple for outputs of several dimensions, or a list of B
            tuples; None when there is a single output.
        run: The call's common arguments.

    Attributes:
        value: ``(B,)``, the output at the inputs.
        examples_per_batch: How many examples one call of the model takes.
        seconds: Host time spent in the model so far, forward and backward.

    Raises:
        TypeError: If ``forward_func`` does not return a floating-point tensor, or ``target`` is of
            a wrong type.
        ValueError: If the output's shape, ``target`` or the values are unfit, or if the model is
            in training mode with layers that behave differently there.
    """

    def __init__(self, forward_func: Callable[..., Tensor], inputs: Tensor, target: Any, run: Run):
        _check_mode(forward_func)
        self._forward = forward_func
        self._run = run
        self._target = target
        self._index: Tensor | None = None
        self._args = _as_tuple(run.additional_forward_args)
        self._n_rows = len(inputs)
        self.seconds = 0.0
        first = torch.zeros(1, dtype=torch.long, device=inputs.device)
        with _count_saved() as saved:
            value = self._probe(inputs[:1].clone().requires_grad_(), first)
        self.examples_per_batch = _batch_size(
            _BACKWARD_FACTOR * saved.bytes + _INPUT_COPIES * inputs[0].nbytes,
            run,
            run.memory(inputs.device) // 2,
        )
        if not saved.bytes:
            self.examples_per_batch = min(self.examples_per_batch, _MOST_UNKNOWN_EXAMPLES)
        self.value = torch.cat([value.detach(), *self._values_after_first(inputs)])
        _check_finite(self.value, torch.arange(self._n_rows, device=inputs.device))

    def values(self, x: Tensor, rows: Tensor) -> Tensor:
        """Return the values ``(N,)`` at ``x (N, *shape)``.

        Args:
            x: Any number of examples, at most ``examples_per_batch`` to stay within memory.
            rows: ``(N,)``: whose target and additional arguments each one takes.

        Raises:
            ValueError: If a value is not finite.
        """
        with torch.no_grad():
            value = self._ask(x, rows)
        _check_finite(value, rows)
        return value

    def _probe(self, x: Tensor, rows: Tensor) -> Tensor:
        """Return the first value, computed with a graph.

        A RuntimeError here is nearly always a shape or type that the model does not take.
        """
        try:
            return self._ask(x, rows)
        except RuntimeError as error:
            raise ValueError(
                f"forward_func failed on inputs of shape (1, {', '.join(map(str, x.shape[1:]))}) "
                f"and type {x.dtype}: {error}"
            ) from error

    def _values_after_first(self, inputs: Tensor) -> Iterator[Tensor]:
        for start in range(1, self._n_rows, self.examples_per_batch):
            stop = min(start + self.examples_per_batch, self._n_rows)
            rows = torch.arange(start, stop, device=inputs.device)
            # A copy: a black box may work in place.
            yield self._ask(inputs[start:stop].detach().clone(), rows)

    def _ask(self, x: Tensor, rows: Tensor) -> Tensor:
        args = tuple(
            a[rows] if isinstance(a, Tensor) and a.dim() and len(a) == self._n_rows else a
            for a in self._args
        )
        start = time.perf_counter()
        with torch.set_grad_enabled(x.requires_grad), self._run.callers_autocast(x.device):
            out = self._forward(x, *args)
        self.seconds += time.perf_counter() - start
        if not isinstance(out, Tensor) or not out.is_floating_point():
            kind = out.dtype if isinstance(out, Tensor) else type(out).__name__
            raise TypeError(f"forward_func must return a floating-point tensor, got {kind}")
        if out.dim() == 0 or len(out) != len(x):
            raise ValueError(
                f"forward_func must return one output row an example: (N,) or (N, c) with "
                f"N = {len(x)}, got shape {tuple(out.shape)}"
            )
        if self._index is None:
            self._index = target_index(self._target, self._n_rows, out.shape[1:]).to(out.device)
        index = self._index[rows.to(out.device)]
        with torch.set_grad_enabled(x.requires_grad):
            where = (torch.arange(len(x), device=out.device), *index.unbind(1))
            return out[where]


class GradientQuery(ValueQuery):
    """Values and input gradients.

    Only the gradient with respect to the inputs is computed, never a parameter's; the model's
    mode, parameters and their ``.grad`` stay untouched.

    Raises:
        ValueError: Also if the gradient does not reach the inputs.
    """

    def gradient(self, x: Tensor, rows: Tensor) -> Tensor:
        """Return the gradients ``(N, *shape)`` at ``x``; arguments as for :meth:`values`.

        Raises:
            ValueError: If a value is not finite or the gradient does not reach ``x``.
        """
        x = x.detach().requires_grad_()
        value = self._ask(x, rows)
        start = time.perf_counter()
        gradient = None
        if value.requires_grad:
            (gradient,) = torch.autograd.grad(value, x, torch.ones_like(value), allow_unused=True)
        self.seconds += time.perf_counter() - start
        if gradient is None:
            raise ValueError(_DETACHED)
        _check_finite(value.detach(), rows)
        return gradient

    def _probe(self, x: Tensor, rows: Tensor) -> Tensor:
        value = super()._probe(x, rows)
        if not value.requires_grad:
            raise ValueError(_DETACHED)
        return value


def target_index(target: Any, n_rows: int, outputs: torch.Size) -> Tensor:
    """Return ``(n_rows, len(outputs))`` long: which output each example's target names.

    Args:
        target: In Captum's convention, see :class:`ValueQuery`.
        n_rows: The number of examples.
        outputs: The shape of one example's output.

    Raises:
        TypeError: If ``target`` is not of integers.
        ValueError: If it is missing, out of range, or of the wrong length.
    """
    if target is None:
        if outputs.numel() != 1:
            raise ValueError(
                f"target must be given: forward_func has outputs of shape {tuple(outputs)}"
            )
        return torch.zeros(n_rows, len(outputs), dtype=torch.long, device="cpu")
    if not len(outputs):
        raise ValueError(f"target must be None for a single output (N,), got {target!r}")
    if isinstance(target, Tensor):
        if target.is_floating_point() or target.dtype == torch.bool:
            raise TypeError(f"target must hold integers, got {target.dtype}")
        target = target.tolist()
    entries = target if isinstance(target, list) else [target] * n_rows
    if len(entries) == 1:
        entries = entries * n_rows
    if len(entries) != n_rows:
        raise ValueError(
            f"target must have one entry for each of {n_rows} rows, got {len(entries)}"
        )
    rows = [entry if isinstance(entry, tuple) else (entry,) for entry in entries]
    for row in rows:
        if any(not isinstance(i, int) or isinstance(i, bool) for i in row):
            raise TypeError(f"target must be an int or a tuple of ints, got {row!r}")
        if len(row) != len(outputs) or any(
            not 0 <= i < c for i, c in zip(row, outputs, strict=True)
        ):
            raise ValueError(
                f"target {row if len(row) > 1 else row[0]} does not name an output of shape "
                f"{tuple(outputs)}"
            )
    return torch.tensor(rows, dtype=torch.long, device="cpu")


_DETACHED = (
    "the gradient of forward_func does not reach its input: it must be differentiable, without "
    "detach(), no_grad() or a way through NumPy"
)


class _Saved:
    bytes = 0


@contextmanager
def _count_saved() -> Iterator[_Saved]:
    """Count the bytes that autograd saves inside, without parameters: they do not scale."""
    saved = _Saved()
    seen: set[int] = set()

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        owner = tensor if tensor._base is None else tensor._base
        if not isinstance(owner, nn.Parameter) and storage.data_ptr() not in seen:
            seen.add(storage.data_ptr())
            saved.bytes += storage.nbytes()
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        yield saved


def _check_mode(forward_func: Callable[..., Tensor]) -> None:
    if not callable(forward_func):
        raise TypeError(f"forward_func must be callable, got {type(forward_func).__name__}")
    if isinstance(forward_func, nn.Module):
        for name, module in forward_func.named_modules():
            if module.training and _depends_on_training(module):
                raise ValueError(
                    f"forward_func is in training mode and its layer {name!r} "
                    f"({type(module).__name__}) behaves differently there: call .eval() first"
                )


def _depends_on_training(module: nn.Module) -> bool:
    if isinstance(module, nn.modules.batchnorm._NormBase):
        return isinstance(module, nn.modules.batchnorm._BatchNorm) or module.track_running_stats
    rate = getattr(module, "p", getattr(module, "dropout", 1.0))
    return isinstance(module, _RANDOM_IN_TRAINING) and rate != 0.0


def _check_finite(values: Tensor, rows: Tensor) -> None:
    bad = ~values.isfinite()
    if bad.any():
        at = int(bad.nonzero()[0])
        raise ValueError(
            f"forward_func returned {values[at].item()} for input row {int(rows[at])}: "
            "its values must be finite"
        )


def _batch_size(bytes_per_example: int, run: Run, memory: int) -> int:
    fitting = memory // bytes_per_example
    if fitting < 1 and run.memory_limit is not None:
        raise ValueError(
            f"memory_limit must be at least {2 * bytes_per_example} bytes: one example in the "
            f"model takes about half of that, got {run.memory_limit}"
        )
    return max(1, min(fitting, run.max_examples_per_batch or fitting))


def _as_tuple(args: Any) -> tuple[Any, ...]:
    if args is None:
        return ()
    return args if isinstance(args, tuple) else (args,)
