"""The CUDA kernels by CuPy: their sources, and launches through a stand-in that notes its calls."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch

import hessx
from hessx import backends, nvrtc
from hessx.ops.eigh import cuda as eigh_cuda
from tests.gpu import providers

KERNEL = "hessx_trust_region_float"
TYPES = tuple(nvrtc.signatures()[KERNEL].values())


class CompileError(Exception):
    """As CuPy's CompileException."""


class FakeCupy(ModuleType):
    """The part of CuPy that the provider uses; what it does is written into `calls`."""

    def __init__(self, *, broken: bool = False) -> None:
        super().__init__("cupy")
        self.calls: list[tuple] = []
        self.broken = broken
        compiler = SimpleNamespace(CompileException=CompileError)
        stream = SimpleNamespace(from_external=self._stream)
        self.cuda = SimpleNamespace(compiler=compiler, Stream=stream, Device=self._device)
        self.linalg = SimpleNamespace(eigh=self._eigh)
        self.from_dlpack = torch.from_dlpack
        self.__version__ = "14.0.0"

    def _eigh(self, a, *, UPLO):
        self.calls.append(("eigh", UPLO))
        return tuple(torch.linalg.eigh(a, UPLO=UPLO))

    def RawModule(self, *, code, options, backend):
        self.calls.append(("compile", options, backend))
        self.code = code
        return SimpleNamespace(get_function=self._function)

    def _function(self, name):
        if self.broken:
            raise CompileError("eigh.cu(3): error: expected a ;")
        return FakeKernel(name, self.calls)

    @contextmanager
    def _device(self, index):
        self.calls.append(("device", index))
        yield
        self.calls.append(("device left", index))

    @contextmanager
    def _stream(self, stream):
        self.calls.append(("stream", *stream.__cuda_stream__()))
        yield


class FakeKernel:
    """As CuPy's RawKernel."""

    def __init__(self, name, calls):
        object.__setattr__(self, "_name", name)
        object.__setattr__(self, "_calls", calls)

    def __setattr__(self, attribute, value):
        self._calls.append((attribute, value))

    def __call__(self, grid, block, args, *, shared_mem):
        self._calls.append(("launch", self._name, grid, block, args, shared_mem))


@pytest.fixture
def find_anew():
    """What was found of CuPy and hessx._cuda is forgotten, before the test and after it."""
    found = (nvrtc.find_cupy, backends._compiled_cuda, backends._cupy_kernels)
    for cached in found:
        cached.cache_clear()
    yield
    for cached in found:
        cached.cache_clear()


@pytest.fixture
def cupy(monkeypatch, find_anew):
    fake = FakeCupy()
    monkeypatch.setitem(sys.modules, "cupy", fake)
    return fake


@pytest.fixture(params=["old", "broken", "absent"])
def unusable_cupy(request, monkeypatch, cupy):
    """The reason why hessx cannot use this CuPy."""
    if request.param == "old":
        cupy.cuda.Stream = SimpleNamespace()
        cupy.__version__ = "13.6.0"
        return r"CuPy 14 or later is needed, found 13\.6\.0"
    if request.param == "absent":
        monkeypatch.setitem(sys.modules, "cupy", None)
        return "cannot be imported: import of cupy halted"

    def import_module(name):
        raise AttributeError(f"{name} does not fit numpy")

    monkeypatch.setattr(nvrtc.importlib, "import_module", import_module)
    return "cannot be imported: cupy does not fit numpy"


def test_a_launch(cupy):
    kernels = nvrtc.CupyKernels()
    getattr(kernels, KERNEL)(5, 128, 0, 1, 0xBEEF, *range(12))
    compiled, launched = cupy.calls[2], cupy.calls[3]
    assert cupy.calls[:2] == [("device", 1), ("stream", 0, 0xBEEF)]
    assert compiled == ("compile", nvrtc.options(), "nvrtc")
    assert launched == ("launch", KERNEL, (5,), (128,), tuple(range(12)), 0)
    assert tuple(type(value) for value in launched[4]) == TYPES
    assert cupy.calls[4:] == [("device left", 1)]
    assert cupy.code == (nvrtc.source_folder() / "trust_region.cu").read_text()


def test_a_kernel_is_compiled_once(cupy):
    kernels = nvrtc.CupyKernels()
    for _ in range(2):
        getattr(kernels, KERNEL)(1, 32, 0, 0, 0, *range(12))
    assert [call[0] for call in cupy.calls].count("compile") == 1


def test_large_shared_memory_is_asked_for(cupy):
    kernels = nvrtc.CupyKernels()
    for shared in (48 * 1024, 100_000):
        getattr(kernels, KERNEL)(1, 32, shared, 0, 0, *range(12))
    asked = [call for call in cupy.calls if call[0] == "max_dynamic_shared_size_bytes"]
    assert asked == [("max_dynamic_shared_size_bytes", 100_000)]
    assert [call[-1] for call in cupy.calls if call[0] == "launch"] == [49152, 100_000]


def test_an_op_launches_through_it(cupy, monkeypatch):
    monkeypatch.setattr(nvrtc.CupyKernels, "device", "cpu")
    with providers.use(nvrtc.CupyKernels()), hessx.backend("cuda"):
        e = torch.ones(3, 4)
        step, _ = hessx.ops.trust_region(e, e, 1.0)
    (launched,) = [call for call in cupy.calls if call[0] == "launch"]
    assert launched[4][0] == e.data_ptr()
    assert launched[4][-2] == step.data_ptr()


def test_errors(cupy):
    kernels = nvrtc.CupyKernels()
    with pytest.raises(AttributeError, match="there is no CUDA kernel 'hessx_sort_float'"):
        kernels.hessx_sort_float  # noqa: B018
    with pytest.raises(TypeError, match=f"{KERNEL} takes 12 arguments, got 11"):
        getattr(kernels, KERNEL)(1, 32, 0, 0, 0, *range(11))
    cupy.broken = True
    with pytest.raises(RuntimeError, match=r"CuPy could not compile trust_region\.cu .*a ;"):
        getattr(kernels, KERNEL)(1, 32, 0, 0, 0, *range(12))


@pytest.mark.parametrize(
    ("version", "package"),
    [("12.8", "cupy-cuda12x>=14"), ("13.0", "cupy-cuda13x>=14"), (None, "cupy-cuda13x>=14")],
)
def test_a_compiler_that_cannot_be_loaded(cupy, monkeypatch, version, package):
    """The message names the package that comes with the CUDA version of torch."""

    def refuse(**_):
        raise OSError("libnvrtc.so.13: cannot open shared object file")

    monkeypatch.setattr(cupy, "RawModule", refuse)
    monkeypatch.setattr(torch.version, "cuda", version)
    with pytest.raises(RuntimeError, match=rf"could not compile .* {package}\): libnvrtc"):
        getattr(nvrtc.CupyKernels(), KERNEL)(1, 32, 0, 0, 0, *range(12))


def test_all_launches_share_a_lock(cupy, monkeypatch):
    """Two threads in their first call may each make a CupyKernels."""
    held = []
    monkeypatch.setattr(FakeKernel, "__call__", lambda *_, **__: held.append(nvrtc._LOCK.locked()))
    for _ in range(2):
        getattr(nvrtc.CupyKernels(), KERNEL)(1, 32, 0, 0, 0, *range(12))
    assert held == [True, True]
    assert not nvrtc._LOCK.locked()


def test_an_unusable_cupy_is_refused(unusable_cupy):
    with pytest.raises(ImportError, match=unusable_cupy):
        nvrtc.CupyKernels()


class OnGpu(torch.Tensor):
    """CPU data that says it is on a GPU."""

    is_cuda = True


@pytest.fixture
def large(monkeypatch) -> torch.Tensor:
    """Two matrices of 65 rows, as on the second of several GPUs, on stream 0xBEEF."""
    monkeypatch.setattr(OnGpu, "get_device", lambda _: 1)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _: SimpleNamespace(cuda_stream=0xBEEF))
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(2, 65, 65, dtype=torch.float64, generator=generator)
    return (a + a.mT).as_subclass(OnGpu)


def assert_decomposes(values, vectors, a):
    a, values, vectors = (x.as_subclass(torch.Tensor) for x in (a, values, vectors))
    torch.testing.assert_close(vectors @ (values[:, :, None] * vectors.mT), a)


def test_batches_of_large_matrices_go_to_cupy(cupy, large):
    assert_decomposes(*eigh_cuda.eigh(large), large)
    assert cupy.calls == [
        ("device", 1),
        ("stream", 0, 0xBEEF),
        ("eigh", "L"),
        ("device left", 1),
    ]


def test_batches_of_large_matrices_go_to_torch_without_a_usable_cupy(unusable_cupy, large):
    assert_decomposes(*eigh_cuda.eigh(large), large)


def test_types_of_arguments():
    header = "const float* a, int64_t n, float x, double y, int m, void *p"
    named = dict(nvrtc._named_type(declaration) for declaration in header.split(","))
    assert named == {
        "a": np.uint64,
        "n": np.int64,
        "x": np.float32,
        "y": np.float64,
        "m": np.int32,
        "p": np.uint64,
    }


def test_a_changed_header_is_compiled_anew(tmp_path, monkeypatch):
    """CuPy's cache does not look into includes, so the options must tell."""
    (tmp_path / "eigh.cu").write_text('#include "eigh.h"')
    (tmp_path / "eigh.h").write_text("1")
    monkeypatch.setattr(nvrtc, "source_folder", lambda: tmp_path)
    before = nvrtc.options()
    assert nvrtc.options() == before
    (tmp_path / "eigh.h").write_text("2")
    assert nvrtc.options() != before
    assert f"-I{tmp_path}" in before


def test_sources_in_the_package_come_first(tmp_path, monkeypatch):
    monkeypatch.setattr(nvrtc, "__file__", str(tmp_path / "hessx" / "nvrtc.py"))
    for folder in (tmp_path / "csrc", tmp_path / "hessx" / "_csrc"):
        folder.mkdir(parents=True)
        (folder / "cuda_kernels.h").touch()
        assert nvrtc.source_folder() == folder


@pytest.fixture
def not_built(monkeypatch, find_anew):
    """A place without hessx._cuda."""
    monkeypatch.setitem(sys.modules, "hessx._cuda", None)


def test_without_sources_the_reason_says_so(not_built, cupy, tmp_path, monkeypatch):
    monkeypatch.setattr(nvrtc, "__file__", str(tmp_path / "hessx" / "nvrtc.py"))
    assert "the CUDA sources of hessx are neither in" in hessx.info().backends["cuda"]


def test_it_serves_where_the_module_was_not_built(not_built, cupy):
    assert isinstance(backends.cuda(), nvrtc.CupyKernels)
    assert "compiled by CuPy when first used" in hessx.info().backends["cuda"]


def test_without_either_the_reason_names_both(not_built, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    reason = backends.missing("cuda")
    assert "hessx._cuda cannot be imported (it is built with HESSX_BUILD_CUDA=1)" in reason
    assert "CuPy, which compiles its kernels at run time, cannot be imported" in reason
