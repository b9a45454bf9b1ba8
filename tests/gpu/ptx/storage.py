"""The memories of a launch: where each access goes, and what it must not touch."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator

import numpy as np
import torch

from tests.gpu.ptx.datatypes import unsigned
from tests.gpu.ptx.errors import MisalignedError, OutOfBoundsError, PendingCopyError
from tests.gpu.ptx.races import Shadow, Threads

# The longest access, and what allocations are rounded to.
_LONGEST = 16


def expect_aligned(what: str, addresses: np.ndarray, size: int) -> None:
    """Raise unless every address is a multiple of the size of its access."""
    wrong = addresses & addresses.dtype.type(size - 1)
    if wrong.any():
        bad = addresses[np.flatnonzero(wrong)[0]]
        raise MisalignedError(f"{what} of {size} bytes at {int(bad):#x}")


class _Cells:
    """Bytes seen as numbers of any size, several at a time."""

    def __init__(self, data: np.ndarray) -> None:
        self._data = data
        self._views: dict[tuple[int, int], np.ndarray] = {}

    def _view(self, item: int, items: int) -> np.ndarray:
        key = (item, items)
        if key not in self._views:
            view = self._data.view(unsigned(8 * item))
            self._views[key] = view.reshape(-1, items)
        return self._views[key]

    def load(self, offsets: np.ndarray, item: int, items: int) -> np.ndarray:
        return self._view(item, items)[offsets // (item * items)]

    def store(self, offsets: np.ndarray, numbers: np.ndarray, item: int, items: int) -> None:
        self._view(item, items)[offsets // (item * items)] = numbers


def _granules_of(offsets: np.ndarray, size: int, granule: int) -> np.ndarray:
    """The granules of accesses of `size` bytes, those of one access next to each other."""
    first = offsets // granule
    if size == granule:
        return first
    return (first[:, None] + np.arange(size // granule)).ravel()


class _Region:
    """One allocation in global memory: its bytes, which of them are allowed, who used them."""

    def __init__(self, address: int, size: int, name: str, granule: int) -> None:
        self.base = address // _LONGEST * _LONGEST
        self.size = -(-(address + size - self.base) // _LONGEST) * _LONGEST
        self.allowed = np.zeros(self.size, bool)
        # The bytes of the rounding are within the same 16 and are never touched.
        buffer = (ctypes.c_uint8 * self.size).from_address(self.base)
        self.cells = _Cells(np.frombuffer(buffer, np.uint8))
        self.granule = granule
        self.shadow = Shadow(name, self.size // granule, private=False)
        self._starts: dict[int, np.ndarray] = {}

    def allow(self, tensor: torch.Tensor) -> None:
        """Allow the elements of a tensor, not the gaps between them."""
        offsets = np.zeros(1, np.int64)
        for size, stride in zip(tensor.shape, tensor.stride(), strict=True):
            if stride or size > 1:
                steps = np.arange(size if stride else 1) * stride * tensor.element_size()
                offsets = (offsets[:, None] + steps).ravel()
        for byte in range(tensor.element_size()):
            self.allowed[tensor.data_ptr() - self.base + offsets + byte] = True
        self._starts.clear()

    def stray(self, offsets: np.ndarray, size: int) -> np.ndarray | None:
        """Accesses of `size` bytes that touch what is not allowed; None if none do."""
        if size not in self._starts:
            self._starts[size] = self.allowed.reshape(-1, size).all(axis=1)
        fine = self._starts[size][offsets // size]
        return None if fine.all() else ~fine


class GlobalMemory:
    """The tensors of a launch and the variables of its module."""

    def __init__(self, granule: int) -> None:
        self._granule = granule
        self._regions: list[_Region] = []
        self._last: _Region | None = None

    def add_tensor(self, tensor: torch.Tensor, name: str) -> None:
        """Let the kernel use the elements of a tensor."""
        if not tensor.numel():
            return
        storage = tensor.untyped_storage()
        region = self._add(storage.data_ptr(), storage.nbytes(), name)
        region.allow(tensor)

    def add_bytes(self, data: np.ndarray, name: str) -> int:
        """Let the kernel use an array of bytes; return its address."""
        region = self._add(data.ctypes.data, data.size, name)
        start = data.ctypes.data - region.base
        region.allowed[start : start + data.size] = True
        return data.ctypes.data

    def _add(self, address: int, size: int, name: str) -> _Region:
        for region in self._regions:
            if region.base <= address < region.base + region.size:
                return region
        region = _Region(address, size, name, self._granule)
        self._regions.append(region)
        return region

    def load(self, addresses: np.ndarray, item: int, items: int, threads: Threads) -> np.ndarray:
        """Load vectors of `items` numbers of `item` bytes, one for each thread."""
        result = np.empty((addresses.size, items), unsigned(8 * item))
        for region, chosen, offsets, who in self._parts("load", addresses, item * items, threads):
            region.shadow.read(*self._touched(offsets, item * items, who))
            result[chosen] = region.cells.load(offsets, item, items)
        return result

    def store(self, addresses: np.ndarray, numbers: np.ndarray, threads: Threads) -> None:
        """Store vectors of numbers, one for each thread."""
        item, items = numbers.dtype.itemsize, numbers.shape[1]
        for region, chosen, offsets, who in self._parts("store", addresses, item * items, threads):
            touched = self._touched(offsets, item * items, who)
            region.shadow.write(*touched)
            region.shadow.expect_one_writer(*touched)
            region.cells.store(offsets, numbers[chosen], item, items)

    def atomic(
        self, addresses: np.ndarray, item: int, threads: Threads
    ) -> Iterator[tuple[np.ndarray | slice, np.ndarray, np.ndarray]]:
        """Check atomic operations; yield which of them meet which cells at which indices."""
        for region, chosen, offsets, who in self._parts("atomic", addresses, item, threads):
            region.shadow.atomic(*self._touched(offsets, item, who))
            yield chosen, region.cells._view(item, 1)[:, 0], offsets // item

    def _touched(
        self, offsets: np.ndarray, size: int, threads: Threads
    ) -> tuple[np.ndarray, Threads]:
        return _granules_of(offsets, size, self._granule), threads.repeated(size // self._granule)

    def _parts(
        self, kind: str, addresses: np.ndarray, size: int, threads: Threads
    ) -> Iterator[tuple[_Region, np.ndarray | slice, np.ndarray, Threads]]:
        expect_aligned(f"global {kind}", addresses, size)
        stray = np.ones(addresses.size, bool)
        parts = []
        for region in self._likely_first():
            offsets = addresses.astype(np.int64) - region.base
            inside = (offsets >= 0) & (offsets < region.size) & stray
            if inside.all():
                self._last = region
                wrong = region.stray(offsets, size)
                if wrong is not None:
                    raise self._out_of_bounds(kind, addresses, wrong)
                yield region, slice(None), offsets, threads
                return
            if inside.any():
                chosen = np.flatnonzero(inside)
                wrong = region.stray(offsets[chosen], size)
                stray[chosen] = False if wrong is None else wrong
                who = Threads(
                    threads.ids[chosen],
                    threads.barriers[chosen],
                    threads.warp_barriers[chosen],
                    threads.block_size,
                )
                parts.append((region, chosen, offsets[chosen], who))
        if stray.any():
            raise self._out_of_bounds(kind, addresses, stray)
        yield from parts

    def _likely_first(self) -> Iterator[_Region]:
        if self._last is not None:
            yield self._last
        yield from (region for region in self._regions if region is not self._last)

    def _out_of_bounds(
        self, kind: str, addresses: np.ndarray, stray: np.ndarray
    ) -> OutOfBoundsError:
        bad = addresses[stray]
        return OutOfBoundsError(
            f"{kind} outside the elements of every tensor: {bad.size} of {addresses.size} threads, "
            f"first at {int(bad[0]):#x}",
            bad,
        )


class SharedMemory:
    """Shared memory of a group of blocks, each with a part of its own."""

    def __init__(self, blocks: int, size: int, item: int, granule: int) -> None:
        self._size = size
        self._pitch = -(-max(size, 1) // _LONGEST) * _LONGEST
        self._cells = _Cells(np.zeros(blocks * self._pitch, np.uint8))
        self._item = item
        self._undefined = np.ones(blocks * self._pitch // item, bool)
        self._granule = granule
        granules = blocks * self._pitch // granule
        self._shadow = Shadow("shared memory", granules, private=True)
        # For each granule how many copies into it are on their way.
        self._pending = np.zeros(granules, np.int16)
        self._copies = 0

    def load(
        self, slots: np.ndarray, addresses: np.ndarray, item: int, items: int, threads: Threads
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Load vectors; also which of their numbers nobody has written, None if all are."""
        size = item * items
        offsets = self._offsets("load", slots, addresses, size)
        at = _granules_of(offsets, size, self._granule)
        self._expect_no_copy("load", at)
        self._shadow.read(at, threads.repeated(size // self._granule))
        undefined = self._undefined[_granules_of(offsets, size, self._item)]
        numbers = self._cells.load(offsets, item, items)
        if not undefined.any():
            return numbers, None
        return numbers, undefined.reshape(offsets.size, items, item // self._item).any(axis=2)

    def store(
        self,
        slots: np.ndarray,
        addresses: np.ndarray,
        numbers: np.ndarray,
        undefined: np.ndarray | None,
        threads: Threads,
    ) -> None:
        """Store vectors, of which some numbers may be undefined."""
        item, items = numbers.dtype.itemsize, numbers.shape[1]
        offsets = self._offsets("store", slots, addresses, item * items)
        at = _granules_of(offsets, item * items, self._granule)
        self._expect_no_copy("store", at)
        who = threads.repeated(item * items // self._granule)
        # Triton lets the threads that hold copies of a number all store it.
        changing = (self._cells.load(offsets, item, items) != numbers).any(axis=1)
        self._shadow.write(at, who, np.repeat(changing, item * items // self._granule))
        self._cells.store(offsets, numbers, item, items)
        lost = (self._cells.load(offsets, item, items) != numbers).any(axis=1)
        if lost.any():
            self._shadow.expect_one_writer(at, who)
        cells = _granules_of(offsets, item * items, self._item)
        self._undefined[cells] = (
            False if undefined is None else np.repeat(undefined.ravel(), item // self._item)
        )

    def atomic(
        self, slots: np.ndarray, addresses: np.ndarray, item: int, threads: Threads
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Check atomic operations; return the cells, their indices and which are undefined."""
        offsets = self._offsets("atomic", slots, addresses, item)
        at = _granules_of(offsets, item, self._granule)
        self._expect_no_copy("atomic", at)
        self._shadow.atomic(at, threads.repeated(item // self._granule))
        undefined = self._undefined[_granules_of(offsets, item, self._item)]
        undefined = undefined.reshape(offsets.size, -1).any(axis=1)
        return self._cells._view(item, 1)[:, 0], offsets // item, undefined

    def begin_copy(
        self, slots: np.ndarray, addresses: np.ndarray, size: int, threads: Threads
    ) -> np.ndarray:
        """Announce asynchronous copies; return the offsets for `end_copy`."""
        offsets = self._offsets("copy", slots, addresses, size)
        at = _granules_of(offsets, size, self._granule)
        self._expect_no_copy("copy", at)
        who = threads.repeated(size // self._granule)
        self._shadow.write(at, who)
        self._shadow.expect_one_writer(at, who)
        self._pending[at] += 1
        self._copies += 1
        return offsets

    def end_copy(self, offsets: np.ndarray, numbers: np.ndarray, threads: Threads) -> None:
        """Let the data of announced copies arrive."""
        item, items = numbers.dtype.itemsize, numbers.shape[1]
        size = item * items
        at = _granules_of(offsets, size, self._granule)
        self._pending[at] -= 1
        self._shadow.rewrite(at, threads.repeated(size // self._granule))
        self._cells.store(offsets, numbers, item, items)
        self._undefined[_granules_of(offsets, size, self._item)] = False

    def _expect_no_copy(self, kind: str, at: np.ndarray) -> None:
        if self._copies and self._pending[at].any():
            raise PendingCopyError(
                f"shared {kind} where an asynchronous copy has not been waited for"
            )

    def _offsets(
        self, kind: str, slots: np.ndarray, addresses: np.ndarray, size: int
    ) -> np.ndarray:
        expect_aligned(f"shared {kind}", addresses, size)
        stray = addresses > np.uint64(max(0, self._size - size))
        if self._size < size or stray.any():
            bad = addresses[stray] if self._size >= size else addresses
            raise OutOfBoundsError(
                f"shared {kind} at byte {int(bad[0]):#x} of {self._size}: {bad.size} of "
                f"{addresses.size} threads",
                bad,
            )
        return slots * self._pitch + addresses.astype(np.int64)


class LocalMemory:
    """Memory of each thread's own."""

    def __init__(self, threads: int, size: int) -> None:
        self._size = size
        self._pitch = -(-max(size, 1) // _LONGEST) * _LONGEST
        self._cells = _Cells(np.zeros(threads * self._pitch, np.uint8))
        self._undefined = np.ones(threads * self._pitch, bool)

    def load(
        self, threads: np.ndarray, addresses: np.ndarray, item: int, items: int
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Load vectors; also which of their numbers nobody has written, None if all are."""
        offsets = self._offsets("load", threads, addresses, item * items)
        undefined = self._undefined[_granules_of(offsets, item * items, 1)]
        numbers = self._cells.load(offsets, item, items)
        if not undefined.any():
            return numbers, None
        return numbers, undefined.reshape(offsets.size, items, item).any(axis=2)

    def store(
        self,
        threads: np.ndarray,
        addresses: np.ndarray,
        numbers: np.ndarray,
        undefined: np.ndarray | None,
    ) -> None:
        """Store vectors, of which some numbers may be undefined."""
        item, items = numbers.dtype.itemsize, numbers.shape[1]
        offsets = self._offsets("store", threads, addresses, item * items)
        self._cells.store(offsets, numbers, item, items)
        self._undefined[_granules_of(offsets, item * items, 1)] = (
            False if undefined is None else np.repeat(undefined.ravel(), item)
        )

    def _offsets(
        self, kind: str, threads: np.ndarray, addresses: np.ndarray, size: int
    ) -> np.ndarray:
        expect_aligned(f"local {kind}", addresses, size)
        stray = addresses + np.uint64(size) > np.uint64(self._size)
        if stray.any():
            raise OutOfBoundsError(
                f"local {kind} outside the {self._size} bytes of a thread", addresses[stray]
            )
        return threads * self._pitch + addresses.astype(np.int64)
