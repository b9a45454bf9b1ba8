"""The tests that need a GPU, run on the CPU: a mistake of their own would show only there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from hessx.ops import table
from tests.gpu.device.calls import CALLS

ROOT = Path(__file__).parents[2]


def test_they_call_every_op_with_a_kernel_for_gpus():
    kernels = {"triton", "cuda"}
    assert set(CALLS) == {op.name for op in table.OPS if kernels & set(table.implemented(op))}


@pytest.mark.slow
def test_they_pass_on_the_cpu():
    run = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "tests/gpu/device", "-m", "gpu", "-q"),
            *("-p", "no:cacheprovider", "--color=no"),
        ],
        cwd=ROOT,
        env=os.environ | {"HESSX_TEST_DEVICE": "cpu"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert int(re.search(r"(\d+) passed", run.stdout).group(1)) > 6 * len(CALLS)
