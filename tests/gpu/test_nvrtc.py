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
        self.__version__ = "14.0.0"

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
def cupy(monkeypatch):
    fake = FakeCupy()
    monkeypatch.setitem(sys.modules, "cupy", fake)
    return fake


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
    with pytest.raises(RuntimeError, match=r"CuPy could not compile trust_region\.cu: eigh\.cu"):
        getattr(kernels, KERNEL)(1, 32, 0, 0, 0, *range(12))


def test_an_old_cupy_is_refused(cupy):
    cupy.cuda.Stream = SimpleNamespace()
    with pytest.raises(ImportError, match=r"CuPy 14 or later is needed, found 14\.0\.0"):
        nvrtc.CupyKernels()


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
    assert nvrtc.source_folder() == tmp_path / "csrc"
    (tmp_path / "hessx" / "_csrc").mkdir(parents=True)
    assert nvrtc.source_folder() == tmp_path / "hessx" / "_csrc"


@pytest.fixture
def not_built(monkeypatch):
    """A place without hessx._cuda, whose search for kernels starts anew."""
    monkeypatch.setitem(sys.modules, "hessx._cuda", None)
    found = (backends._compiled_cuda, backends._cupy_kernels)
    for cached in found:
        cached.cache_clear()
    yield
    for cached in found:
        cached.cache_clear()


def test_it_serves_where_the_module_was_not_built(not_built, cupy):
    assert isinstance(backends.cuda(), nvrtc.CupyKernels)
    assert "compiled by CuPy when first used" in hessx.info().backends["cuda"]


def test_without_either_the_reason_names_both(not_built, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    reason = backends.missing("cuda")
    assert "hessx._cuda cannot be imported (it is built with HESSX_BUILD_CUDA=1)" in reason
    assert "CuPy, which compiles its kernels at run time, cannot be imported" in reason
