"""hessx.info(), and what importing hessx loads."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import hessx
from hessx import backends


def run(code: str, **environment: str) -> str:
    """Run code in a fresh interpreter and give what it prints."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("HESSX_", "TRITON_"))}
    result = subprocess.run(
        [sys.executable, "-c", code],
        env=clean | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout + result.stderr


def test_the_version_is_stated_alike():
    pyproject = (Path(__file__).parent.parent / "pyproject.toml").read_text()
    assert f'\nversion = "{hessx.__version__}"\n' in pyproject


def test_info_names_versions_and_backends():
    info = hessx.info()
    assert info.versions["torch"] == torch.__version__
    assert set(info.backends) == set(backends.BACKENDS)
    text = str(info)
    assert all(name in text for name in (*info.versions, *info.backends))


@pytest.mark.parametrize(
    ("kernels", "said"),
    [
        (
            SimpleNamespace(device="cuda", architectures=(80, 90)),
            "CUDA C++, CUDA tensors, compiled for sm_80, sm_90",
        ),
        (
            SimpleNamespace(device="cuda"),
            "CUDA C++, CUDA tensors, compiled by CuPy when first used",
        ),
    ],
)
def test_info_says_where_cuda_kernels_come_from(monkeypatch, kernels, said):
    """Also where there is no GPU, which is then the reason."""
    monkeypatch.setattr(backends, "_cuda", lambda: (kernels, None))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert hessx.info().backends["cuda"] == f"missing: torch finds no GPU; {said}"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert hessx.info().backends["cuda"] == said


def test_info_says_why_there_are_no_cuda_kernels(monkeypatch):
    monkeypatch.setattr(backends, "_cuda", lambda: (None, "not built; no CuPy"))
    assert hessx.info().backends["cuda"] == "missing: not built; no CuPy"


def test_info_says_which_level_and_how_many_threads():
    torch.set_num_threads(2)
    with hessx.backend("native", level=backends.levels()[0]):
        assert f"level {backends.levels()[0]} of" in hessx.info().backends["native"]
        assert "2 threads" in hessx.info().backends["native"]


def test_info_reports_a_backend_that_cannot_be_forced():
    output = run("import hessx; print(hessx.info())", HESSX_BACKEND="cuda")
    assert "undecided (backend 'cuda' is missing" in output


def test_import_loads_nothing_optional_and_no_compiled_module():
    output = run(
        "import sys, hessx\n"
        "optional = ('triton', 'cupy', 'hessx._native', 'hessx._cuda')\n"
        "print([m for m in optional if m in sys.modules])"
    )
    assert output.strip() == "[]"


def test_triton_serves_cpu_tensors_where_it_is_interpreted():
    output = run(
        "import hessx, torch\n"
        "print(hessx.ops.uniform(1, 4, seed=0, dtype=torch.float64)[0, 0].item() * 2**32)",
        TRITON_INTERPRET="1",
        HESSX_BACKEND="triton",
    )
    assert float(output) == 0x6627E8D5
