"""hessx.info(), and imports on machines where something is missing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import torch

import hessx
from hessx import backends

# Makes a package look absent to a fresh interpreter.
HIDE = """
import sys
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name == {name!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Hidden())
"""


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
    assert "missing: this version has no CUDA C++ kernels" in info.backends["cuda"]
    text = str(info)
    assert all(name in text for name in (*info.versions, *info.backends))


def test_info_says_which_level_and_how_many_threads():
    torch.set_num_threads(2)
    with hessx.backend("native", level=backends.levels()[0]):
        assert f"level {backends.levels()[0]} of" in hessx.info().backends["native"]
        assert "2 threads" in hessx.info().backends["native"]


def test_info_reports_a_backend_that_cannot_be_forced():
    output = run("import hessx; print(hessx.info())", HESSX_BACKEND="cuda")
    assert "undecided (backend 'cuda' is missing" in output


def test_import_loads_neither_triton_nor_the_compiled_module():
    output = run(
        "import sys, hessx; print([m for m in ('triton', 'hessx._native') if m in sys.modules])"
    )
    assert output.strip() == "[]"


def test_without_the_compiled_module():
    """Import and results are there, one warning says what is missing, forcing it is an error."""
    output = run(
        HIDE.format(name="hessx._native")
        + """
import warnings, hessx
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    for seed in range(3):
        hessx.ops.normal(2, 2, seed=seed)
print(len(caught), caught[0].message)
print(hessx.info().backends["native"])
try:
    with hessx.backend("native"):
        pass
except RuntimeError as error:
    print("forced:", error)
"""
    )
    assert "1 hessx runs without its native kernels: the compiled module" in output
    assert "missing: the compiled module hessx._native cannot be imported" in output
    assert "forced: backend 'native' is missing: the compiled module" in output


def test_without_triton():
    output = run(
        HIDE.format(name="triton")
        + """
import importlib.util
find_spec = importlib.util.find_spec
importlib.util.find_spec = lambda name: None if name == "triton" else find_spec(name)
import hessx
print(hessx.info().backends["triton"], hessx.ops.uniform(1, 1, seed=0).shape)
"""
    )
    assert "missing: the package triton is not installed torch.Size([1, 1])" in output


def test_without_a_gpu():
    output = run("import hessx; print(hessx.info().backends['triton'])", CUDA_VISIBLE_DEVICES="")
    assert "missing: " in output


def test_triton_serves_cpu_tensors_where_it_is_interpreted():
    output = run(
        "import hessx, torch\n"
        "print(hessx.ops.uniform(1, 4, seed=0, dtype=torch.float64)[0, 0].item() * 2**32)",
        TRITON_INTERPRET="1",
        HESSX_BACKEND="triton",
    )
    assert float(output) == 0x6627E8D5
