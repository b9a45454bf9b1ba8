"""The ops' own launches through the built CUDA module, over a runtime that writes them down."""

from __future__ import annotations

import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import hessx
from hessx import nvrtc
from hessx.ops.launch import MAX_GRID, launch
from tests.gpu import providers

pytestmark = pytest.mark.skipif(shutil.which("nvcc") is None, reason="needs nvcc")


@pytest.fixture(scope="module")
def built():
    from tests.gpu.runtime.fake import FakeRuntime

    return FakeRuntime()


@pytest.fixture
def runtime(built):
    built.forget()
    with providers.use(built.module), hessx.backend("cuda"):
        yield built
    built.forget()


KERNEL = "hessx_trust_region_float"
REALS = {torch.float32: "float", torch.float64: "double"}


def launch_once(runtime, *, grid=1, block=32, shared=0, like=None, kernel=KERNEL):
    """Launch a kernel with arguments that nothing reads."""
    like = torch.empty(0) if like is None else like
    launch(kernel, like, grid, block, shared, *[0] * len(nvrtc.signatures()[kernel]))


def test_kernels_are_declared_bound_and_compiled_alike(built):
    """What CuPy passes is read from the header; it is what nvcc's kernels take."""
    bound = {name for name in dir(built.module) if name.startswith("hessx_")}
    assert set(built.kernels) == set(nvrtc.signatures()) == bound
    for name, kernel in built.kernels.items():
        types = nvrtc.signatures()[name].values()
        assert tuple(np.dtype(of_type).itemsize for of_type in types) == kernel.argument_bytes
        assert nvrtc.source_of(name).stem == kernel.source


@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize("batch", [1, 4, 9])
def test_trust_region(runtime, dtype, batch):
    """Transposed and spread arguments arrive with their addresses and strides."""
    e = torch.ones(5, batch, dtype=dtype).mT
    g = torch.ones(batch, 15, dtype=dtype)[:, ::3]
    radius = torch.ones(1, dtype=dtype).expand(batch)
    step, multiplier = hessx.ops.trust_region(e, g, radius)
    (launched,) = runtime.launches()
    assert launched.kernel == f"hessx_trust_region_{REALS[dtype]}"
    assert launched.arguments == {
        "eigenvalues": e.data_ptr(),
        "eigenvalues_batch_stride": e.stride(0),
        "eigenvalues_stride": e.stride(1),
        "gradient": g.data_ptr(),
        "gradient_batch_stride": 15,
        "gradient_stride": 3,
        "radius": radius.data_ptr(),
        "radius_stride": radius.stride(0),
        "batch": batch,
        "k": 5,
        "step": step.data_ptr(),
        "multiplier": multiplier.data_ptr(),
    }
    # One warp a problem, and no block without one.
    warps = launched.block // 32
    assert (launched.grid - 1) * warps < batch <= launched.grid * warps
    assert (launched.shared, launched.stream, launched.device) == (0, 0, 0)


@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize("k", [1, 7, 32, 64])
def test_eigh(runtime, dtype, k):
    """One block a matrix, with room for two matrices in shared memory."""
    a = torch.ones(3, 2 * k, k, dtype=dtype)[:, ::2].mT
    values, vectors = hessx.ops.eigh(a)
    (launched,) = runtime.launches()
    assert launched.kernel == f"hessx_eigh_{REALS[dtype]}"
    assert launched.arguments == {
        "a": a.data_ptr(),
        "batch_stride": a.stride(0),
        "row_stride": a.stride(1),
        "column_stride": a.stride(2),
        "k": k,
        "values": values.data_ptr(),
        "vectors": vectors.data_ptr(),
    }
    assert launched.grid == 3
    assert launched.block % 32 == 0
    assert launched.shared >= 2 * k * k * a.element_size()


def test_more_matrices_than_a_grid_has_blocks(runtime, monkeypatch):
    """The rest goes into further launches; here a grid has 4 blocks at most."""
    from hessx.ops.eigh import cuda

    monkeypatch.setattr(cuda, "MAX_GRID", 4)
    a = torch.ones(10, 3, 3)
    values, vectors = hessx.ops.eigh(a)
    launches = runtime.launches()
    assert [launched.grid for launched in launches] == [4, 4, 2]
    for start, launched in zip((0, 4, 8), launches, strict=True):
        assert launched.arguments["a"] == a[start].data_ptr()
        assert launched.arguments["values"] == values[start].data_ptr()
        assert launched.arguments["vectors"] == vectors[start].data_ptr()


def test_large_matrices_go_to_a_library(runtime):
    hessx.ops.eigh(torch.eye(65)[None])
    assert runtime.launches() == []


def test_empty_batches_launch_nothing(runtime):
    hessx.ops.eigh(torch.ones(0, 3, 3))
    hessx.ops.eigh(torch.ones(2, 0, 0))
    hessx.ops.trust_region(torch.ones(0, 3), torch.ones(0, 3), 1.0)
    launch_once(runtime, grid=0)
    assert runtime.launches() == []


def test_device_and_stream_of_the_tensor(runtime, monkeypatch):
    """The kernel goes to the tensor's device and torch's stream there; torch's own comes back."""
    entered = []

    class Device:
        def __init__(self, index):
            self.index = index

        def __enter__(self):
            entered.append(self.index)

        def __exit__(self, *exception):
            entered.append("left")

    streams = {1: SimpleNamespace(cuda_stream=0xBEEF)}
    monkeypatch.setattr(torch.cuda, "current_stream", streams.__getitem__)
    monkeypatch.setattr(torch.cuda, "device", Device)
    monkeypatch.setattr(runtime.module, "device", "cuda")
    like = SimpleNamespace(device=torch.device("cuda", 1), is_cuda=True, get_device=lambda: 1)
    launch_once(runtime, like=like)
    (launched,) = runtime.launches()
    assert (launched.device, launched.stream) == (1, 0xBEEF)
    assert entered == [1, "left"]


def test_large_shared_memory_is_asked_for(runtime):
    for shared in (48 * 1024, 48 * 1024 + 1, 227 * 1024):
        launch_once(runtime, shared=shared)
    assert [launched.shared for launched in runtime.launches()] == [49152, 49153, 232448]


@pytest.mark.parametrize(
    ("geometry", "reason"),
    [
        (dict(block=0), r"invalid configuration argument \(CUDA error 9\)"),
        (dict(block=1025, kernel="hessx_trust_region_double"), "invalid configuration argument"),
        (dict(shared=227 * 1024 + 1), r"invalid argument \(CUDA error 1\)"),
    ],
)
def test_impossible_launches_name_kernel_and_reason(runtime, geometry, reason):
    kernel = geometry.get("kernel", KERNEL)
    with pytest.raises(RuntimeError, match=f"^{kernel}: {reason}"):
        launch_once(runtime, **geometry)
    assert runtime.launches() == []
    launch_once(runtime)
    assert len(runtime.launches()) == 1


def test_blocks_beyond_the_launch_bounds(runtime):
    bound = runtime.kernels[KERNEL].max_threads
    launch_once(runtime, block=bound)
    with pytest.raises(RuntimeError, match="invalid configuration argument"):
        launch_once(runtime, block=bound + 1)
    assert len(runtime.launches()) == 1


@pytest.mark.parametrize("grid", [-1, MAX_GRID + 1])
def test_grids_out_of_range(runtime, grid):
    with pytest.raises(ValueError, match=rf"{KERNEL}: grid must be in \[0, {MAX_GRID}\]"):
        launch_once(runtime, grid=grid)


def test_the_largest_grid_is_launched(runtime):
    launch_once(runtime, grid=MAX_GRID)
    assert runtime.launches()[0].grid == MAX_GRID


def test_errors_of_the_runtime_reach_the_caller(runtime):
    e = torch.ones(2, 3)
    runtime.fail_next(701)
    with pytest.raises(RuntimeError, match=r"too many resources requested .*\(CUDA error 701\)"):
        hessx.ops.trust_region(e, e, 1.0)
    hessx.ops.trust_region(e, e, 1.0)
    assert len(runtime.launches()) == 1


def test_absent_devices_and_wrong_arguments(runtime):
    kernel = getattr(runtime.module, KERNEL)
    with pytest.raises(RuntimeError, match=rf"{KERNEL}: invalid device ordinal"):
        kernel(1, 32, 0, 7, 0, *[0] * 12)
    with pytest.raises(TypeError):
        kernel(1, 32, 0, 0, 0, *[0] * 11)
    with pytest.raises(TypeError):
        kernel(-1, 32, 0, 0, 0, *[0] * 12)


def test_tensors_of_another_device_are_refused(runtime):
    with pytest.raises(ValueError, match="these kernels take cpu tensors, got a tensor on meta"):
        launch_once(runtime, like=torch.empty(1, device="meta"))
