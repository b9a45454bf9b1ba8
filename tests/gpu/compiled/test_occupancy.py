"""The occupancy calculator, against known values and against NVIDIA's own."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

import pytest

pytest.importorskip("triton")

import triton

from tests.gpu.compiled.occupancy import MULTIPROCESSORS, occupancy, resident_blocks


@pytest.mark.parametrize(
    ("capability", "threads", "registers", "shared", "expected"),
    [
        (80, 256, 32, 0, 1.0),
        (80, 256, 255, 0, 0.125),
        # Registers come in units of 8 a thread: 33 cost as much as 40.
        (80, 256, 33, 0, 0.75),
        # 32 blocks of one warp fill half of 64 places.
        (80, 32, 16, 0, 0.5),
        # Two blocks of 81 KB fit into 164 KB, 82 KB and the 1 KB of the system do not fit twice.
        (80, 1024, 32, 81 * 1024, 1.0),
        (80, 1024, 32, 82 * 1024, 0.5),
        (90, 1024, 32, 82 * 1024, 1.0),
        (120, 256, 32, 0, 1.0),
        (120, 1024, 32, 0, 2 / 3),
        (80, 1024, 128, 0, 0.0),
        (80, 64, 256, 0, 0.0),
        (80, 64, 32, 164 * 1024, 0.0),
    ],
)
def test_known_values(capability, threads, registers, shared, expected):
    assert occupancy(capability, threads, registers, shared) == pytest.approx(expected)


# Reads launches and writes resident blocks, by the header that CUDA's own API is made of.
PROGRAM = """
#include <cstdio>
#include <cuda_occupancy.h>

int main() {
  int capability, threads, registers;
  size_t shared, total;
  while (std::scanf("%d %zu %d %d %zu", &capability, &total, &threads, &registers, &shared) == 5) {
    cudaOccDeviceProp device;
    device.computeMajor = capability / 10;
    device.computeMinor = capability % 10;
    device.maxThreadsPerBlock = 1024;
    device.maxThreadsPerMultiprocessor = capability == 120 ? 1536 : 2048;
    device.regsPerBlock = device.regsPerMultiprocessor = 65536;
    device.warpSize = 32;
    device.sharedMemPerBlock = 48 * 1024;
    device.sharedMemPerMultiprocessor = total;
    device.sharedMemPerBlockOptin = total - 1024;
    device.reservedSharedMemPerBlock = 1024;
    device.numSms = 1;
    cudaOccFuncAttributes kernel;
    kernel.maxThreadsPerBlock = 1024;
    kernel.numRegs = registers;
    kernel.shmemLimitConfig = FUNC_SHMEM_LIMIT_OPTIN;
    kernel.maxDynamicSharedSizeBytes = total - 1024;
    cudaOccDeviceState state;
    state.carveoutConfig = SHAREDMEM_CARVEOUT_MAX_SHARED;
    cudaOccResult result;
    const auto status =
        cudaOccMaxActiveBlocksPerMultiprocessor(&result, &device, &kernel, &state, threads, shared);
    std::printf("%d\\n", status == CUDA_OCC_SUCCESS ? result.activeBlocksPerMultiprocessor : -1);
  }
}
"""


def test_agrees_with_the_header_of_cuda(tmp_path):
    source = tmp_path / "occupancy.cpp"
    source.write_text(PROGRAM)
    include = Path(triton.__file__).parent / "backends" / "nvidia" / "include"
    program = tmp_path / "occupancy"
    subprocess.run(["g++", f"-I{include}", str(source), "-o", str(program)], check=True)

    draw = random.Random(0)
    launches = [
        (
            capability,
            draw.randint(1, 1024),
            draw.randint(16, 255),
            draw.choice([0, draw.randint(0, limits.shared - 2048)]),
        )
        for capability, limits in MULTIPROCESSORS.items()
        for _ in range(500)
    ]
    lines = [
        f"{capability} {MULTIPROCESSORS[capability].shared} {threads} {registers} {shared}"
        for capability, threads, registers, shared in launches
    ]
    run = subprocess.run(
        [str(program)], input="\n".join(lines), capture_output=True, text=True, check=True
    )
    expected = [int(x) for x in run.stdout.split()]
    assert [resident_blocks(*launch) for launch in launches] == expected
    # A test of nothing but launches that do not fit would say little.
    assert sum(x > 0 for x in expected) > 1000
