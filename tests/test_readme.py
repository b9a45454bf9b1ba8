"""The README's examples: the code that is there, and what it prints."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize(
    ("index", "name", "lines"),
    [(0, "interactions.py", 4), (1, "caso.py", 5), (2, "black_box.py", 12), (3, "scores.py", 5)],
)
def test_an_example_is_the_one_in_the_folder_and_prints_what_it_says(index, name, lines):
    blocks = re.findall(r"```(\w*)\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    at = [place for place, (language, _) in enumerate(blocks) if language == "python"][index]
    code, output = blocks[at][1], blocks[at + 1][1]
    assert code.strip() in (ROOT / "examples" / name).read_text()
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert run.returncode == 0, run.stderr
    shown, printed = output.strip().splitlines(), run.stdout.strip().splitlines()
    assert len(shown) == len(printed) == lines
    number = r"[-+]?\d*\.\d+"
    for a, b in zip(shown, printed, strict=True):
        assert re.sub(number, "#", a) == re.sub(number, "#", b)
        # Training in float32 ends in other last digits on another machine or thread count.
        for x, y in zip(re.findall(number, a), re.findall(number, b), strict=True):
            last_digit = 10.0 ** -len(x.partition(".")[2])
            assert abs(float(x) - float(y)) <= 0.02 + 1.01 * last_digit
