"""The project's GPU kernels executed: what Triton and nvcc emit for sm_80, run on CPU tensors.

The cases are those of tests/gpu/checks: odd, masked and strided shapes against float64 references,
uniform numbers to the bit.
"""

from __future__ import annotations

import os
import re
from importlib import import_module

import pytest
import torch

pytest.importorskip("triton")

from hessx.ops.moments import triton as moments
from tests.gpu import providers
from tests.gpu.compiled.sources import CSRC, has_nvcc
from tests.gpu.offline import compiled_launches
from tests.gpu.ptx import triton_launches
from tests.gpu.ptx.cuda_provider import PtxProvider, ptx_of, ptx_provider
from tests.gpu.ptx.errors import (
    DataRaceError,
    LaunchError,
    OutOfBoundsError,
    PendingCopyError,
    UnsupportedError,
)
from tests.gpu.ptx.kernel import load
from tests.gpu.ptx.triton_launches import executed_launches

TRITON_OPS = ["noise", "moments", "softmax", "shrink", "prox", "grid", "grid_noise", "edges"]
TRITON_OPS += ["boxes"]
CUDA_OPS = ["eigh", "trust_region"]
CASES = {op: import_module(f"tests.gpu.checks.{op}").CASES for op in (*TRITON_OPS, *CUDA_OPS)}

# One of each kernel and type, masked; make test-all runs the rest.
FAST = {
    "noise": (
        *("uniform-key2-33x130-float32", "uniform-key3-33x130-float64"),
        *("normal-key2-3x257-float32", "normal-key4-33x130-float64", "normal-bfloat16"),
    ),
    "moments": ("cross-float32-weighted", "cross-bfloat16", "core-float64", "normal-float32"),
    "softmax": ("17-float32", "likeliest-1024-float64", "strided"),
    "shrink": ("threshold-3x5-float32", "step-2x3x5-float32", "blocks-1x1x48"),
    "prox": ("size-17x9", "ties"),
    "grid": (
        *("difference-5x9-float32", "difference_adjoint-5x9-float64", "laplacian-5x9-float32"),
        *("curl-5x9-float64", "curl_adjoint-5x9-float32", "laplacian-not-finite"),
    ),
    "grid_noise": ("2x2-float32", "6x5-float64", "bfloat16"),
    "edges": ("6x5-float32", "4x17-float64", "in-place-2x2", "squares-in-order"),
    "boxes": ("sums-4x6-3-1-4-float32", "adjoint-5x9-2-5-float64", "adjoint-4x6-3-1-4-float32"),
    "eigh": (
        *("eigh-1-float64", "eigh-2-float32", "eigh-8-float32", "eigh-8-float64", "eigh-empty"),
        *("eigh-5-float32-strided", "eigh-6-float64-strided", "eigh-easy-float64"),
    ),
    "trust_region": (
        *("random-float32", "hard-float32", "nearly-hard-float64", "interior-float64"),
        *("huge-float32", "tiny-float64", "size-5x33-float32", "size-1x1-float64", "strided"),
    ),
}


@pytest.fixture(autouse=True)
def fresh_memory_is_nan():
    if os.environ.get("TRITON_INTERPRET") == "1":
        pytest.skip("TRITON_INTERPRET=1: this process interprets its kernels")
    # An output that a kernel leaves out is seen.
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def _parameters(ops: list[str]) -> list:
    for op in ops:
        unknown = set(FAST[op]) - set(CASES[op])
        assert not unknown, f"tests/gpu/checks/{op}.py has no cases {unknown}"
    return [
        pytest.param(
            op, name, marks=() if name in FAST[op] else pytest.mark.slow, id=f"{op}-{name}"
        )
        for op in ops
        for name in CASES[op]
    ]


@pytest.mark.parametrize(("op", "name"), _parameters(TRITON_OPS))
def test_triton(op, name):
    with executed_launches():
        CASES[op][name]()


needs_nvcc = pytest.mark.skipif(
    not has_nvcc(), reason="CUDA's compiler nvcc, which makes the PTX, is not on the path"
)


@needs_nvcc
@pytest.mark.parametrize(("op", "name"), _parameters(CUDA_OPS))
def test_cuda(op, name):
    with providers.use(ptx_provider()):
        CASES[op][name]()


def _planted(text: str, pattern: str, replacement: str, number: int = 0) -> str:
    """PTX with one match of a pattern replaced."""
    match = list(re.finditer(pattern, text))[number]
    return text[: match.start()] + match.expand(replacement) + text[match.end() :]


def _small_moments() -> None:
    u = torch.ones(1, 40, 5)
    moments.cross_moments(u, u[..., :3], torch.ones(40))


@pytest.mark.parametrize(
    ("pattern", "replacement", "error"),
    [
        (r"bar\.sync\s+0;", "", DataRaceError),
        (r"cp\.async\.wait_group\s+\d+;", "", PendingCopyError),
        (r"cp\.async\.commit_group;", "", PendingCopyError),
        (r"@%p\d+ st\.global", "st.global", OutOfBoundsError),
        # Copies all it could where the mask says to copy nothing.
        (r"(cp\.async\.c.\.shared\.global .*, )(0x\w+), %r\d+;", r"\1\2;", OutOfBoundsError),
        (r"and\.b32", "frob.b32", UnsupportedError),
    ],
)
def test_mistakes_in_what_triton_emits_are_caught(monkeypatch, pattern, replacement, error):
    with executed_launches():
        _small_moments()
        monkeypatch.setattr(
            triton_launches,
            "load",
            lambda text, name: load(re.sub(pattern, replacement, text), name),
        )
        with pytest.raises(error):
            _small_moments()


def test_wrong_assumptions_are_caught():
    u = torch.ones(4 * 16 * 16 + 1)
    aligned, moved = u[:-1].view(4, 16, 16)[:1], u[1:].view(4, 16, 16)[:1]
    with compiled_launches(80) as kernels:
        moments.cross_moments(aligned, aligned)
    kernel = kernels[0]
    signature = kernel.src.signature
    arguments = dict.fromkeys(signature, 16) | dict.fromkeys(("u", "v"), aligned)
    constants = {list(signature)[at[0]]: value for at, value in kernel.src.constants.items()}
    with pytest.raises(LaunchError, match="takes u for a multiple of 16"):
        triton_launches.execute(kernel, arguments | constants | {"u": moved}, (1,))
    with pytest.raises(LaunchError, match="stride_u_k = 1"):
        triton_launches.execute(kernel, arguments | constants | {"stride_u_k": 2}, (1,))


@needs_nvcc
def test_mistakes_in_what_nvcc_emits_are_caught():
    name = "hessx_eigh_float"
    text = ptx_of(CSRC / "eigh.cu")
    body = text[text.index(f".entry {name}(") :]
    body = body[: body.index("\n}")]
    barrier = r"bar\.sync\s+0;"
    barriers = len(re.findall(barrier, body))
    assert barriers > 1
    for number in range(barriers):
        wrong = text.replace(body, _planted(body, barrier, "", number))
        with (
            providers.use(PtxProvider({name: load(wrong, name)})),
            pytest.raises(DataRaceError),
        ):
            CASES["eigh"]["eigh-5-float32-strided"]()


@needs_nvcc
def test_other_memory_is_out_of_bounds_for_cuda_kernels():
    """The kernel gets strides that lead into the gaps of a strided batch."""
    matrices = torch.eye(3).repeat(2, 1, 1)
    values, vectors = torch.empty(2, 3), torch.empty(2, 3, 3)
    with providers.use(ptx_provider()):
        kernel = ptx_provider().hessx_eigh_float

        def launch(a: torch.Tensor, batch_stride: int) -> None:
            outputs = values.data_ptr(), vectors.data_ptr()
            shared = 4096
            kernel(2, 32, shared, 0, 0, a.data_ptr(), batch_stride, 3, 1, 3, *outputs)

        launch(matrices, 9)
        assert torch.equal(values, torch.ones(2, 3))
        with pytest.raises(OutOfBoundsError):
            launch(matrices, 10)
        with pytest.raises(OutOfBoundsError):
            launch(matrices[::2], 9)
