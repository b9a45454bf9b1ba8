"""What is read from compiled kernels: planted ones must show what is wrong with them."""

from __future__ import annotations

import os

import pytest
import torch

pytest.importorskip("triton")

import triton
import triton.language as tl

from tests.gpu.compiled import sass
from tests.gpu.compiled.measure import compile_triton, measure_triton
from tests.gpu.compiled.roofline import A100, Work, floor_seconds
from tests.gpu.compiled.sources import has_nvcc, run_nvcc

pytestmark = pytest.mark.skipif(
    os.environ.get("TRITON_INTERPRET") == "1", reason="this process interprets its kernels"
)


@triton.jit
def copy_kernel(x, out, BLOCK: tl.constexpr):
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + i, tl.load(x + i))


@triton.jit
def spilling_kernel(x, out, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK).to(tl.int64)
    values = tl.load(x + i)
    tl.store(out + i, values - tl.max(values, 0))


@triton.jit
def product_kernel(x, out, PRECISION: tl.constexpr, SIZE: tl.constexpr):
    i = tl.arange(0, SIZE).to(tl.int64)
    at = i[:, None] * SIZE + i[None, :]
    values = tl.load(x + at)
    tl.store(out + at, tl.dot(values, values, input_precision=PRECISION))


@triton.jit
def counting_kernel(counter):
    tl.atomic_add(counter, 1)


def read(launch, capability: int = 80) -> sass.Kernel:
    (measurement,) = measure_triton(compile_triton({"planted": launch}, capability), capability)
    return measurement.kernel


def copy(x: torch.Tensor) -> sass.Kernel:
    return read(lambda: copy_kernel[(1,)](x, torch.empty(1024), BLOCK=1024, num_warps=4))


def product(
    precision: str, dtype: torch.dtype, size: int = 32, capability: int = 80
) -> sass.Kernel:
    x, out = torch.empty(size, size, dtype=dtype), torch.empty(size, size)
    return read(
        lambda: product_kernel[(1,)](x, out, PRECISION=precision, SIZE=size, num_warps=4),
        capability,
    )


def test_aligned_rows_move_128_bits():
    kernel = copy(torch.empty(1024))
    assert kernel.global_loads == {128: 2}
    assert kernel.global_stores == {128: 2}


def test_loads_that_are_not_aligned_move_32_bits():
    kernel = copy(torch.empty(1025)[1:])
    assert set(kernel.global_loads) == {32}
    assert sum(kernel.global_loads.values()) == 8


def test_a_kernel_that_spills_has_a_stack():
    x = torch.empty(16384)
    kernel = read(lambda: spilling_kernel[(1,)](x, x, BLOCK=16384, num_warps=1))
    assert kernel.stack > 0
    assert kernel.local_accesses > 0


def test_tf32_is_told_from_ieee():
    assert product("tf32", torch.float32).tensor_cores == {"HMMA.TF32"}
    exact = product("ieee", torch.float32)
    assert exact.tensor_cores == frozenset()
    assert exact.count("FFMA") > 0


def test_atomics_are_counted():
    counter = torch.zeros(1, dtype=torch.int32)
    assert read(lambda: counting_kernel[(1,)](counter)).atomics == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("capability", "instruction"),
    [(80, "HMMA.BF16"), (90, "HGMMA.BF16"), (100, "UTCHMMA"), (120, "HMMA.BF16")],
)
def test_tensor_cores_of_each_generation(capability, instruction):
    kernel = product("ieee", torch.bfloat16, size=128, capability=capability)
    assert kernel.tensor_cores == {instruction}


PLANTED = """
extern "C" __global__ void array(double* x) {
  double copy[64];
  for (int i = 0; i < 64; ++i) copy[i] = x[i];
  x[threadIdx.x] = copy[static_cast<int>(x[64]) & 63];
}
extern "C" __global__ void declared(float* x) {
  __shared__ float copy[32];
  copy[threadIdx.x] = x[threadIdx.x];
  __syncthreads();
  x[threadIdx.x] = copy[31 - threadIdx.x];
}
"""


@pytest.mark.skipif(not has_nvcc(), reason="nvcc is not on the path")
def test_kernels_of_one_source_are_told_apart(tmp_path):
    (tmp_path / "planted.cu").write_text(PLANTED)
    run_nvcc([tmp_path / "planted.cu"], 80, tmp_path)
    kernels = sass.read((tmp_path / "planted.cubin").read_bytes())
    assert set(kernels) == {"array", "declared"}
    assert kernels["array"].stack == 64 * 8
    assert kernels["array"].local_accesses > 0
    assert kernels["declared"].stack == kernels["declared"].local_accesses == 0
    assert kernels["declared"].shared == 32 * 4
    assert kernels["declared"].count("BAR") == 1


@pytest.mark.skipif(not has_nvcc(), reason="nvcc is not on the path")
def test_a_source_that_does_not_compile_is_an_error(tmp_path):
    (tmp_path / "wrong.cu").write_text("__global__ void kernel() { no_such_name(); }")
    with pytest.raises(RuntimeError, match=r"could not compile .*wrong.cu for sm_80"):
        run_nvcc([tmp_path / "wrong.cu"], 80, tmp_path)


@pytest.mark.parametrize(
    ("instruction", "bits"),
    [
        ("LDG.E", 32),
        ("LDG.E.U16", 16),
        ("LDG.E.64.CONSTANT", 64),
        ("LDGSTS.E.BYPASS.LTC128B.128", 128),
        ("LDGSTS.E.LTC128B", 32),
        ("LDG.E.ENL2.256", 256),
    ],
)
def test_widths_of_instructions(instruction, bits):
    assert sass.access_bits(instruction) == bits


def test_the_floor_is_set_by_the_scarcest_resource():
    assert floor_seconds(Work(2039, {"float32": 1.0}), A100) == (1e-9, "memory")
    assert floor_seconds(Work(1, {"float32": 19.5e12, "float64": 9.7}), A100) == (1.0, "float32")
