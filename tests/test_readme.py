"""The README's example: the code that is there, and what it prints."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_the_example_is_the_one_in_the_folder_and_prints_what_it_says():
    blocks = re.findall(r"```(\w*)\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    at = [language for language, _ in blocks].index("python")
    code, output = blocks[at][1], blocks[at + 1][1]
    example = (ROOT / "examples" / "interactions.py").read_text()
    assert code.strip() in example
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert run.returncode == 0, run.stderr
    shown, printed = output.strip().splitlines(), run.stdout.strip().splitlines()
    assert len(shown) == len(printed) == 4
    number = r"[-+]?\d*\.\d+"
    for a, b in zip(shown, printed, strict=True):
        assert re.sub(number, "#", a) == re.sub(number, "#", b)
        # Training in float32 ends in other last digits on another machine or thread count.
        for x, y in zip(re.findall(number, a), re.findall(number, b), strict=True):
            assert abs(float(x) - float(y)) <= 0.03
