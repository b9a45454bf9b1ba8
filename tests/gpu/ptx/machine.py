"""Running a kernel: which threads go when, and what they wait for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from tests.gpu.ptx import datatypes
from tests.gpu.ptx.control import Kind
from tests.gpu.ptx.decode import Mask
from tests.gpu.ptx.errors import BarrierError, ConvergenceError, KernelError, LaunchError, PtxError
from tests.gpu.ptx.group import Group, Shape
from tests.gpu.ptx.kernel import Kernel, Step
from tests.gpu.ptx.storage import GlobalMemory, SharedMemory
from tests.gpu.ptx.warps import active_lanes, by_warp, members

# Enough threads for NumPy to be busy with, few enough for its arrays to stay in cache.
_THREADS_AT_ONCE = 8192
_MOST_STEPS = 1_000_000
_LARGEST_SHARED = 163 * 1024


def launch(
    kernel: Kernel,
    grid: Sequence[int],
    block: Sequence[int],
    arguments: Sequence[int],
    tensors: Sequence[torch.Tensor],
    *,
    dynamic_shared: int = 0,
) -> None:
    """Run a kernel over a grid.

    Args:
        kernel: What `kernel.load` returned.
        grid: Blocks along x, y, z; missing ones are 1.
        block: Threads of a block along x, y, z; missing ones are 1.
        arguments: The bits of each parameter, addresses as they are in this process.
        tensors: What the kernel may use of global memory: the elements of these.
        dynamic_shared: Bytes of shared memory that the launch brings.

    Raises:
        LaunchError: If the launch contradicts the kernel.
        KernelError: If the kernel does what it must not do.
    """
    shape = Shape(_three(grid), _three(block))
    _check_launch(kernel, shape, arguments, dynamic_shared)
    memory = GlobalMemory(kernel.global_granule)
    for number, tensor in enumerate(tensors):
        memory.add_tensor(tensor, f"tensor {number}")
    for name, buffer in kernel.layout.buffers.items():
        memory.add_bytes(buffer, name)
    names = [parameter.name for parameter in kernel.entry.parameters]
    kernel.layout.arguments.update(zip(names, arguments, strict=True))
    at_once = max(1, _THREADS_AT_ONCE // shape.padded)
    shared_bytes = kernel.layout.static_shared + dynamic_shared
    with np.errstate(all="ignore"):
        for first in range(0, shape.blocks, at_once):
            blocks = min(at_once, shape.blocks - first)
            shared = SharedMemory(blocks, shared_bytes, *kernel.shared_granule)
            types = kernel.register_types
            local = kernel.layout.local
            _Turns(kernel, Group(shape, first, blocks, types, memory, shared, local)).run()


def _three(sizes: Sequence[int]) -> tuple[int, int, int]:
    x, y, z = (*sizes, 1, 1)[:3]
    return x, y, z


def _check_launch(
    kernel: Kernel, shape: Shape, arguments: Sequence[int], dynamic_shared: int
) -> None:
    entry = kernel.entry
    if min(*shape.grid, *shape.block) < 1:
        raise LaunchError(f"{entry.name}: grid {shape.grid}, block {shape.block}")
    if shape.grid[0] >= 2**31 or max(shape.grid[1:]) >= 2**16 or shape.threads > 1024:
        raise LaunchError(f"{entry.name}: grid {shape.grid}, block {shape.block} are too large")
    if entry.required_threads and _three(entry.required_threads) != shape.block:
        raise LaunchError(f"{entry.name} needs blocks of {entry.required_threads}")
    if entry.most_threads and shape.threads > int(np.prod(entry.most_threads)):
        raise LaunchError(f"{entry.name} takes blocks of at most {entry.most_threads}")
    if len(arguments) != len(entry.parameters):
        raise LaunchError(
            f"{entry.name} takes {len(entry.parameters)} arguments, got {len(arguments)}"
        )
    for argument, parameter in zip(arguments, entry.parameters, strict=True):
        if not 0 <= argument < 2 ** datatypes.WIDTHS[parameter.type]:
            raise LaunchError(f"{entry.name}: {argument} does not fit {parameter.name}")
    if kernel.layout.static_shared + dynamic_shared > _LARGEST_SHARED:
        raise LaunchError(f"{entry.name}: {dynamic_shared} bytes of shared memory are too many")


class _Turns:
    """Takes the threads of a group through a kernel, those at the lowest step first.

    Threads that part at a branch meet again as soon as they stand at the same step. Lanes that
    reach an instruction of the whole warp wait there for the rest of it, threads that reach a
    barrier for the rest of their block.
    """

    def __init__(self, kernel: Kernel, group: Group) -> None:
        self._kernel = kernel
        self._steps = kernel.steps
        self._group = group
        self._ready: dict[int, Mask] = {0: group.full(group.exists)}
        # Lanes at an instruction of the warp, and threads at a barrier, by step.
        self._lanes: dict[int, np.ndarray] = {}
        self._waiting: dict[int, np.ndarray] = {}
        self._taken = 0

    def run(self) -> None:
        """Run until all threads have ended."""
        while self._ready or self._open_barriers():
            at = min(self._ready)
            mask = self._ready.pop(at)
            step = None
            try:
                self._advance(at, mask)
            except PtxError as error:
                step = self._steps[min(self._at, len(self._steps) - 1)]
                where = f"{self._kernel.entry.name}: {step.instruction}"
                error.args = (f"{where}: {error.args[0]}", *error.args[1:])
                raise

    def _advance(self, at: int, mask: Mask) -> None:
        """Take threads forward until they part, wait, end, or meet others."""
        group, steps = self._group, self._steps
        meet = min(self._ready, default=len(steps))
        while at < meet:
            self._at = at
            self._taken += 1
            if self._taken > _MOST_STEPS:
                raise KernelError(f"no end after {_MOST_STEPS} steps")
            step = steps[at]
            active, rest, nobody = mask, None, False
            if step.guard is not None:
                active, rest, nobody = self._guarded(step, mask)
            match step.flow.kind:
                case Kind.PLAIN:
                    if not nobody:
                        step.operation(group, active)
                case Kind.BRANCH:
                    if not nobody:
                        if rest is not None:
                            self._join(self._ready, step.flow.target, active)
                            self._join(self._ready, at + 1, rest)
                            return
                        at = step.flow.target
                        continue
                case Kind.COLLECTIVE:
                    if not nobody:
                        active = self._gathered(at, step, active)
                        if active is not False:
                            step.operation(group, active)
                        mask = self._joined(active, rest)
                        if mask is False:
                            return
                case Kind.BARRIER:
                    if not nobody:
                        if active is None and group.exists.all():
                            group.pass_barrier(None)
                        else:
                            self._join(self._waiting, at, active)
                            if rest is None:
                                return
                            mask = rest
                case Kind.EXIT:
                    if not nobody:
                        group.exited = group.exited | (True if active is None else active)
                        if rest is None:
                            return
                        mask = rest
            at += 1
        if at >= len(steps):
            raise KernelError("threads run past the end")
        self._join(self._ready, at, mask)

    def _guarded(self, step: Step, mask: Mask) -> tuple[Mask, Mask, bool]:
        """The threads that a guard lets through, the rest if both are there, whether none are."""
        group = self._group
        index = step.guard.index
        group.expect_defined((index,), mask, "a guard")
        holds = group.values[index]
        if step.negated:
            holds = ~holds
        if holds.size == 1:
            return (mask, None, False) if holds[0] else (None, mask, True)
        if mask is None:
            active, size = holds, holds.size
        else:
            active, size = holds & mask, np.count_nonzero(mask)
        number = np.count_nonzero(active)
        if number == size:
            return mask, None, False
        if number == 0:
            return None, mask, True
        return active, (~active if mask is None else mask & ~active), False

    def _join(self, places: dict[int, Mask], at: int, mask: Mask) -> None:
        group = self._group
        if mask is None:
            mask = np.ones(group.size, bool)
        both = mask | places[at] if at in places else mask
        places[at] = group.full(both) if places is self._ready else both

    def _joined(self, active: Mask | bool, rest: Mask) -> Mask | bool:
        """Threads that ran and threads that did not; False where there are none of either."""
        if active is False:
            return False if rest is None else rest
        if rest is None:
            return active
        return self._group.full(active | rest)

    def _gathered(self, at: int, step: Step, mask: Mask) -> Mask | bool:
        """The lanes whose warps are complete, False if there are none; the others wait."""
        group = self._group
        operand = step.flow.members
        group.expect_defined(operand.registers, mask, "a member mask")
        named = operand.fetch(group)
        if mask is None and named.size == 1 and named[0] == 2**32 - 1:
            return None
        if at in self._lanes:
            mask = self._lanes.pop(at) | (mask is None or mask)
        needed = members(group, mask, named)
        there = active_lanes(group, mask)
        complete = ~(needed & ~there).any(axis=1)
        running = (there & complete[:, None]).ravel()
        waiting = (there & ~complete[:, None]).ravel()
        if waiting.any():
            self._lanes[at] = waiting
        return group.full(running) if running.any() else False

    def _open_barriers(self) -> bool:
        """Let the blocks go on whose threads all stand at one barrier; say whether any do."""
        group = self._group
        everyone = group.exists.reshape(group.blocks, -1)
        for at, mask in list(self._waiting.items()):
            there = mask.reshape(group.blocks, -1)
            complete = (there == everyone).all(axis=1)
            if complete.any():
                going = (there & complete[:, None]).ravel()
                group.pass_barrier(going)
                self._join(self._ready, at + 1, going)
                left = mask & ~going
                if left.any():
                    self._waiting[at] = left
                else:
                    del self._waiting[at]
        if self._ready:
            return True
        if self._lanes:
            raise self._stuck(self._lanes, ConvergenceError, "lanes wait for others of their warp")
        if self._waiting:
            raise self._stuck(self._waiting, BarrierError, "threads wait for others of their block")
        return False

    def _stuck(self, places: dict[int, np.ndarray], kind: type[KernelError], what: str):
        at, mask = next(iter(places.items()))
        warps = np.flatnonzero(by_warp(self._group, mask).any(axis=1))
        step = self._steps[at]
        return kind(
            f"{self._kernel.entry.name}: {step.instruction}: {mask.sum()} {what} that never come, "
            f"first in warp {warps[0]} of the group"
        )
