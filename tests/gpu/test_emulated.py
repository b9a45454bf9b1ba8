"""The project's CUDA kernels in the emulator, launched by the ops' own code on CPU tensors."""

from __future__ import annotations

import importlib
from functools import cache
from pathlib import Path

import pytest
import torch

import hessx
from hessx.ops.eigh.cuda import eigh
from hessx.ops.trust_region.cuda import trust_region
from tests.gpu import providers
from tests.gpu.emulator.build import build_module, project_sources
from tests.gpu.emulator.faults import KernelFault
from tests.gpu.emulator.module import EmulatedModule

ROOT = Path(__file__).parents[2]
# Every op with CUDA kernels.
OPS = sorted(path.parent.name for path in ROOT.glob("hessx/ops/*/cuda.py"))
CASES = {
    f"{op}-{name}": case
    for op in OPS
    for name, case in importlib.import_module(f"tests.gpu.checks.{op}").CASES.items()
}
STRIDE = 2**31 + 24


@cache
def emulated() -> EmulatedModule:
    """The project's kernels."""
    return EmulatedModule(build_module(project_sources()))


def _run(name: str, seed: int) -> None:
    emulated().seed = seed
    with providers.use(emulated()):
        CASES[name]()


@pytest.mark.parametrize("name", CASES)
def test_case(name):
    for seed in (0, 1):
        _run(name, seed)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_case_in_other_orders(name):
    for seed in range(2, 12):
        _run(name, seed)


def test_cases_launch_every_kernel():
    missing = set(emulated().kernels)
    assert missing
    for name in CASES:
        if not missing:
            break
        emulated().launched.clear()
        _run(name, 0)
        missing -= set(emulated().launched)
    assert not missing


def test_forced_backend_runs_the_emulated_kernels():
    a = torch.randn(2, 5, 5)
    emulated().seed = 0
    emulated().launched.clear()
    with providers.use(emulated()), hessx.backend("cuda"):
        values, _ = hessx.ops.eigh(a)
    assert emulated().launched == {"hessx_eigh_float": 1}
    exact = torch.linalg.eigvalsh(a.double())
    assert (values - exact).abs().max() < 1e-5 * exact.abs().max()
    with hessx.backend("reference"):
        hessx.ops.eigh(a)
    assert emulated().launched == {"hessx_eigh_float": 1}


class _Strided(torch.Tensor):
    """A small tensor that, asked for its strides, gives a larger one for one axis."""

    @staticmethod
    def of(tensor: torch.Tensor, axis: int) -> torch.Tensor:
        strided = tensor.as_subclass(_Strided)
        strided.axis = axis
        return strided

    def stride(self, axis: int | None = None):
        true = super().stride()
        # A slice or a new tensor has no such axis; their launch does not ask for it.
        wide = getattr(self, "axis", None)
        strides = tuple(STRIDE if i == wide else true[i] for i in range(len(true)))
        return strides if axis is None else strides[axis]


def _assert_stray_at_stride(tensor: torch.Tensor, call) -> None:
    """The first access along the widened axis leaves the tensor by the whole stride."""
    emulated().seed = 0
    with providers.use(emulated()), pytest.raises(KernelFault) as caught:
        call()
    fault = caught.value
    assert fault.kind == "bounds", fault
    offset = (fault.address - tensor.data_ptr()) // tensor.element_size()
    steps, rest = divmod(offset, STRIDE)
    assert 1 <= steps < max(tensor.shape), fault
    assert rest < tensor.numel(), fault


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_eigh_takes_offsets_of_64_bits(axis):
    a = torch.ones(3, 5, 5)
    _assert_stray_at_stride(a, lambda: eigh(_Strided.of(a, axis)))


@pytest.mark.parametrize(("argument", "axis"), [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0)])
def test_trust_region_takes_offsets_of_64_bits(argument, axis):
    arguments = [torch.ones(5, 40), torch.ones(5, 40), torch.ones(5)]
    tensor = arguments[argument]
    arguments[argument] = _Strided.of(tensor, axis)
    _assert_stray_at_stride(tensor, lambda: trust_region(*arguments))


def test_impossible_launch_is_refused():
    # By the binding's own request for shared memory, and by the kernel's own bounds.
    with pytest.raises(KernelFault, match="232449 bytes of shared memory"):
        emulated().hessx_eigh_float(1, 32, 227 * 1024 + 1, 0, 0, *[0] * 7)
    with pytest.raises(KernelFault, match="288 threads, above the launch bound of 256"):
        emulated().hessx_eigh_float(1, 288, 0, 0, 0, *[0] * 7)
    with pytest.raises(KernelFault, match="no device 1"):
        emulated().hessx_eigh_float(1, 32, 0, 1, 0, *[0] * 7)
