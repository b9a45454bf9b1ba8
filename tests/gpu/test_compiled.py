"""Every Triton and CUDA kernel compiled for GPUs that are not there, against the budget.

Launches are made by the project's own code: kernels get the specialisations, tiles and options that
a GPU would get.
"""

from __future__ import annotations

import ast
import os
import re
from functools import cache

import pytest

pytest.importorskip("triton")

import torch

from hessx import nvrtc as at_run_time
from hessx.ops.edges import triton as edges
from hessx.ops.grid_noise import triton as grid_noise
from hessx.ops.moments import triton as moments
from hessx.ops.noise import triton as noise
from hessx.ops.shrink import triton as shrink
from hessx.ops.softmax import triton as softmax
from tests.gpu.compiled import budget, nvrtc, sass
from tests.gpu.compiled.measure import (
    CAPABILITIES,
    CompiledTriton,
    Measurement,
    compile_triton,
    measure_cuda,
    measure_triton,
)
from tests.gpu.compiled.sources import ROOT, cuda_sources, has_nvcc, nvcc_cubins
from tests.gpu.launches import BFLOAT16, CUDA, EVERYDAY, FLOAT16, FLOAT64, LAUNCHES, TRITON
from tests.gpu.offline import compiled_launches

pytestmark = pytest.mark.skipif(
    os.environ.get("TRITON_INTERPRET") == "1", reason="this process interprets its kernels"
)

needs_nvcc = pytest.mark.skipif(not has_nvcc(), reason="nvcc is not on the path")
slow = pytest.mark.slow

# Which launches are compiled for which capability.
PARTS = [
    pytest.param(80, True, id="sm_80"),
    pytest.param(90, True, id="sm_90"),
    pytest.param(80, False, id="sm_80-others", marks=slow),
    pytest.param(90, False, id="sm_90-others", marks=slow),
    *(
        pytest.param(capability, everyday, id=f"sm_{capability}{suffix}", marks=slow)
        for capability in (100, 120)
        for everyday, suffix in ((True, ""), (False, "-others"))
    ),
]
of_every_launch = pytest.mark.parametrize(("capability", "everyday"), PARTS)
of_every_capability = pytest.mark.parametrize(
    "capability", [80, 90, *(pytest.param(x, marks=slow) for x in (100, 120))]
)


@cache
def compiled(capability: int, everyday: bool) -> CompiledTriton:
    launches = {n: x.run for n, x in TRITON.items() if (n in EVERYDAY) == everyday}
    return compile_triton(launches, capability)


@cache
def measured(capability: int, everyday: bool) -> list[Measurement]:
    return measure_triton(compiled(capability, everyday), capability)


def measured_cuda(capability: int, cubins: tuple[bytes, ...]) -> list[Measurement]:
    return measure_cuda({name: x.run for name, x in CUDA.items()}, capability, cubins)


@of_every_launch
def test_triton_kernels_keep_to_the_budget(capability, everyday):
    assert budget.check(measured(capability, everyday), budget.read()) == []


@needs_nvcc
@of_every_capability
def test_cuda_kernels_keep_to_the_budget(capability):
    measurements = measured_cuda(capability, nvcc_cubins(capability))
    assert budget.check(measurements, budget.read()) == []


@pytest.mark.skipif(nvrtc.library() is None, reason="no libnvrtc: pip install nvidia-cuda-nvrtc")
@pytest.mark.parametrize("capability", [80, *(pytest.param(x, marks=slow) for x in (90, 100, 120))])
def test_cuda_kernels_compiled_at_run_time_keep_to_the_budget(capability):
    compiler = nvrtc.Compiler(nvrtc.library())
    options = at_run_time.options()
    cubins = tuple(compiler.cubin(source, capability, options) for source in cuda_sources())
    assert budget.check(measured_cuda(capability, cubins), budget.read()) == []


def test_the_budget_has_a_row_for_every_launch_and_no_other():
    rows = {(row.launch, row.capability) for row in budget.read().values()}
    assert rows == {(name, capability) for name in LAUNCHES for capability in CAPABILITIES}


def test_exceptions_have_a_reason_and_nothing_else_has():
    for row in budget.read().values():
        exceptions = budget.exceptions(row, contiguous=LAUNCHES[row.launch].contiguous)
        assert bool(row.reason) == bool(exceptions), (*row.key, exceptions)


# They move their pointers to a tile by 64 bits; within a tile, which has many rows only where rows
# are short, 32 bits do and take half of the registers.
WITHIN_A_TILE = {
    f"_grid_{name}_kernel"
    for name in ("difference", "difference_adjoint", "laplacian", "curl", "curl_adjoint")
}


@of_every_launch
def test_offsets_have_64_bits(capability, everyday):
    for kernels in compiled(capability, everyday).values():
        for kernel in kernels:
            offsets = re.findall(
                r"tt\.addptr .* : .*, (?:tensor<[\dx]*)?(i\d+)", kernel.asm["ttir"]
            )
            assert offsets
            expected = {"i64", "i32"} if kernel.name in WITHIN_A_TILE else {"i64"}
            assert set(offsets) == expected, kernel.name
            # What is widened only after a product of 32 bits has overflowed already. Philox
            # multiplies words of 32 bits by its two constants on purpose.
            products = re.findall(
                r"arith\.muli .*(?<!-766435501_i32)(?<!-845247145_i32) : i32", kernel.asm["ttir"]
            )
            assert not products, (kernel.name, products)


@of_every_launch
def test_nothing_is_rounded_to_tf32(capability, everyday):
    for kernels in compiled(capability, everyday).values():
        # Instructions of sm_100 do not name the types of their factors; PTX does.
        assert not any("tf32" in kernel.asm["ptx"] for kernel in kernels)
    for measurement in measured(capability, everyday):
        assert not any("TF32" in x for x in measurement.kernel.tensor_cores)


@of_every_launch
def test_tensor_cores_work_where_a_product_is_meant_for_them(capability, everyday):
    used: dict[str, bool] = {}
    for x in measured(capability, everyday):
        used[x.launch] = used.get(x.launch, False) or bool(x.kernel.tensor_cores)
    # Triton gives float64 to the tensor cores of sm_80 and sm_90 alone.
    takes = (BFLOAT16, FLOAT16, FLOAT64) if capability < 100 else (BFLOAT16, FLOAT16)
    assert used == {name: LAUNCHES[name].tensor_cores in takes for name in used}


def test_every_triton_kernel_has_a_launch():
    launched = {row.kernel for row in budget.read().values() if row.launch in TRITON}
    assert launched == triton_kernels()


def triton_kernels() -> set[str]:
    """Names of the functions under hessx that are launched over a grid."""
    names = set()
    for path in (ROOT / "hessx").rglob("triton.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef) and node.name.endswith("_kernel"):
                names.add(node.name)
    return names


def test_every_cuda_kernel_has_a_launch():
    launched = {row.kernel for row in budget.read().values() if row.launch in CUDA}
    assert launched == set(at_run_time.signatures())


@needs_nvcc
def test_every_compiled_cuda_kernel_is_declared():
    found = {name for cubin in nvcc_cubins(80) for name in sass.read(cubin)}
    assert found == set(at_run_time.signatures())


def test_one_compilation_serves_all_draws():
    """An integer that does not fit 32 bits must not be another type of argument."""
    names = set()
    for number in (0, 1, 2**32 - 1):
        with compiled_launches(80) as kernels:
            noise.normal(torch.empty(16, 64), number, number, number)
            v = torch.empty(1, 16, 64)
            moments.normal_moments(v, None, 64, number, number, number)
        names.add(tuple(kernel.hash for kernel in kernels))
    assert len(names) == 1


@slow
def test_one_compilation_serves_all_batches():
    """Numbers of rows and of those that share one are not part of a kernel."""
    names = set()
    for m in (1, 3, 16):
        gradient, vector, number = torch.empty(2, 64), torch.empty(2, m, 64), torch.empty(2, m)
        sums = torch.empty(2, m, 5, dtype=torch.float64)
        pictures, row, ones = torch.empty(m, 4, 4), torch.empty(m, 24), torch.empty(m)
        with compiled_launches(80) as kernels:
            softmax.softmax_product(gradient, vector)
            shrink.fista_step(gradient, *[vector] * 3, *[number] * 4, *[vector] * 2, sums)
            edges.edge_update(*[row] * 3, pictures, *[ones] * 3, row, torch.empty(m).double())
            grid_noise.grid_normal(pictures, m, m, m)
        # What adds up blocks, of totals of any size, moves 128 bits where it may.
        own = [kernel for kernel in kernels if kernel.name != "_add_slots_kernel"]
        assert len(own) == 4
        names.add(tuple(kernel.hash for kernel in own))
    assert len(names) == 1
