"""Processes on machines where what a GPU needs is missing: no Triton, compiler, driver or CuPy."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys

import pytest
import torch

# One process answers everything, because it takes seconds to start.
BARE = """
import json, sys, warnings

ABSENT = {"triton", "cupy", "hessx._native", "hessx._cuda"}

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name in ABSENT:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

import torch  # torch looks for triton itself, and may keep it
for name in [name for name in sys.modules if name.partition(".")[0] == "triton"]:
    del sys.modules[name]
sys.meta_path.insert(0, Hidden())
import importlib.util
find_spec = importlib.util.find_spec
importlib.util.find_spec = lambda name: None if name in ABSENT else find_spec(name)

import hessx
report = {}
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    x = hessx.ops.normal(4, 3, seed=0)
    step, _ = hessx.ops.trust_region(x, x, 1.0)
    hessx.warmup([(2, 3, 4)])
report["lengths"] = step.norm(dim=1).tolist()
report["warnings"] = [str(warning.message) for warning in caught]
report["info"] = dict(hessx.info().backends)
report["versions"] = dict(hessx.info().versions)
report["forced"] = {}
for name in ("native", "triton", "cuda"):
    try:
        with hessx.backend(name):
            report["forced"][name] = "no error"
    except RuntimeError as error:
        report["forced"][name] = str(error)
print(json.dumps(report))
"""


def run(code: str):
    """Run code without compilers and GPUs in reach, and give what it prints as JSON."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("HESSX_", "TRITON_"))}
    clean |= {"PATH": "/nonexistent", "CUDA_VISIBLE_DEVICES": "", "CXX": "/nonexistent"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=clean,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_nothing_but_torch():
    """Everything runs in plain torch, one warning says so, and forcing what is missing says why."""
    report = run(BARE)
    assert all(0 < length < 1 + 1e-6 for length in report["lengths"])
    (message,) = report["warnings"]
    assert message.startswith("hessx runs without its native kernels: ")
    assert report["info"]["reference"] == "plain torch, any device"
    for name in ("native", "triton", "cuda"):
        assert report["info"][name].startswith("missing: ")
        assert report["forced"][name].startswith(f"backend '{name}' is missing: ")
    assert "No module named 'hessx._native'" in report["forced"]["native"]
    assert "the package triton is not installed" in report["forced"]["triton"]
    assert "HESSX_BUILD_CUDA=1" in report["forced"]["cuda"]
    assert "No module named 'cupy'" in report["forced"]["cuda"]


@pytest.mark.skipif(
    importlib.util.find_spec("hessx._cuda") is None, reason="built without HESSX_BUILD_CUDA=1"
)
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_compiled_kernels_without_a_driver():
    """The module can be imported; a launch says what is missing."""
    from hessx import _cuda, nvrtc

    assert _cuda.device == "cuda"
    for kernel, arguments in nvrtc.signatures().items():
        # 35: no driver, or an older one than the module; 100: a driver and no GPU.
        with pytest.raises(RuntimeError, match=rf"^{kernel}: .* \(CUDA error (35|100)\)$"):
            getattr(_cuda, kernel)(1, 32, 0, 0, 0, *[0] * len(arguments))
