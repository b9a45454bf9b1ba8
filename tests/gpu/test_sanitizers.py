"""Kernels recorded in the emulator and replayed under the compiler's own sanitizers."""

from __future__ import annotations

from contextlib import nullcontext
from functools import cache

import pytest

from tests.gpu import providers, test_emulated, test_emulator
from tests.gpu.emulator.build import Sources, build_replay, project_sources
from tests.gpu.emulator.faults import KernelFault
from tests.gpu.emulator.replay import SANITIZERS, recording, replay
from tests.gpu.test_emulator import Launch

pytestmark = pytest.mark.slow

BY_ADDRESS, BY_THREAD = SANITIZERS
# What each sanitizer can see of the planted mistakes, and the words of its report.
SEEN = {
    "store_one_past": (BY_ADDRESS, "heap-buffer-overflow"),
    "store_one_before": (BY_ADDRESS, "heap-buffer-overflow"),
    "shared_one_past": (BY_ADDRESS, "use-after-poison"),
    "memcpy_one_past": (BY_ADDRESS, "heap-buffer-overflow"),
    "static_shared_one_past": (BY_ADDRESS, "index 32 out of bounds"),
    "local_array_one_past": (BY_ADDRESS, "out of bounds"),
    "misaligned_float4": (BY_ADDRESS, "misaligned address"),
    "index_overflow": (BY_ADDRESS, "signed integer overflow"),
    "shift_too_far": (BY_ADDRESS, "shift exponent 32 is too large"),
    "barrier_in_branches": (BY_ADDRESS, "threads of one block wait at two barriers"),
    "read_before_barrier": (BY_THREAD, "data race"),
    "write_before_barrier": (BY_THREAD, "data race"),
    "warp_without_syncwarp": (BY_THREAD, "data race"),
    "shuffle_orders_nothing": (BY_THREAD, "data race"),
    "warps_with_syncwarp": (BY_THREAD, "data race"),
    "one_address_for_all": (BY_THREAD, "data race"),
    "update_across_blocks": (BY_THREAD, "data race"),
    "read_across_blocks": (BY_THREAD, "data race"),
    "plain_and_atomic": (BY_THREAD, "data race"),
    "plain_and_atomic_across_blocks": (BY_THREAD, "data race"),
}
SOUND = {
    "block_sum": Launch(n=200, grid=3, block=64),
    "warp_scan": Launch(n=64, block=64),
    "hadamard": Launch(n=128, block=64, shared=512),
    "copy_float4": Launch(n=200),
    "votes": Launch(n=64, block=64),
    "warp_transpose": Launch(n=64, block=64, shared=256),
    "reused_tile": Launch(n=192, block=64, shared=256),
    "byte_flags": Launch(n=48, block=48, shared=4 * (64 + 48)),
    "atomics": Launch(n=14, grid=2),
    "spin_lock": Launch(n=2),
    "indices": Launch(n=96, grid=3),
}


@cache
def _program(sources: Sources, sanitizers: str):
    return build_replay(sources, sanitizers)


def _reports(kernel: str, launch: Launch, sanitizers: str, path, *, fault: bool) -> list[str]:
    """What a sanitizer reports of a planted kernel, launched in several orders."""
    with (
        recording(test_emulator.planted(), path),
        pytest.raises(KernelFault) if fault else nullcontext(),
    ):
        launch(kernel, *launch.arrays())
    program = _program(test_emulator.planted_sources(), sanitizers)
    return [replay(program, path, seed=seed) for seed in (0, 1)]


@pytest.mark.parametrize("kernel", SEEN)
def test_sanitizer_sees_planted_mistake(kernel, tmp_path):
    sanitizers, words = SEEN[kernel]
    launch = test_emulator.MISTAKES[kernel].launch
    for report in _reports(kernel, launch, sanitizers, tmp_path / "launch", fault=True):
        assert words in report


@pytest.mark.parametrize("sanitizers", SANITIZERS)
@pytest.mark.parametrize("kernel", SOUND)
def test_sanitizer_finds_nothing_in_sound_kernel(kernel, sanitizers, tmp_path):
    reports = _reports(kernel, SOUND[kernel], sanitizers, tmp_path / "launch", fault=False)
    assert reports == ["", ""]


@pytest.mark.parametrize("sanitizers", SANITIZERS)
@pytest.mark.parametrize("name", test_emulated.CASES)
def test_sanitizer_finds_nothing_in_case(name, sanitizers, tmp_path):
    path = tmp_path / "launches"
    path.touch()
    module = test_emulated.emulated()
    with recording(module, path), providers.use(module):
        test_emulated.CASES[name]()
    assert replay(_program(project_sources(), sanitizers), path, seed=1) == ""
