"""Which accesses to memory nothing orders.

Accesses of one thread are ordered, of one warp by a warp barrier in between, of one block by a
block barrier; nothing orders those of different blocks, and atomics only among themselves.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tests.gpu.ptx.errors import DataRaceError

_NOBODY = -1
_NEVER = np.iinfo(np.int32).max
WARP = 32


@dataclass(frozen=True)
class Threads:
    """The threads that make an access, in rising order: numbers, and barriers passed so far."""

    ids: np.ndarray
    barriers: np.ndarray
    warp_barriers: np.ndarray
    block_size: int

    def repeated(self, times: int) -> Threads:
        """Each thread several times in a row."""
        if times == 1:
            return self
        return Threads(
            np.repeat(self.ids, times),
            np.repeat(self.barriers, times),
            np.repeat(self.warp_barriers, times),
            self.block_size,
        )


class _Accesses:
    """For each granule, the span of the threads that used it since what was last ordered.

    A span from the lowest to the highest thread answers all that is asked: whether they were one
    thread, one warp or one block.
    """

    def __init__(self, granules: int, *, private: bool) -> None:
        self._low = np.full(granules, _NOBODY, np.int32)
        self._high = np.full(granules, _NOBODY, np.int32)
        self._barriers = np.zeros(granules, np.int32)
        self._warp_barriers = np.zeros(granules, np.int32)
        self._private = private
        self._latest = 0

    def precede(self, at: np.ndarray, threads: Threads) -> np.ndarray | None:
        """Whether all accesses so far are ordered before the given ones; None if all are."""
        # Most accesses come after a barrier that came after all others of another kind.
        if self._private and threads.barriers.min(initial=_NEVER) > self._latest:
            return None
        low = self._low[at]
        high = self._high[at]
        ordered = ((low == threads.ids) & (high == threads.ids)) | (low == _NOBODY)
        if ordered.all():
            return None
        rest = np.flatnonzero(~ordered)
        ids, low, high, where = threads.ids[rest], low[rest], high[rest], at[rest]
        block = ids // threads.block_size
        one_block = (low // threads.block_size == block) & (high // threads.block_size == block)
        before = one_block & (self._barriers[where] < threads.barriers[rest])
        one_warp = (low // WARP == ids // WARP) & (high // WARP == ids // WARP)
        before |= one_warp & (self._warp_barriers[where] < threads.warp_barriers[rest])
        ordered[rest] = before
        return None if before.all() else ordered

    def extend(self, at: np.ndarray, threads: Threads) -> None:
        """Add accesses; the earlier ones that are ordered before them are forgotten."""
        ordered = self.precede(at, threads)
        low = high = threads.ids
        if ordered is not None:
            low = np.where(ordered, low, np.minimum(low, self._low[at]))
            high = np.where(ordered, high, np.maximum(high, self._high[at]))
        # Of equal places the last one assigned stays: the lowest thread here, the highest there.
        self._low[at[::-1]] = low[::-1]
        self._high[at] = high
        self._stamp(at, threads)

    def replace(self, at: np.ndarray, threads: Threads) -> None:
        """Put accesses in the place of all earlier ones."""
        self._low[at] = self._high[at] = threads.ids
        self._stamp(at, threads)

    def _stamp(self, at: np.ndarray, threads: Threads) -> None:
        self._barriers[at] = threads.barriers
        self._warp_barriers[at] = threads.warp_barriers
        self._latest = max(self._latest, int(threads.barriers.max(initial=0)))

    def someone(self, at: np.ndarray) -> np.ndarray:
        """The lowest thread of each span."""
        return self._low[at]


class Shadow:
    """Who used each granule of a memory, of which blocks may have private parts."""

    def __init__(self, what: str, granules: int, *, private: bool) -> None:
        self._what = what
        self._private = private
        self._granules = granules
        self._accesses: dict[str, _Accesses] = {}

    def read(self, at: np.ndarray, threads: Threads) -> None:
        """Record reads; raise where they race."""
        for other in ("write", "atomic"):
            self._expect_order("read", other, at, threads)
        self._of("read").extend(at, threads)

    def write(self, at: np.ndarray, threads: Threads, changing: np.ndarray | None = None) -> None:
        """Record writes; raise where they race.

        Args:
            at: The granules, those of one access next to each other.
            threads: The thread of each granule.
            changing: Writes that change what they find; the others may repeat a write that
                nothing orders. All change it when not given.
        """
        for other in ("read", "atomic"):
            self._expect_order("write", other, at, threads)
        self._expect_order("write", "write", at, threads, changing)
        self._of("write").extend(at, threads)

    def rewrite(self, at: np.ndarray, threads: Threads) -> None:
        """Record that writes that were recorded before take effect only now."""
        self._of("write").replace(at, threads)

    def atomic(self, at: np.ndarray, threads: Threads) -> None:
        """Record atomic operations; raise where they race."""
        for other in ("read", "write"):
            self._expect_order("atomic", other, at, threads)
        self._of("atomic").extend(at, threads)

    def expect_one_writer(self, at: np.ndarray, threads: Threads) -> None:
        """Raise if two threads of one instruction have written to one place."""
        last = np.zeros(self._granules, np.int32)
        last[at] = threads.ids
        self.refuse("write", "write", threads, last[at] != threads.ids, last[at])

    def refuse(
        self, kind: str, other: str, threads: Threads, bad: np.ndarray, them: np.ndarray
    ) -> None:
        """Raise if any access is bad; `them` are the threads that each one meets."""
        if not bad.any():
            return

        def name(thread: int) -> str:
            return f"block {thread // threads.block_size}, thread {thread % threads.block_size}"

        first = int(np.flatnonzero(bad)[0])
        raise DataRaceError(
            f"{kind} of {self._what} by {name(int(threads.ids[first]))} races with {other} by "
            f"{name(int(them[first]))}"
        )

    def _of(self, kind: str) -> _Accesses:
        if kind not in self._accesses:
            self._accesses[kind] = _Accesses(self._granules, private=self._private)
        return self._accesses[kind]

    def _expect_order(
        self,
        kind: str,
        other: str,
        at: np.ndarray,
        threads: Threads,
        only: np.ndarray | None = None,
    ) -> None:
        earlier = self._accesses.get(other)
        ordered = None if earlier is None else earlier.precede(at, threads)
        if ordered is not None:
            bad = ~ordered if only is None else ~ordered & only
            self.refuse(kind, other, threads, bad, earlier.someone(at))
