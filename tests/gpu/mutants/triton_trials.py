"""Trials of mutants of the Triton kernels: the cases of tests/gpu/checks in the interpreter.

Only for a process with TRITON_INTERPRET=1.
"""

from __future__ import annotations

import importlib
import tempfile
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from tests.gpu.mutants import python_operators
from tests.gpu.mutants.modules import ROOT, install, name_of
from tests.gpu.mutants.mutant import Mutant, apply
from tests.gpu.mutants.trials import STILLBORN, Outcome, Trial, run_cases

# Of the processor. Only cases that take a tenth of it as the files are have a part in a run.
SECONDS_A_CASE = 20


def sources() -> list[str]:
    """Files with Triton kernels, relative to the root."""
    return sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("hessx/ops/*/triton.py"))


def mutants(path: str) -> list[Mutant]:
    """All mutants of a file."""
    return python_operators.mutants(path, (ROOT / path).read_text())


def prepare() -> None:
    """Import, once for all trials, what no mutant changes."""
    import torch

    import hessx  # noqa: F401
    import tests.gpu.interpreter  # noqa: F401

    # Fills new tensors with NaN: an output that a kernel leaves out is seen.
    torch.use_deterministic_algorithms(True)


def clean_trial(path: str, cases: Sequence[str] | None = None) -> Trial:
    """Prepare the trial of a file as it is, with the cases named or with all."""
    return partial(_try, path, (ROOT / path).read_text(), cases)


def trial(mutant: Mutant, cases: Sequence[str] | None = None) -> Trial:
    """Prepare the trial of a mutant, with the cases named in their order, or with all."""
    return partial(_try, mutant.path, apply((ROOT / mutant.path).read_text(), mutant.edits), cases)


def _try(path: str, source: str, names: Sequence[str] | None) -> Outcome:
    from tests.gpu.interpreter import trustworthy_interpreter

    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder, trustworthy_interpreter():
        try:
            install(path, source, Path(folder))
            cases = {
                f"{family}:{name}": case
                for family in (_family(path), *_users(path))
                for name, case in importlib.import_module(
                    f"tests.gpu.checks.{family}"
                ).CASES.items()
            }
        except Exception as error:
            return Outcome(STILLBORN, message=str(error))
        chosen = cases if names is None else {name: cases[name] for name in names}
        return run_cases(chosen, _verdict, SECONDS_A_CASE)


def _family(path: str) -> str:
    return Path(path).parent.name


def _users(path: str) -> list[str]:
    """Families whose kernels use those of `path`."""
    module = name_of(path)
    return [
        _family(other)
        for other in sources()
        if other != path and module in (ROOT / other).read_text()
    ]


def _verdict(error: Exception) -> str:
    from tests.gpu.interpreter import DataRaceError, OutOfBoundsError

    verdicts = {OutOfBoundsError: "bounds", DataRaceError: "race", AssertionError: "value"}
    # Anything else is an error of types or shapes, which the compiler would report.
    return verdicts.get(type(error), STILLBORN)
