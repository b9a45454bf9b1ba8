"""The emulator of CUDA sees planted mistakes, and computes exactly what has none."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import pytest
import torch

from tests.gpu.emulator.build import BuildError, Sources, build_module
from tests.gpu.emulator.faults import KernelFault
from tests.gpu.emulator.module import EmulatedModule

PLANTED = Path(__file__).parent / "emulator" / "planted"
SEEDS = (0, 1, 2)


def planted_sources() -> Sources:
    """Kernels with mistakes and sound ones, all of arguments (x, y, n, stride)."""
    return Sources(tuple(sorted(PLANTED.glob("*.cu"))), (PLANTED / "bind.cpp",), (PLANTED,))


@cache
def planted() -> EmulatedModule:
    """The planted kernels."""
    return EmulatedModule(build_module(planted_sources()))


@dataclass(frozen=True)
class Launch:
    """How a planted kernel is launched: one warp, a tile of its size, arrays of n elements."""

    n: int = 32
    grid: int = 1
    block: int = 32
    shared: int = 128
    stride: int = 1
    max_steps: int = 100_000

    def arrays(self) -> tuple[torch.Tensor, torch.Tensor]:
        """x = 0, 1, ... and y = 0."""
        return torch.arange(self.n, dtype=torch.float32), torch.zeros(self.n)

    def __call__(self, kernel: str, x: torch.Tensor, y: torch.Tensor, *, seed: int = 0) -> None:
        module = planted()
        module.seed = seed
        module.max_steps = self.max_steps
        with module.watching():
            arguments = (x.data_ptr(), y.data_ptr(), self.n, self.stride)
            getattr(module, kernel)(self.grid, self.block, self.shared, 0, 0, *arguments)

    def fault(self, kernel: str, *, seed: int = 0) -> KernelFault:
        """What is wrong with the launch; fails if nothing is."""
        with pytest.raises(KernelFault) as caught:
            self(kernel, *self.arrays(), seed=seed)
        return caught.value


@dataclass(frozen=True)
class Mistake:
    """The fault that a planted mistake must raise, and the file of the line it must name."""

    kind: str
    message: str
    file: str
    launch: Launch = Launch()


_ALONE = Launch(block=1)
_TWO_BLOCKS = Launch(n=64, grid=2)

MISTAKES = {
    "read_before_barrier": Mistake("race", "in shared memory", "barriers.cu"),
    "write_before_barrier": Mistake("race", "in shared memory", "barriers.cu"),
    "barrier_in_branches": Mistake("barrier", "at two barriers", "barriers.cu"),
    "barrier_in_uneven_loop": Mistake("barrier", "", "", Launch(n=40)),
    "barrier_after_exit": Mistake("barrier", "", "", Launch(n=20)),
    "exit_before_barrier": Mistake("barrier", "", ""),
    "lanes_wait_for_each_other": Mistake("deadlock", "lanes of the mask", "barriers.cu"),
    "barrier_and_shuffle": Mistake("deadlock", "waits", "barriers.cu"),
    "caller_not_in_mask": Mistake("mask", "does not name the calling lane", "warps.cu"),
    "exited_lane_in_mask": Mistake("mask", "exit", "warps.cu", Launch(n=20)),
    "exit_while_named": Mistake("mask", "exit", "warps.cu"),
    "absent_lane_in_mask": Mistake("mask", "does not have", "warps.cu", Launch(block=24)),
    "shuffle_from_outside_mask": Mistake("mask", "not in the mask", "warps.cu"),
    "different_masks": Mistake("mask", "another mask", "warps.cu"),
    "different_functions": Mistake("mask", "another function", "warps.cu"),
    "odd_width": Mistake("mask", "power of 2", "warps.cu"),
    "warp_without_syncwarp": Mistake("race", "in shared memory", "warps.cu"),
    "shuffle_orders_nothing": Mistake("race", "in shared memory", "warps.cu"),
    "syncwarp_of_others": Mistake("race", "in shared memory", "warps.cu"),
    "warps_with_syncwarp": Mistake(
        "race", "in shared memory", "warps.cu", Launch(n=64, block=64, shared=256)
    ),
    "one_address_for_all": Mistake("race", "write of 4 bytes in buffer", "races.cu"),
    "update_across_blocks": Mistake("race", "in buffer", "races.cu", _TWO_BLOCKS),
    "read_across_blocks": Mistake("race", "in buffer", "races.cu", _TWO_BLOCKS),
    "plain_and_atomic": Mistake("race", "in buffer", "races.cu"),
    "plain_and_atomic_across_blocks": Mistake("race", "in buffer", "races.cu", _TWO_BLOCKS),
    "neighbouring_bytes_overlap": Mistake("race", "in shared memory", "races.cu"),
    "load_one_past": Mistake("bounds", "read of 4 bytes outside", "memory.cu", _ALONE),
    "store_one_past": Mistake("bounds", "write of 4 bytes outside", "memory.cu"),
    "store_one_before": Mistake("bounds", "write of 4 bytes outside", "memory.cu"),
    "load_null": Mistake("bounds", "outside all buffers", "memory.cu"),
    "shared_one_past": Mistake("bounds", "at byte 128 of 128", "memory.cu"),
    "static_shared_one_past": Mistake("bounds", "index outside an array", "memory.cu"),
    "local_array_one_past": Mistake("bounds", "index outside an array", "memory.cu", Launch(n=4)),
    "stack_of_another_thread": Mistake("bounds", "on the stack of thread 0", "memory.cu"),
    "memcpy_one_past": Mistake("bounds", "read of 132 bytes outside", "memory.cu"),
    "shared_not_written": Mistake("uninitialised", "shared memory", "memory.cu"),
    "static_shared_not_written": Mistake("uninitialised", "static shared memory", "memory.cu"),
    "shared_counter_not_set": Mistake("uninitialised", "atomic access of 4 bytes", "memory.cu"),
    "misaligned_float4": Mistake("alignment", "not aligned", "memory.cu", _ALONE),
    "misaligned_double": Mistake("alignment", "not aligned", "memory.cu"),
    "stack_overflow": Mistake("bounds", "stack of a thread", "memory.cu", Launch(n=2000)),
    "endless_loop": Mistake("endless", "steps", "memory.cu"),
    "endless_spin": Mistake("endless", "steps", "memory.cu"),
    "index_overflow": Mistake(
        "undefined", "integer overflow", "arithmetic.cu", replace(_ALONE, stride=2**27)
    ),
    "shift_too_far": Mistake("undefined", "shift", "arithmetic.cu"),
}


@pytest.mark.parametrize("kernel", MISTAKES)
def test_planted_mistake(kernel):
    mistake = MISTAKES[kernel]
    for seed in SEEDS:
        fault = mistake.launch.fault(kernel, seed=seed)
        assert fault.kind == mistake.kind, fault
        assert mistake.message in fault.message, fault
        assert fault.block is not None
        if mistake.file:
            assert fault.source[0].startswith(mistake.file), fault
        if mistake.kind == "race":
            assert fault.other_source[0].startswith(mistake.file), fault
            assert f"thread {fault.thread[0]} of block {fault.block}" not in fault.message


def test_fault_names_the_place():
    fault = Launch().fault("shared_not_written")
    assert fault.kernel == "shared_not_written"
    assert (fault.block, fault.thread) == ((0, 0, 0), (7, 0, 0))
    lines = (PLANTED / "memory.cu").read_text().split("\n")
    line = int(fault.source[0].split(":")[1])
    assert "= tile()[threadIdx.x]" in lines[line - 1]
    assert "memory.cu" in str(fault)


def test_a_value_never_set_makes_the_result_wrong():
    launch = Launch(block=1)
    x, y = launch.arrays()
    launch("accumulator_not_set", x, y)
    assert not abs(y[0]) < 1e30


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(grid=0), "a grid of (0, 1, 1)"),
        (dict(block=0), "a block of (0, 1, 1)"),
        (dict(block=1025), "a block of (1025, 1, 1)"),
        (dict(block=65), "above the launch bound of 64"),
        (dict(shared=48 * 1024 + 1), "not asked for"),
    ],
)
def test_impossible_launch(change, message):
    fault = Launch(**change).fault("bounded_by_64")
    assert fault.kind == "launch"
    assert message in fault.message
    assert fault.block is None


def test_launch_at_the_limits():
    launch = Launch(n=64, block=64, shared=48 * 1024)
    x, y = launch.arrays()
    launch("bounded_by_64", x, y)
    assert (x == 64).all()
    launch = Launch(n=1024, block=1024)
    x, y = launch.arrays()
    launch("indices", x, y)
    assert y[1023] == 1023 + 1024 * 10**4 + 10**6


def test_gaps_of_a_strided_view_are_out_of_bounds():
    storage = torch.arange(100.0)
    launch = Launch(n=20, stride=3)
    y = torch.zeros(20)
    launch("strided_copy", storage[5::3][:20], y)
    assert torch.equal(y, storage[5::3][:20])
    with pytest.raises(KernelFault, match="outside the elements of buffer 0, at byte 8 of") as wide:
        replace(launch, stride=2)("strided_copy", storage[5::3][:20], y)
    assert wide.value.address == storage[7:].data_ptr()
    with pytest.raises(KernelFault, match="outside"):
        launch("strided_copy", storage[5::3][:19], y)


def test_an_address_counts_for_the_launch_that_gets_it():
    x, y = Launch().arrays()
    with planted().watching():
        address = x.data_ptr()
        planted().strided_copy(1, 32, 0, 0, 0, address, y.data_ptr(), 32, 1)
        with pytest.raises(KernelFault, match="outside all buffers"):
            planted().strided_copy(1, 32, 0, 0, 0, address, y.data_ptr(), 32, 1)


def test_offsets_of_64_bits_without_the_memory():
    stride = 2**31 + 24
    launch = Launch(n=3, block=1, stride=stride)
    x, y = launch.arrays()
    with pytest.raises(KernelFault) as wide:
        launch("offset_of_64_bits", x, y)
    assert wide.value.kind == "bounds"
    assert wide.value.address == x.data_ptr() + 4 * 3 * stride
    with pytest.raises(KernelFault) as narrow:
        launch("offset_of_32_bits", x, y)
    assert narrow.value.address == x.data_ptr() + 4 * (3 * stride % 2**32)


def test_memory_from_torch_empty_must_be_written_before_it_is_read():
    launch = Launch()
    module = planted()
    module.seed = 0
    with module.watching():
        x, y = torch.empty(32), torch.empty(32)

        def copy(source, target):
            arguments = (source.data_ptr(), target.data_ptr(), 32, 1)
            module.strided_copy(launch.grid, launch.block, 0, 0, 0, *arguments)

        with pytest.raises(KernelFault) as caught:
            copy(x, y)
        assert caught.value.kind == "uninitialised"
        x.fill_(3)
        copy(x, y)
        # Written by a kernel: the next one may read it.
        copy(y, x)
        assert (x == 3).all()
        # Half of it only.
        z = x.new_empty(32)
        copy(y[:16].repeat(2), z)
        half = torch.empty(32)
        module.strided_copy(1, 16, 0, 0, 0, y.data_ptr(), half.data_ptr(), 32, 1)
        with pytest.raises(KernelFault) as caught:
            copy(half, y)
        assert caught.value.thread == (16, 0, 0)


def test_module_stays_usable_after_a_fault():
    launch = Launch(n=1024, block=1024, shared=4096, max_steps=10**7)
    for _ in range(20):
        launch.fault("barrier_in_branches")
    x, y = launch.arrays()
    launch("reused_tile", x, y)
    assert (y == x.sum()).all()


def test_wrong_arguments():
    module = planted()
    with pytest.raises(TypeError, match="takes 9 arguments, got 3"):
        module.indices(1, 1, 1)
    with pytest.raises(TypeError, match="-1 is no argument of type 'I'"):
        module.indices(-1, 1, 0, 0, 0, 0, 0, 0, 0)
    with pytest.raises(AttributeError, match="no kernel 'nothing'"):
        module.nothing(1)


def test_a_source_that_does_not_compile(tmp_path):
    source = tmp_path / "broken.cu"
    source.write_text("__global__ void broken() { missing(); }")
    with pytest.raises(BuildError, match="missing"):
        build_module(Sources((source,)))


def test_seeds_change_the_order_of_threads_and_blocks():
    launch = Launch(n=65, grid=2)
    orders = []
    for seed in (0, 1, 2, 1):
        x, y = launch.arrays()
        launch("arrivals", x, y, seed=seed)
        assert sorted(y[1:].tolist()) == list(range(64))
        orders.append(y[1:].tolist())
    in_order, first, second, again = orders
    assert in_order == list(range(64))
    assert first == again
    assert len({tuple(order) for order in orders}) == 3
    blocks = [[place // 32 for place in order] for order in (in_order, first, second)]
    assert any(order != sorted(order) for order in blocks)


@pytest.mark.parametrize("seed", SEEDS)
class TestSoundKernels:
    def test_block_sum(self, seed):
        launch = Launch(n=200, grid=3, block=64, stride=2)
        x, y = torch.arange(400.0)[::2], torch.zeros(3)
        launch("block_sum", x, y, seed=seed)
        of_block = torch.arange(200) // 64 % 3
        assert y.tolist() == [x[of_block == block].sum() for block in range(3)]

    def test_warp_scan(self, seed):
        launch = Launch(n=64, block=64)
        x, y = launch.arrays()
        launch("warp_scan", x, y, seed=seed)
        assert torch.equal(y.view(4, 16), x.view(4, 16).cumsum(1))

    def test_hadamard(self, seed):
        launch = Launch(n=128, block=64, shared=512)
        x, y = launch.arrays()
        launch("hadamard", x, y, seed=seed)
        h = torch.ones(1, 1)
        for _ in range(7):
            h = torch.cat([torch.cat([h, h], 1), torch.cat([h, -h], 1)])
        assert torch.equal(y, h @ x)

    def test_histogram(self, seed):
        launch = Launch(n=100, grid=3)
        x, y = torch.randint(8, (100,)).float(), torch.zeros(8)
        launch("histogram", x, y, seed=seed)
        assert y.view(torch.int32).tolist() == torch.bincount(x.long(), minlength=8).tolist()

    def test_copy_float4(self, seed):
        launch = Launch(n=200)
        x, y = launch.arrays()
        launch("copy_float4", x, y, seed=seed)
        assert torch.equal(x, y)

    def test_votes(self, seed):
        launch = Launch(n=64, block=64)
        x, y = launch.arrays()
        launch("votes", x - 40, y, seed=seed)
        expected = 1000 * 23 + 2e5 + torch.where(torch.arange(64) < 32, 0, 200 + 23)
        assert torch.equal(y, expected)

    def test_warp_transpose(self, seed):
        launch = Launch(n=64, block=64, shared=256)
        x, y = launch.arrays()
        launch("warp_transpose", x, y, seed=seed)
        lane = torch.arange(64) % 32
        assert torch.equal(y, x - lane + 31 - (lane ^ 8))

    def test_reused_tile(self, seed):
        launch = Launch(n=192, block=64, shared=256)
        x, y = launch.arrays()
        launch("reused_tile", x, y[:64], seed=seed)
        assert (y[:64] == x.sum()).all()

    def test_byte_flags(self, seed):
        launch = Launch(n=48, block=48, shared=4 * (64 + 48))
        x, y = launch.arrays()
        launch("byte_flags", x, y, seed=seed)
        assert torch.equal(y, torch.where(x.roll(-1) > 0, x.roll(-1), -1))

    def test_atomics(self, seed):
        launch = Launch(n=14, grid=2)
        x, y = launch.arrays()
        y.view(torch.int32)[5] = -1
        launch("atomics", x, y, seed=seed)
        integers = [63 * 32, -64, -63, 63, -1, -16, 0, 64 % 6, 9, 128]
        assert y.view(torch.int32)[:10].tolist() == integers
        assert y[10] == 32
        assert y.view(torch.float64)[6] == 16

    def test_spin_lock(self, seed):
        launch = Launch(n=2)
        x, y = launch.arrays()
        launch("spin_lock", x, y, seed=seed)
        assert y.tolist() == [0, 32]

    def test_indices(self, seed):
        launch = Launch(n=96, grid=3)
        x, y = launch.arrays()
        launch("indices", x, y, seed=seed)
        block = torch.arange(96) // 32
        assert torch.equal(y, torch.arange(96) % 32 + 100 * block + 32e4 + 3e6)
