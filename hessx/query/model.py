"""A forward function asked as its caller would, and what one example of it takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from hessx.run import Run

DETACHED = (
    "the gradient of forward_func does not reach its input: it must be differentiable, without "
    "detach(), no_grad() or a way through NumPy"
)
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


class Model:
    """A forward function with the rows' own additional arguments and the caller's autocast.

    Args:
        forward_func: From ``(N, *shape)`` to one output row an example.
        inputs: ``(B, *shape)``.
        run: The call's common arguments.

    Attributes:
        seconds: Host time spent in the model so far, forward and backward.

    Raises:
        TypeError: If ``forward_func`` is not callable.
        ValueError: If it is in training mode with layers that behave differently there.
    """

    def __init__(self, forward_func: Callable[..., Tensor], inputs: Tensor, run: Run):
        check_mode(forward_func)
        self.seconds = 0.0
        self._forward = forward_func
        self._run = run
        self._inputs = inputs
        args = run.additional_forward_args
        self._args = () if args is None else args if isinstance(args, tuple) else (args,)

    def __call__(self, x: Tensor, rows: Tensor) -> Tensor:
        """Return the outputs ``(N, ...)`` at ``x``, with a graph if ``x`` requires a gradient.

        Raises:
            TypeError: If the output is not a floating-point tensor.
            ValueError: If it has not one row an example.
        """
        args = tuple(self._of_rows(a, rows) for a in self._args)
        with (
            self.clock(),
            torch.set_grad_enabled(x.requires_grad),
            self._run.callers_autocast(x.device),
        ):
            out = self._call(x, args)
        if not isinstance(out, Tensor) or not out.is_floating_point():
            kind = out.dtype if isinstance(out, Tensor) else type(out).__name__
            raise TypeError(f"forward_func must return a floating-point tensor, got {kind}")
        if out.dim() == 0 or len(out) != len(x):
            raise ValueError(
                f"forward_func must return one output row an example: (N,) or (N, c) with "
                f"N = {len(x)}, got shape {tuple(out.shape)}"
            )
        return out

    def _of_rows(self, arg: Any, rows: Tensor) -> Any:
        """Return the rows' own entries of an additional argument that has one for each input."""
        if not isinstance(arg, (Tensor, np.ndarray)) or arg.shape[:1] != (len(self._inputs),):
            return arg
        return arg[rows] if isinstance(arg, Tensor) else arg[rows.numpy(force=True)]

    def _call(self, x: Any, args: tuple[Any, ...]) -> Any:
        return self._forward(x, *args)

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Say in a ValueError which inputs the model fails on inside.

        A RuntimeError at the first example is nearly always a shape or type it does not take.
        """
        try:
            yield
        except RuntimeError as error:
            shape = ", ".join(map(str, self._inputs.shape[1:]))
            raise ValueError(
                f"forward_func failed on inputs of shape (1, {shape}) "
                f"and type {self._inputs.dtype}: {error}"
            ) from error

    @contextmanager
    def clock(self) -> Iterator[None]:
        """Add the time inside to ``seconds``."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds += time.perf_counter() - start

    def batches_after_first(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield all inputs but the first, ``size`` at a time, with their rows."""
        for start in range(1, len(self._inputs), size):
            stop = min(start + size, len(self._inputs))
            # A copy: a black box may work in place.
            x = self._inputs[start:stop].detach().clone()
            yield x, torch.arange(start, stop, device=x.device)

    def examples_per_batch(self, saved: int) -> int:
        """Return how many examples fit in memory.

        Args:
            saved: Bytes that autograd saves for one example.

        Raises:
            ValueError: If not even one example fits in the caller's memory limit.
        """
        first = self._inputs[0]
        return examples_in_memory(self._run, saved, first.nbytes, first.device)


def examples_in_memory(run: Run, saved: int, example_bytes: int, device: torch.device) -> int:
    """Return how many examples one call of a model takes.

    Args:
        run: The call's common arguments.
        saved: Bytes that autograd saves for one example.
        example_bytes: Those of the example itself.
        device: Where it is.

    Raises:
        ValueError: If not even one example fits in the caller's memory limit.
    """
    size = _BACKWARD_FACTOR * saved + _INPUT_COPIES * example_bytes
    fitting = run.memory(device) // 2 // size
    if fitting < 1 and run.memory_limit is not None:
        raise ValueError(
            f"memory_limit must be at least {2 * size} bytes: one example in the "
            f"model takes about half of that, got {run.memory_limit}"
        )
    if not saved:
        fitting = min(fitting, _MOST_UNKNOWN_EXAMPLES)
    return max(1, min(fitting, run.max_examples_per_batch or fitting))


class Saved:
    """The bytes of the memory that some tensors occupy, each piece counted once.

    Attributes:
        bytes: Their number, without parameters': those do not grow with the examples.
    """

    def __init__(self) -> None:
        self.bytes = 0
        self._seen: set[int] = set()

    def add(self, tensor: Tensor) -> Tensor:
        """Count ``tensor`` and return it, without its graph.

        An operation that saves its own output (softmax, tanh) would otherwise hold itself alive;
        autograd puts the graph back when it unpacks what was saved.
        """
        storage = tensor.untyped_storage()
        owner = tensor if tensor._base is None else tensor._base
        if not isinstance(owner, nn.Parameter) and storage.data_ptr() not in self._seen:
            self._seen.add(storage.data_ptr())
            self.bytes += storage.nbytes()
        return tensor.detach()


@contextmanager
def count_saved() -> Iterator[Saved]:
    """Count what autograd saves inside."""
    saved = Saved()
    with saved_tensors_hooks(saved.add, lambda tensor: tensor):
        yield saved


def check_mode(forward_func: Callable[..., Tensor]) -> None:
    """Raise unless ``forward_func`` is callable and behaves as in evaluation."""
    if not callable(forward_func):
        raise TypeError(f"forward_func must be callable, got {type(forward_func).__name__}")
    if isinstance(forward_func, nn.Module):
        for name, module in forward_func.named_modules():
            if module.training and _depends_on_training(module):
                raise ValueError(
                    f"forward_func is in training mode and its layer {name!r} "
                    f"({type(module).__name__}) behaves differently there: call .eval() first"
                )


def check_finite(values: Tensor, rows: Tensor) -> None:
    """Raise unless the outputs ``(N, ...)`` are finite."""
    bad = ~values.isfinite()
    if bad.any():
        at = tuple(bad.nonzero()[0].tolist())
        raise ValueError(
            f"forward_func returned {values[at].item()} for input row {int(rows[at[0]])}: "
            "its values must be finite"
        )


def _depends_on_training(module: nn.Module) -> bool:
    if isinstance(module, nn.modules.batchnorm._NormBase):
        return isinstance(module, nn.modules.batchnorm._BatchNorm) or module.track_running_stats
    rate = getattr(module, "p", getattr(module, "dropout", 1.0))
    return isinstance(module, _RANDOM_IN_TRAINING) and rate != 0.0
