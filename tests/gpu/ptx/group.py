"""The threads of several blocks, which take each step together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tests.gpu.ptx import datatypes
from tests.gpu.ptx.copies import AsyncCopies
from tests.gpu.ptx.decode import Mask
from tests.gpu.ptx.errors import UndefinedValueError
from tests.gpu.ptx.races import WARP, Threads
from tests.gpu.ptx.storage import GlobalMemory, LocalMemory, SharedMemory


@dataclass(frozen=True)
class Shape:
    """Grid and block of a launch."""

    grid: tuple[int, int, int]
    block: tuple[int, int, int]

    @property
    def blocks(self) -> int:
        return self.grid[0] * self.grid[1] * self.grid[2]

    @property
    def threads(self) -> int:
        """Threads of a block."""
        return self.block[0] * self.block[1] * self.block[2]

    @property
    def padded(self) -> int:
        """Threads of a block with the missing lanes of its last warp."""
        return -(-self.threads // WARP) * WARP


class Group:
    """Registers, memories and progress of the threads of blocks `first`, `first + 1`, ...

    A register holds one number for each thread, or a single one that all of them share; arrays
    are replaced, never written into, so that registers may hold the same one. Beside it stands
    which threads hold something undefined there: None means no thread does. As in Valgrind's
    memcheck an undefined number may be moved and computed with, and is an error where it decides
    something: a guard, a branch, an address, a number stored in global memory.
    """

    def __init__(
        self,
        shape: Shape,
        first: int,
        blocks: int,
        register_types: list[str],
        memory: GlobalMemory,
        shared: SharedMemory,
        local_bytes: int,
    ) -> None:
        self.blocks = blocks
        self.block_size = shape.padded
        self.size = blocks * shape.padded
        self.values = [np.zeros(1, datatypes.storage(name)) for name in register_types]
        self._undefined: list[np.ndarray | None] = [np.ones(1, bool)] * len(register_types)
        self.memory = memory
        self.shared = shared
        self.local = LocalMemory(self.size, local_bytes)
        self.copies = AsyncCopies(self.size)
        self.slots = np.repeat(np.arange(blocks, dtype=np.int64), shape.padded)
        self._everyone = np.arange(self.size)
        self._ids = (first * shape.padded + self._everyone).astype(np.int32)
        self.barriers = np.zeros(self.size, np.int32)
        self.warp_barriers = np.zeros(self.size, np.int32)
        self.exists = self._everyone % shape.padded < shape.threads
        self.exited = ~self.exists
        self.specials = _specials(shape, first + self.slots, self._everyone % shape.padded)

    def full(self, mask: np.ndarray) -> Mask:
        """The same mask, None if it holds every thread."""
        return None if mask.all() else mask

    def write(self, index: int, value: np.ndarray, mask: Mask, undefined: Mask = None) -> None:
        """Give a register new values in the threads of a mask."""
        if mask is None:
            self.values[index] = value
            self._undefined[index] = undefined
            return
        self.values[index] = np.where(mask, value, self.values[index])
        before = self._undefined[index]
        if undefined is None and before is None:
            return
        now = np.where(mask, undefined is not None and undefined, before is not None and before)
        self._undefined[index] = now if (now & ~self.exited).any() else None

    def undefined(self, registers: tuple[int, ...]) -> np.ndarray | None:
        """Threads in which one of the registers is undefined; None if there are none."""
        result = None
        for index in registers:
            undefined = self._undefined[index]
            if undefined is not None:
                result = undefined if result is None else result | undefined
        return result

    def expect_defined(self, registers: tuple[int, ...], mask: Mask, what: str) -> None:
        """Raise if a register is undefined in a thread of the mask."""
        undefined = self.undefined(registers)
        if undefined is None:
            return
        self.refuse(self.everywhere(undefined if mask is None else undefined & mask), what)

    def refuse(self, bad: np.ndarray, what: str) -> None:
        """Raise if something is undefined in a thread."""
        if bad.any():
            thread = int(np.flatnonzero(bad)[0])
            raise UndefinedValueError(
                f"{what} is undefined in {bad.sum()} threads, first block "
                f"{self._ids[thread] // self.block_size}, thread {thread % self.block_size}"
            )

    def everywhere(self, value: np.ndarray) -> np.ndarray:
        """One number for each thread."""
        return value if value.size == self.size else np.broadcast_to(value, self.size)

    def indices(self, mask: Mask) -> np.ndarray:
        """The threads of a mask."""
        return self._everyone if mask is None else np.flatnonzero(mask)

    def threads(self, indices: np.ndarray) -> Threads:
        """What a race check must know of these threads."""
        if indices is self._everyone:
            return Threads(self._ids, self.barriers, self.warp_barriers, self.block_size)
        return Threads(
            self._ids[indices], self.barriers[indices], self.warp_barriers[indices], self.block_size
        )

    def pass_barrier(self, mask: Mask) -> None:
        """Count a barrier of whole blocks."""
        self.barriers = self.barriers + (1 if mask is None else mask.astype(np.int32))

    def pass_warp_barrier(self, mask: Mask) -> None:
        """Count a barrier of warps."""
        self.warp_barriers = self.warp_barriers + (1 if mask is None else mask.astype(np.int32))


def _specials(shape: Shape, blocks: np.ndarray, threads: np.ndarray) -> dict[str, np.ndarray]:
    """The registers that a device fills."""

    def number(value: np.ndarray | int) -> np.ndarray:
        return np.atleast_1d(np.asarray(value)).astype(np.uint32)

    specials = {"%laneid": number(threads % WARP), "%warpid": number(threads // WARP)}
    for kind, size_kind, place, sizes in (
        ("tid", "ntid", threads, shape.block),
        ("ctaid", "nctaid", blocks, shape.grid),
    ):
        for axis, size in zip("xyz", sizes, strict=True):
            specials[f"%{kind}.{axis}"] = number(place % size)
            specials[f"%{size_kind}.{axis}"] = number(size)
            place = place // size
    return specials
