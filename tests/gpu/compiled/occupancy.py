"""Occupancy: how many blocks of a kernel one multiprocessor holds, of the warps it could hold."""

from __future__ import annotations

from dataclasses import dataclass

WARP = 32
_REGISTERS = 64 * 1024
_REGISTERS_OF_A_THREAD = 255
# A warp lives in one of four partitions and takes whole units of registers there.
_PARTITIONS = 4
_REGISTER_UNIT = 256
_SHARED_UNIT = 128
# Taken from every block by the system, since compute capability 8.0.
SHARED_RESERVED = 1024


@dataclass(frozen=True)
class Multiprocessor:
    """Limits of one streaming multiprocessor.

    Attributes:
        warps: Resident warps.
        blocks: Resident blocks.
        shared: Bytes of shared memory, all blocks together, with what the system reserves.
    """

    warps: int
    blocks: int
    shared: int


# CUDA C++ Programming Guide 13.0, table "Technical Specifications per Compute Capability".
MULTIPROCESSORS = {
    80: Multiprocessor(warps=64, blocks=32, shared=164 * 1024),
    90: Multiprocessor(warps=64, blocks=32, shared=228 * 1024),
    100: Multiprocessor(warps=64, blocks=32, shared=228 * 1024),
    120: Multiprocessor(warps=48, blocks=24, shared=100 * 1024),
}


def resident_blocks(capability: int, threads: int, registers: int, shared: int) -> int:
    """Number of blocks that one multiprocessor holds at a time; 0 where not even one fits.

    Args:
        capability: Compute capability, 80 for 8.0.
        threads: Threads of a block.
        registers: Registers of a thread.
        shared: Bytes of shared memory of a block, static and dynamic.
    """
    limits = MULTIPROCESSORS[capability]
    warps = _ceil(threads, WARP)
    registers_of_a_warp = max(1, _ceil(registers * WARP, _REGISTER_UNIT)) * _REGISTER_UNIT
    # The hardware checks a block as if it took the same number of warps in every partition.
    assumed = _ceil(warps, _PARTITIONS) * _PARTITIONS * registers_of_a_warp
    if registers > _REGISTERS_OF_A_THREAD or assumed > _REGISTERS:
        return 0
    resident_warps = _REGISTERS // _PARTITIONS // registers_of_a_warp * _PARTITIONS
    shared_of_a_block = _ceil(shared + SHARED_RESERVED, _SHARED_UNIT) * _SHARED_UNIT
    return min(
        limits.blocks,
        limits.warps // warps,
        resident_warps // warps,
        limits.shared // shared_of_a_block,
    )


def occupancy(capability: int, threads: int, registers: int, shared: int) -> float:
    """Resident warps over the warps that a multiprocessor can hold; see `resident_blocks`."""
    blocks = resident_blocks(capability, threads, registers, shared)
    return blocks * _ceil(threads, WARP) / MULTIPROCESSORS[capability].warps


def _ceil(x: int, unit: int) -> int:
    return -(-x // unit)
