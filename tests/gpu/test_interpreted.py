"""The tests under tests/gpu/interpreted, in a process in which Triton interprets its kernels."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("chosen", ["not slow", pytest.param("slow", marks=pytest.mark.slow)])
def test_interpreted_kernels(chosen):
    pytest.importorskip("triton")
    # Triton decides when it is imported, so this process cannot turn the interpreter on. The
    # options of the project keep these tests out of other runs; here they are put aside.
    command = [sys.executable, "-m", "pytest", "tests/gpu/interpreted", "--import-mode=importlib"]
    options = [
        "-q",
        "--color=no",
        "-p",
        "no:cacheprovider",
        "-o",
        "addopts=",
        "-o",
        "norecursedirs=",
        "-m",
        chosen,
    ]
    run = subprocess.run(
        [*command, *options],
        cwd=ROOT,
        env={**os.environ, "TRITON_INTERPRET": "1", "HESSX_BACKEND": "triton"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stdout + run.stderr
