"""Which kernels serve CUDA tensors, and the ops on CUDA tensors without data."""

from __future__ import annotations

import itertools
import warnings
from types import SimpleNamespace

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

import hessx
from hessx import backends
from hessx.ops import table
from tests.ops.test_table import sample_arguments

STREAMING = ("reference", "native", "triton")
IRREGULAR = ("reference", "native", "cuda")


@pytest.fixture
def present(monkeypatch):
    """Pretend that these are there: triton, cuda (kernels of CUDA C++) and gpu."""
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)

    def pretend(*parts: str) -> None:
        kernels = SimpleNamespace(device="cuda") if "cuda" in parts else None
        monkeypatch.setattr(backends, "_triton_installed", lambda: "triton" in parts)
        monkeypatch.setattr(backends, "_cuda", lambda: (kernels, None if kernels else "not built"))
        monkeypatch.setattr(torch.cuda, "is_available", lambda: "gpu" in parts)
        backends._warn_once.cache_clear()

    yield pretend
    backends._warn_once.cache_clear()


def chosen(device: str, implemented: tuple[str, ...]) -> tuple[str, list[str]]:
    """The automatic backend, and the warnings on the way."""
    with warnings.catch_warnings(record=True) as caught, hessx.backend("auto"):
        warnings.simplefilter("always")
        name = backends.choose(device, implemented)
        assert backends.choose(device, implemented) == name
    return name, [str(warning.message) for warning in caught]


@pytest.mark.parametrize(
    "parts",
    [parts for n in range(4) for parts in itertools.combinations(("triton", "cuda", "gpu"), n)],
    ids="-".join,
)
def test_automatic_choice(present, parts):
    """What streams goes to Triton, what is irregular to CUDA C++; one warning says what is not."""
    present(*parts)
    for implemented, kernels in ((STREAMING, "triton"), (IRREGULAR, "cuda")):
        name, caught = chosen("cuda", implemented)
        if kernels in parts and "gpu" in parts:
            assert (name, caught) == (kernels, [])
        else:
            assert name == "reference"
            (message,) = caught
            assert message.startswith(f"hessx runs without its {kernels} kernels: ")
        assert chosen("cpu", implemented) == ("native", [])
        assert chosen("xpu", implemented) == ("reference", [])


def test_reasons(present):
    present("triton", "cuda")
    assert backends.missing("cuda") == "torch finds no GPU"
    assert "torch finds no GPU" in backends.missing("triton")
    present("gpu")
    assert backends.missing("cuda") == "not built"
    assert backends.missing("triton") == "the package triton is not installed"
    present("triton", "cuda", "gpu")
    assert backends.missing("cuda") is backends.missing("triton") is None
    assert backends.missing("cuda", "cpu") == "it serves cuda tensors only"


def test_forced_backends(present):
    """Forced where the op has it; the automatic one where no installation has it."""
    present("triton", "cuda", "gpu")
    expected = {
        "auto": ("triton", "cuda"),
        "triton": ("triton", "cuda"),
        "cuda": ("triton", "cuda"),
        "reference": ("reference", "reference"),
    }
    for name, choices in expected.items():
        with hessx.backend(name):
            got = tuple(backends.choose("cuda", ops) for ops in (STREAMING, IRREGULAR))
        assert got == choices, name


def test_forced_backends_never_hide_what_is_missing(present):
    present("cuda", "gpu")
    with pytest.raises(RuntimeError, match="triton is not installed"), hessx.backend("triton"):
        pass
    with hessx.backend("cuda"):
        with pytest.raises(RuntimeError, match="forced for a cpu tensor, but it serves cuda"):
            backends.choose("cpu", IRREGULAR)
        # An op that is never written in CUDA C++ takes its automatic backend on the CPU too.
        assert backends.choose("cpu", STREAMING) == "native"
    with (
        hessx.backend("native"),
        pytest.raises(RuntimeError, match="forced for a cuda tensor, but it serves cpu"),
    ):
        backends.choose("cuda", STREAMING)


def test_an_op_implements_what_its_folder_holds():
    by_name = {op.name: table.implemented(op) for op in table.OPS}
    assert by_name["normal"] == STREAMING
    assert by_name["trust_region"] == IRREGULAR
    assert all({"reference", "native"} <= set(names) for names in by_name.values())
    # Every op has kernels for GPUs, but for the network simplex, which runs on the CPU.
    without = {name for name, names in by_name.items() if not {"triton", "cuda"} & set(names)}
    assert without == {"tv_flow"}


@pytest.mark.parametrize(
    ("capabilities", "served"),
    [
        ([(8, 0)], True),
        ([(8, 9), (9, 0)], True),
        ([(12, 1)], True),
        ([(13, 0)], True),
        ([(7, 5)], False),
        ([(9, 0), (7, 5)], False),
        ([(11, 0)], False),
    ],
)
def test_gpus_without_compiled_code_are_left_to_cupy(monkeypatch, capabilities, served):
    """Machine code runs within a major version from its minor one on, PTX of the last on later."""
    built, cupy = SimpleNamespace(architectures=(80, 90, 100, 120)), SimpleNamespace()
    built.device = cupy.device = "cuda"
    monkeypatch.setattr(backends, "_compiled_cuda", lambda: (built, None))
    monkeypatch.setattr(backends, "_cupy_kernels", lambda: (cupy, None))
    monkeypatch.setattr(backends, "_capabilities", lambda: tuple(capabilities))
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    assert backends.cuda() is built, "torch has not started CUDA"
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    assert backends.cuda() is (built if served else cupy)
    assert ("not for compute capability" in hessx.info().backends["cuda"]) is not served
    monkeypatch.setattr(backends, "_cupy_kernels", lambda: (None, "no CuPy"))
    if not served:
        with pytest.raises(RuntimeError, match=r"not for compute capability .*; no CuPy"):
            backends.cuda()


def on_cuda(arguments, mode):
    """The same arguments as CUDA tensors without data."""
    with mode:
        return [
            torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device="cuda")
            if isinstance(x, torch.Tensor)
            else x
            for x in arguments
        ]


@pytest.mark.parametrize("op", table.OPS, ids=lambda op: op.name)
def test_shapes_dtypes_and_devices(op):
    def call(*arguments):
        found = getattr(torch.ops.hessx, op.name)(*arguments)
        return (found,) if isinstance(found, torch.Tensor) else found or ()

    for arguments in sample_arguments()[op.name]:
        expected = call(*arguments)
        mode = FakeTensorMode()
        fake = on_cuda(arguments, mode)
        with mode:
            results = call(*fake)
        assert len(results) == len(expected)
        for result, real in zip(results, expected, strict=True):
            assert result.device == torch.device("cuda", 0)
            assert (result.shape, result.dtype) == (real.shape, real.dtype)
            assert result.stride() == real.stride()


def solve_on_draws(weight: torch.Tensor) -> torch.Tensor:
    n, device = len(weight), weight.device
    draws = hessx.ops.normal(n, 6, seed=3, device=device)
    draws += hessx.ops.uniform(n, 6, seed=4, device=device)
    # A batch of one from the start: adding the dimension by an index needs a real device.
    batch = draws.unsqueeze(0)
    _, _, uv = hessx.ops.cross_moments(batch, batch, weight)
    _, _, zv = hessx.ops.normal_moments(batch, 6, seed=5, weight=weight)
    uw = hessx.ops.core_moments(batch, batch)[0]
    step, _ = hessx.ops.trust_region((uv + uw).squeeze(0), zv.squeeze(0), 1.0)
    return step


def test_traced_full_graph_on_cuda():
    compiled = torch.compile(solve_on_draws, fullgraph=True, backend="aot_eager")
    with FakeTensorMode():
        step = compiled(torch.empty(40, device="cuda"))
    assert (step.device.type, step.dtype, step.shape) == ("cuda", torch.float64, (6, 6))
