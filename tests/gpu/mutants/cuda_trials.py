"""Trials of mutants of the CUDA kernels and of their launch code, in the emulator."""

from __future__ import annotations

import importlib
import re
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING
from unittest import mock

from tests.gpu.mutants import cuda_operators, python_operators
from tests.gpu.mutants.modules import ROOT, install
from tests.gpu.mutants.mutant import Mutant, apply
from tests.gpu.mutants.trials import STILLBORN, Outcome, Trial, run_cases

if TYPE_CHECKING:
    from tests.gpu.emulator import build

# The slowest case takes a fifth of a second.
SECONDS_A_CASE = 6


def sources() -> list[str]:
    """CUDA sources, headers with functions of the device, and launch code."""
    kernels = sorted(ROOT.glob("csrc/*.cu"))
    headers = sorted({header for kernel in kernels for header in _included(kernel)})
    launches = sorted(ROOT.glob("hessx/ops/*/cuda.py"))
    return [str(path.relative_to(ROOT)) for path in (*kernels, *headers, *launches)]


def mutants(path: str) -> list[Mutant]:
    """All mutants of a file."""
    operators = python_operators if path.endswith(".py") else cuda_operators
    return operators.mutants(path, (ROOT / path).read_text())


@cache
def prepare() -> None:
    """Import and compile, once for all trials, what no mutant changes."""
    import torch

    import hessx  # noqa: F401
    from tests.gpu.emulator import build

    # Fills new tensors with NaN: an output that a kernel leaves out is seen.
    torch.use_deterministic_algorithms(True)
    # Files that stay as they are need not be read again for each mutant.
    build._Compilation.run = cache(build._Compilation.run)
    _build(_clean_sources())


def clean_trial(path: str, cases: Sequence[str] | None = None) -> Trial:
    """Prepare the trial of a file as it is, with the cases named or with all."""
    return partial(_try, path, (ROOT / path).read_text(), cases)


def trial(mutant: Mutant, cases: Sequence[str] | None = None) -> Trial:
    """Prepare the trial of a mutant, with the cases named in their order, or with all."""
    return partial(_try, mutant.path, apply((ROOT / mutant.path).read_text(), mutant.edits), cases)


def _try(path: str, source: str, names: Sequence[str] | None) -> Outcome:
    from tests.gpu import providers
    from tests.gpu.emulator import build
    from tests.gpu.emulator.module import EmulatedModule

    with tempfile.TemporaryDirectory() as folder:
        try:
            if path.endswith(".py"):
                install(path, source, Path(folder))
                module = _build(_clean_sources())
            else:
                with mock.patch.object(build, "CACHE", Path(folder)):
                    module = _build(_changed(path, source, Path(folder)))
            checks = [
                importlib.import_module(f"tests.gpu.checks.{name}") for name in _families(path)
            ]
        except Exception as error:
            return Outcome(STILLBORN, message=str(error))
        cases = {
            f"{check.__name__.rpartition('.')[2]}:{name}": case
            for check in checks
            for name, case in check.CASES.items()
        }
        chosen = cases if names is None else {name: cases[name] for name in names}
        with providers.use(EmulatedModule(module)):
            return run_cases(chosen, partial(_verdict, path), SECONDS_A_CASE)


# Mutants spend their time in the compiler: unoptimised, they run no slower in the emulator. A
# mistake may leave a variable unused, which is no reason not to compile it.
_OPTIONS = ["-O0", "-Wno-error"]


def _build(sources: build.Sources) -> Path:
    from tests.gpu.emulator import build

    return build.build_module(sources, _OPTIONS)


def _clean_sources() -> build.Sources:
    from tests.gpu.emulator import build

    return replace(build.project_sources(), include=(Path(_precompiled_header().name),))


@cache
def _precompiled_header() -> tempfile.TemporaryDirectory:
    """A folder with the emulator's header, which takes longer to read than the kernels."""
    from tests.gpu.emulator import build

    folder = tempfile.TemporaryDirectory()
    header = shutil.copy(build.HERE / "include" / "cuda_runtime.h", folder.name)
    options = [*build._KERNELS, *build._CHECKED, *_OPTIONS]
    language = options.index("-x")
    options[language : language + 4] = ["-x", "c++-header"]
    build._run([build._compiler(), *options, header, "-o", f"{header}.gch"])
    return folder


def _changed(path: str, source: str, folder: Path) -> build.Sources:
    """The project's sources with another text for one file, which others may include."""
    clean = _clean_sources()
    users = [kernel for kernel in clean.kernels if ROOT / path in (kernel, *_included(kernel))]
    # An include in quotes is first sought beside the file that it is in.
    for file in (*users, *ROOT.glob("csrc/*.h")):
        shutil.copy(file, folder)
    (folder / Path(path).name).write_text(source)
    kernels = (folder / kernel.name if kernel in users else kernel for kernel in clean.kernels)
    return replace(clean, kernels=tuple(kernels))


@cache
def _included(file: Path) -> frozenset[Path]:
    """Headers of csrc that a file includes, itself or by way of others."""
    names = re.findall(r'^#include "(\w+\.h)"', file.read_text(), re.MULTILINE)
    headers = {file.with_name(name) for name in names}
    return frozenset(headers.union(*map(_included, headers)))


def _families(path: str) -> list[str]:
    """Ops whose kernels `path` is part of."""
    if path.endswith(".py"):
        return [Path(path).parent.name]
    kernels = sorted(ROOT.glob("csrc/*.cu"))
    return [kernel.stem for kernel in kernels if ROOT / path in (kernel, *_included(kernel))]


def _verdict(path: str, error: Exception) -> str:
    from tests.gpu.emulator.faults import KernelFault

    if isinstance(error, KernelFault):
        return "hang" if error.kind == "endless" else error.kind
    if isinstance(error, AssertionError):
        return "value"
    # Launch code, unlike a kernel, is seen by no compiler that would report it.
    return "error" if path.endswith(".py") else STILLBORN
