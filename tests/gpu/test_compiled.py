"""Every Triton kernel compiled, by the project's own launch code, for GPUs that are not there."""

from __future__ import annotations

import os
import re

import pytest
import torch

pytest.importorskip("triton")

from hessx.ops.moments import triton as moments
from hessx.ops.noise import triton as noise
from tests.gpu.offline import compiled_launches, resource_usage


def _noise(fill, dtype):
    return lambda: fill(torch.empty(256, 784, dtype=dtype), 1, 2, 3)


def _cross(k, dtype, *, n=512, weighted=False):
    def launch():
        x = torch.empty(2, n, k, dtype=dtype)
        moments.cross_moments(x[:1], x, torch.empty(n, dtype=dtype) if weighted else None)

    return launch


def _core(k, dtype):
    def launch():
        x = torch.empty(1, 512, k, dtype=dtype)
        moments.core_moments(x, x)

    return launch


# Every tile and precision, columns aligned and not; the small ones add up blocks too.
LAUNCHES = {
    "uniform-float32": _noise(noise.uniform, torch.float32),
    "normal-float32": _noise(noise.normal, torch.float32),
    "normal-float64": _noise(noise.normal, torch.float64),
    "normal-bfloat16": _noise(noise.normal, torch.bfloat16),
    "cross-9-float32": _cross(9, torch.float32, weighted=True),
    "cross-256-float32": _cross(256, torch.float32),
    "cross-785-float32-weighted": _cross(785, torch.float32, weighted=True),
    "cross-784-bfloat16": _cross(784, torch.bfloat16),
    "cross-256-float64": _cross(256, torch.float64),
    "core-49-float32": _core(49, torch.float32),
    "core-256-float32": _core(256, torch.float32),
    "core-256-float64": _core(256, torch.float64),
}


@pytest.fixture(autouse=True)
def compile_here(monkeypatch, tmp_path):
    if os.environ.get("TRITON_INTERPRET") == "1":
        pytest.skip("TRITON_INTERPRET=1: this process interprets its kernels")
    # An earlier run's cache would hide that a kernel no longer compiles.
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))


@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("name", LAUNCHES)
def test_kernels_compile_without_spills(name, capability):
    with compiled_launches(capability) as kernels:
        LAUNCHES[name]()
    assert kernels
    for kernel in kernels:
        usage = resource_usage(kernel)
        # Nothing in local memory: neither spilled registers nor arrays.
        assert usage["STACK"] == usage["LOCAL"] == 0, (kernel.name, usage)
        assert usage["REG"] <= 255
        _assert_64_bit_offsets(kernel)


def _assert_64_bit_offsets(kernel):
    offsets = re.findall(r"tt\.addptr .* : .*, (?:tensor<[\dx]*)?(i\d+)", kernel.asm["ttir"])
    assert offsets
    assert set(offsets) == {"i64"}, kernel.name
    # What is widened only after a product of 32 bits has overflowed already. Philox, on tensors,
    # multiplies words of 32 bits on purpose.
    products = re.findall(r"arith\.muli .* : i32", kernel.asm["ttir"])
    assert not products, (kernel.name, products)


def _count(kernels, instruction):
    return sum(len(re.findall(instruction, kernel.asm["ptx"])) for kernel in kernels)


def test_contiguous_rows_are_stored_128_bits_at_a_time():
    with compiled_launches(80) as kernels:
        LAUNCHES["normal-float32"]()
    assert _count(kernels, r"st\.global\.v4\.b32") == _count(kernels, r"st\.global") > 0


def test_float32_dots_are_not_rounded_to_tf32():
    with compiled_launches(80) as kernels:
        LAUNCHES["cross-256-float32"]()
    assert _count(kernels, r"\bmma") == 0
    assert _count(kernels, r"fma\.rn\.f32") > 0


@pytest.mark.parametrize(
    ("name", "instruction"),
    [("cross-784-bfloat16", r"mma\.\S*bf16\.bf16\.f32"), ("cross-256-float64", r"mma\.\S*f64")],
)
def test_tensor_cores_take_bfloat16_and_float64(name, instruction):
    with compiled_launches(80) as kernels:
        LAUNCHES[name]()
    assert _count(kernels, instruction) > 0
