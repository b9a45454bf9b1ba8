"""The memory of a launch: the tensors whose addresses it was given, element by element."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

_CREATORS = (
    (torch, "empty"),
    (torch, "empty_like"),
    (torch, "empty_strided"),
    (torch.Tensor, "new_empty"),
    (torch.Tensor, "new_empty_strided"),
)
_MAX_GRANULE = 4


@dataclass(frozen=True)
class Buffer:
    """A stretch of one storage, from the first element of a launch's tensors to the last.

    Attributes:
        base: Its address.
        nbytes: Its length.
        granule: Bytes that one byte of `allowed` and `written` stands for.
        allowed: Whether a granule belongs to an element; None if all do.
        written: Whether something was written there; None if that is taken for granted.
    """

    base: int
    nbytes: int
    granule: int
    allowed: bytes | None
    written: bytes | None

    @property
    def n_granules(self) -> int:
        """Number of granules."""
        return -(-self.nbytes // self.granule)


class Buffers:
    """Watches which tensors give away their addresses, and which were never written."""

    def __init__(self) -> None:
        # Tensors are kept, so that no other one gets their address in the meantime.
        self._given: dict[int, list[torch.Tensor]] = {}
        # Storages from torch.empty that nothing but kernels has written to; which bytes were.
        self._fresh: dict[int, tuple[torch.Tensor, np.ndarray]] = {}

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Within it, `data_ptr` and the functions that create empty tensors are watched."""

        def give(original: Callable, tensor: torch.Tensor) -> int:
            address = original(tensor)
            self._given.setdefault(address, []).append(tensor)
            return address

        def create(original: Callable, *args: Any, **kwargs: Any) -> torch.Tensor:
            tensor = original(*args, **kwargs)
            if tensor.device.type == "cpu":
                storage = tensor.untyped_storage()
                written = np.zeros(storage.nbytes(), bool)
                self._fresh[storage.data_ptr()] = (tensor, written)
            return tensor

        with ExitStack() as stack:
            _patch(stack, torch.Tensor, "data_ptr", give)
            for owner, name in _CREATORS:
                _patch(stack, owner, name, create)
            try:
                yield
            finally:
                self._given.clear()
                self._fresh.clear()

    def of_launch(self, args: tuple[int | float, ...]) -> list[Buffer]:
        """What a launch with these arguments may use. Addresses count for one launch."""
        by_storage: dict[int, list[torch.Tensor]] = {}
        for arg in args:
            for tensor in self._given.get(arg, []):
                if tensor.numel():
                    by_storage.setdefault(tensor.untyped_storage().data_ptr(), []).append(tensor)
        self._given.clear()
        return [self._buffer(storage, tensors) for storage, tensors in by_storage.items()]

    def remember_written(self, buffer: Buffer, written: bytes) -> None:
        """Keep what a launch has written for the next one."""
        for storage, (_, known) in self._fresh.items():
            offset = buffer.base - storage
            if 0 <= offset < known.size:
                of_bytes = np.repeat(np.frombuffer(written, bool), buffer.granule)[: buffer.nbytes]
                known[offset : offset + buffer.nbytes] |= of_bytes

    def _buffer(self, storage: int, tensors: list[torch.Tensor]) -> Buffer:
        spans = [_span(tensor) for tensor in tensors]
        first = min(span[0] for span in spans)
        nbytes = max(span[1] for span in spans) - first
        granule = min(_MAX_GRANULE, *(tensor.element_size() for tensor in tensors))
        allowed = None
        if not any(
            tensor.numel() * tensor.element_size() == nbytes and _is_dense(tensor)
            for tensor in tensors
        ):
            allowed = np.zeros(nbytes, bool)
            for tensor in tensors:
                _mark(allowed[_span(tensor)[0] - first :], tensor)
            allowed = allowed[::granule].tobytes()
        written = self._written(storage, first, nbytes, granule)
        return Buffer(first, nbytes, granule, allowed, written)

    def _written(self, storage: int, first: int, nbytes: int, granule: int) -> bytes | None:
        if storage not in self._fresh:
            return None
        tensor, written = self._fresh[storage]
        # Torch counts what it writes itself; what kernels write is remembered here.
        if tensor.is_inference() or tensor._version != 0:
            del self._fresh[storage]
            return None
        offset = first - storage
        return written[offset : offset + nbytes : granule].tobytes()


def _patch(stack: ExitStack, owner: Any, name: str, replacement: Callable) -> None:
    original = getattr(owner, name)
    inherited = name not in vars(owner)

    def call(*args: Any, **kwargs: Any) -> Any:
        return replacement(original, *args, **kwargs)

    setattr(owner, name, call)
    if inherited:
        stack.callback(delattr, owner, name)
    else:
        stack.callback(setattr, owner, name, original)


def _strides(tensor: torch.Tensor) -> tuple[int, ...]:
    # The true ones: tests make tensors that pretend to have larger strides.
    return torch._C.TensorBase.stride(tensor)


def _span(tensor: torch.Tensor) -> tuple[int, int]:
    """Address of the first byte of a tensor and past its last one."""
    first = torch._C.TensorBase.data_ptr(tensor)
    last = sum((n - 1) * s for n, s in zip(tensor.shape, _strides(tensor), strict=True))
    return first, first + (last + 1) * tensor.element_size()


def _is_dense(tensor: torch.Tensor) -> bool:
    return torch._C.TensorBase.is_contiguous(tensor)


def _mark(allowed: np.ndarray, tensor: torch.Tensor) -> None:
    """Set the bytes of a tensor's elements; `allowed` begins at its first one."""
    shape = (*tensor.shape, tensor.element_size())
    strides = (*(s * tensor.element_size() for s in _strides(tensor)), 1)
    np.lib.stride_tricks.as_strided(allowed, shape, strides)[...] = True
