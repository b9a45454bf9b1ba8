"""How a call is run: the arguments that every explanation shares, checked and kept in one place."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

# Activations of one large batch fall out of the processor's caches and gain nothing, and a
# machine is seldom ours alone: a small share of what is free.
DEFAULT_MEMORY_SHARE = 0.1


@dataclass(frozen=True)
class Run:
    """Arguments shared by every public function that queries a model.

    Attributes:
        seed: Key of the counter-based noise, ``0 <= seed < 2**63``. The same seed gives the same
            draws whatever the batch sizes, threads or devices.
        additional_forward_args: Passed to ``forward_func`` after the inputs: one argument or a
            tuple. A tensor whose first dimension is the batch size is taken row by row.
        max_examples_per_batch: The most examples in one call of the model, or None.
        memory_limit: Bytes for working storage, or None for a share of what is free.
        show_progress: Show a progress bar with the time left.
    """

    seed: int = 0
    additional_forward_args: Any = None
    max_examples_per_batch: int | None = None
    memory_limit: int | None = None
    show_progress: bool = False
    _autocast: dict[str, tuple[bool, torch.dtype]] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        check_int("seed", self.seed, 0, 2**63 - 1)
        if self.max_examples_per_batch is not None:
            check_int("max_examples_per_batch", self.max_examples_per_batch, 1)
        if self.memory_limit is not None:
            check_int("memory_limit", self.memory_limit, 1)
        for kind in ("cpu", "cuda"):
            state = torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)
            self._autocast[kind] = state

    @contextmanager
    def own_arithmetic(self, device: torch.device) -> Iterator[None]:
        """Compute as written inside: no autograd, no inference tensors, no autocast."""
        with torch.inference_mode(False), torch.no_grad():
            if device.type not in self._autocast:
                yield
                return
            with torch.autocast(device.type, enabled=False):
                yield

    def callers_autocast(self, device: torch.device) -> AbstractContextManager[Any]:
        """Return the autocast state that the caller had: the model is asked under it."""
        if device.type not in self._autocast:
            return nullcontext()
        enabled, dtype = self._autocast[device.type]
        return torch.autocast(device.type, dtype=dtype, enabled=enabled)

    def uses_autocast(self, device: torch.device) -> bool:
        """Return whether the caller had autocast enabled on ``device``."""
        return self._autocast.get(device.type, (False, torch.float32))[0]

    def memory(self, device: torch.device) -> int:
        """Return the bytes of working storage this call may use on ``device``."""
        if self.memory_limit is not None:
            return self.memory_limit
        return int(DEFAULT_MEMORY_SHARE * _free_memory(device))

    def rows_in_memory(
        self, row_bytes: int, device: torch.device, what: str, shared_bytes: int = 0
    ) -> int:
        """Return how many rows of so many bytes fit in the half that queries leave.

        Args:
            row_bytes: What a row takes.
            device: Where.
            what: What does not fit, for the error.
            shared_bytes: What all rows take together, beside their own.

        Raises:
            ValueError: If not even one row fits in a ``memory_limit``.
        """
        memory = self.memory(device) // 2
        least = shared_bytes + row_bytes
        if least > memory and self.memory_limit is not None:
            raise ValueError(
                f"memory_limit must be at least {2 * least} bytes for {what}, "
                f"got {self.memory_limit}"
            )
        return max(1, (memory - shared_bytes) // row_bytes)

    def progress(self, total: int, name: str, unit: str = "grad") -> tqdm:
        """Return a progress bar over ``total`` units of work, silent unless asked for."""
        return tqdm(total=total, desc=name, unit=unit, disable=not self.show_progress)


def accumulation_dtype(inputs: Tensor) -> torch.dtype:
    """Return the type to compute in: float64 for float64 inputs, else float32."""
    return torch.float64 if inputs.dtype == torch.float64 else torch.float32


def check_int(name: str, value: Any, low: int, high: int | None = None) -> None:
    """Raise unless ``value`` is an integer in ``[low, high]``."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    if value < low or (high is not None and value > high):
        limits = f">= {low}" if high is None else f"between {low} and {high}"
        raise ValueError(f"{name} must be {limits}, got {value}")


def check_positive(name: str, value: Any) -> None:
    """Raise unless ``value`` is a number > 0 and finite."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number, got {value!r}")
    if not (value > 0 and math.isfinite(value)):
        raise ValueError(f"{name} must be > 0 and finite, got {value}")


def check_at_least_zero(name: str, value: Any) -> None:
    """Raise unless ``value`` is a number >= 0 and finite."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number, got {value!r}")
    if not (value >= 0 and math.isfinite(value)):
        raise ValueError(f"{name} must be >= 0 and finite, got {value}")


def check_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    """Raise ValueError unless ``value`` is one of ``choices``."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}")


def check_kind(name: str, value: Any, kind: type) -> None:
    """Raise TypeError unless ``value`` is None or of a class of this library."""
    if value is not None and not isinstance(value, kind):
        raise TypeError(f"{name} must be a {kind.__module__}.{kind.__name__}, got {value!r}")


def checked_range(name: str, value: Any) -> tuple[float, float] | None:
    """Return ``(low, high)`` or None; raise unless ``value`` is one of them, low < high."""
    if value is None:
        return None
    try:
        # Added to a number, as float would read strings.
        low, high = (float(0.0 + bound) for bound in value)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} must be a pair of numbers, got {value!r}") from error
    if not low < high:
        raise ValueError(f"{name} must be (low, high), low < high, got {value}")
    return low, high


def check_inputs(inputs: Any, name: str = "inputs") -> None:
    """Raise unless ``inputs`` is a finite floating-point tensor ``(B, *shape)``, B >= 1."""
    _check_examples(inputs, name, least_dims=2, floating=True)


def check_tensors(inputs: Any, *, floating: bool = True) -> tuple[Tensor, ...]:
    """Return inputs, a tensor or a tuple of tensors of one batch size, as a tuple.

    An example may be a single number.

    Raises:
        TypeError: If they are not, or, with ``floating``, if one is not of floating point.
        ValueError: If they are empty, of several batch sizes or devices, or not finite.
    """
    tensors = inputs if isinstance(inputs, tuple) else (inputs,)
    if not tensors:
        raise ValueError("inputs must be a tensor or a tuple of tensors, got an empty tuple")
    for i, x in enumerate(tensors):
        name = f"inputs[{i}]" if isinstance(inputs, tuple) else "inputs"
        _check_examples(x, name, least_dims=1, floating=floating)
        if len(x) != len(tensors[0]) or x.device != tensors[0].device:
            raise ValueError(
                f"inputs must be examples of one batch on one device: inputs[0] has "
                f"{len(tensors[0])} on {tensors[0].device}, {name} {len(x)} on {x.device}"
            )
    return tensors


def all_finite(x: Tensor) -> bool:
    """Return whether all numbers are finite, mostly in one pass and without memory."""
    # Finite numbers can overflow the sum.
    return bool(x.sum().isfinite()) or bool(x.isfinite().all())


def _check_examples(x: Any, name: str, *, least_dims: int, floating: bool) -> None:
    if not isinstance(x, Tensor):
        raise TypeError(f"{name} must be a tensor, got {type(x).__name__}")
    if floating and not x.is_floating_point():
        raise TypeError(f"{name} must be floating point, got {x.dtype}")
    if x.dim() < least_dims or x.numel() == 0:
        raise ValueError(f"{name} must be (B, *shape) and not empty, got {tuple(x.shape)}")
    bad = ~x.isfinite()
    if bad.any():
        row = int(bad.reshape(len(x), -1).any(1).nonzero()[0])
        raise ValueError(f"{name} must be finite, got {x[bad][0].item()} in row {row}")


def _free_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        for line in meminfo.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return 1024 * int(line.split()[1])
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
